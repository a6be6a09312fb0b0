"""Names that a package offers without importing what stands behind them: a trial pays only for what it uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["absent", "lazy_names"]


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
