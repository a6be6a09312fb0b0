"""Registers every strategy plug-in as a tuner of NNI, under the plug-in's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..api.errors import JobError
from ..plugins import plugin_names

__all__ = ["config_folder", "register_tuners", "registered_tuners"]

_CLASS_NAME = "nni_diffnas.tuner.DiffNASTuner"

_LIST = "registered_algorithms.yml"
"""Where NNI keeps what is registered."""


def config_folder() -> Path:
    """Folder in which NNI keeps its configuration; made where it is not there.

    Raises:
        JobError: it cannot be made, or this user has no home to keep it in.
    """
    from nni.runtime.config import get_config_directory

    try:
        folder: Path = get_config_directory()
    except (OSError, RuntimeError) as error:
        raise _unkept(error) from error
    return folder


def _unkept(error: Exception) -> JobError:
    return JobError(
        f"NNI's configuration cannot be kept where NNI looks for it ({error}): set NNI_CONFIG_DIR to a folder that you "
        f"may write to, and run 'nni-diffnas register'."
    )


def registered_tuners() -> list[str]:
    """Names under which NNI knows our tuner in this environment.

    Raises:
        JobError: NNI's list is damaged, or cannot be kept.
    """
    return sorted(_registered())


def _registered() -> dict[str, Any]:
    from nni.tools.package_utils import get_all_algo_meta

    file = config_folder() / _LIST
    try:
        metas: list[Any] = get_all_algo_meta()
    except OSError as error:
        raise _unkept(error) from error
    except Exception as error:  # of YAML, or of NNI, which takes for granted what the file holds
        raise JobError(
            f"NNI's list of tuners, {str(file)!r}, is damaged: delete it, and run 'nni-diffnas register'."
        ) from error
    return {meta.name: meta for meta in metas if meta.class_name == _CLASS_NAME}


def register_tuners() -> list[str]:
    """Register all strategies, forget those that are gone, and return their names.

    NNI keeps the list in the environment, or in the folder that ``NNI_CONFIG_DIR`` names; it is left alone where it
    holds what it should, since NNI writes it in place, for whoever reads it meanwhile.

    Raises:
        JobError: NNI's list is damaged, or cannot be kept.
    """
    import nni
    from filelock import FileLock
    from nni.tools.package_utils import AlgoMeta, register_algo_meta, unregister_algo_meta

    names = plugin_names("strategies")
    try:
        with FileLock(config_folder() / f"{_LIST}.lock", mode=0o666):
            known = _registered()
            for gone in known.keys() - set(names):
                unregister_algo_meta(gone)
            for name in names:
                meta = {
                    "builtinName": name,
                    "className": _CLASS_NAME,
                    "classArgs": {"strategy": name},
                    "nniVersion": nni.__version__,
                }
                wanted = AlgoMeta.load(meta, "tuner")
                if known.get(name) != wanted:
                    register_algo_meta(wanted)
    except OSError as error:
        raise _unkept(error) from error
    return names
