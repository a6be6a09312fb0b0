"""The versions that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version", "versions"]

_PACKAGES = ("nni-diffnas", "nni", "torch", "diffusers", "torch-fidelity", "botorch", "numpy")


def installed_version(package: str) -> str | None:
    """Version of an installed package, read from its metadata: nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Python and the packages that scores depend on, those that are installed."""
    found = {package: installed_version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **{name: value for name, value in found.items() if value}}
