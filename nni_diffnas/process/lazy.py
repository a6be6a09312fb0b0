"""Names that a package offers without importing what stands behind them: a trial pays only for what it uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module, metadata
from typing import Any

__all__ = ["absent", "lazy_names", "listing_deferred"]


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module ``__getattr__`` that imports each name from its module (relative to ``package``) when used."""

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name], package), name)

    return get


@contextmanager
def absent(module: str) -> Iterator[None]:
    """Let imports within the block find ``module`` not installed, unless it is loaded already.

    For packages that import something heavy only if it is there and work without it: diffusers' blocks take 0.4 s
    instead of 1.6 s when ``torch._dynamo`` is left out, which they want only to mark classes for ``torch.compile``.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # documented: makes ``import`` raise ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[module]


class _Listing(Mapping[str, list[str]]):
    """Top-level packages to the distributions that hold them, listed when somebody asks."""

    def __init__(self, make: Callable[[], Mapping[str, list[str]]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Mapping[str, list[str]]:
        return self._make()

    def __getitem__(self, name: str) -> list[str]:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


@contextmanager
def listing_deferred() -> Iterator[None]:
    """Let imports within the block list all installed distributions only when they need the list.

    diffusers lists them when it is imported, for packages that few have: half a second where hundreds are installed.
    """
    at_once = metadata.packages_distributions
    metadata.packages_distributions = lambda: _Listing(at_once)
    try:
        yield
    finally:
        metadata.packages_distributions = at_once
