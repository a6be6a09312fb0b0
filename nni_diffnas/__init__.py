"""nni-diffnas: search the denoising network of a diffusion model with Microsoft NNI."""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .process.lazy import lazy_names

if TYPE_CHECKING:
    from .notebook import search as search

__all__ = ["__version__", "search"]

__version__ = "0.2.0.dev0"

# NNI 3.0 knows torch's modules by name and complains about two classes that are newer than it.
for _name in ("Buffer", "LinearCrossEntropyOptions"):
    warnings.filterwarnings("ignore", message=rf".*{_name}'> is found to be not a nn\.Module", category=RuntimeWarning)


_MOVED = {
    f"nni_diffnas.{name}": f"nni_diffnas.{room}.{name}"
    for room, names in {
        "api": ("blocks", "cost", "errors", "evaluation", "family", "space"),
        "doors": ("in_process", "strategy"),
        "results": ("export", "model_card", "onnx_export", "verdict"),
    }.items()
    for name in names
} | {"nni_diffnas.outcome": "nni_diffnas.searching.ranking", "nni_diffnas.runner": "nni_diffnas.trial.run"}
"""Modules that scripts written for version 0.1 import, and where they are: such a script resumes its own experiment."""


class _Moved(MetaPathFinder, Loader):
    """Finds a moved module under the name that it had, with what it holds today."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        found = import_module(_MOVED[module.__name__])
        module.__dict__.update({name: value for name, value in vars(found).items() if not name.startswith("__")})


sys.meta_path.append(_Moved())

__getattr__ = lazy_names(__name__, {"search": ".notebook"})
