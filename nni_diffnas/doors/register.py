"""Registers every strategy plug-in as a tuner of NNI, under the plug-in's name."""

from __future__ import annotations

from typing import Any

from ..plugins import plugin_names

__all__ = ["register_tuners", "registered_tuners"]

_CLASS_NAME = "nni_diffnas.tuner.DiffNASTuner"


def registered_tuners() -> list[str]:
    """Names under which NNI knows our tuner in this environment."""
    from nni.tools.package_utils import get_all_algo_meta

    metas: list[Any] = get_all_algo_meta()
    return sorted(meta.name for meta in metas if meta.class_name == _CLASS_NAME)


def register_tuners() -> list[str]:
    """Register all strategies (again), forget those that are gone, and return their names.

    NNI keeps the list in the environment, or in the folder that ``NNI_CONFIG_DIR`` names.
    """
    import nni
    from nni.tools.package_utils import AlgoMeta, register_algo_meta, unregister_algo_meta

    names = plugin_names("strategies")
    for gone in set(registered_tuners()) - set(names):
        unregister_algo_meta(gone)
    for name in names:
        meta = {
            "builtinName": name,
            "className": _CLASS_NAME,
            "classArgs": {"strategy": name},
            "nniVersion": nni.__version__,
        }
        register_algo_meta(AlgoMeta.load(meta, "tuner"))
    return names
