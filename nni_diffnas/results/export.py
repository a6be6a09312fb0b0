"""The winner as a diffusers pipeline folder, which ``DDPMPipeline.from_pretrained`` loads without nni-diffnas."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.errors import JobError
from ..api.family import Family
from ..api.space import Value
from ..files.pipeline_parts import name_plainly, read_index, refuse_links
from .model_card import CARD

__all__ = ["export_pipeline", "read_weights"]

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"
"""What diffusers calls the weights of a model."""

_MARK = "_exported_by"
_MARKED = {_MARK: "nni-diffnas"}
"""In the ``model_index.json`` of an exported pipeline: what may be overwritten."""


def read_weights(path: Path) -> dict[str, Any]:
    """Read a safetensors file of tensors by name.

    Raises:
        JobError: there is no such file, or it is not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise JobError(f"There are no weights at {path}: give the safetensors file that a trial has written.")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise JobError(
            f"The weights {path} are not a readable safetensors file ({error}): train them again."
        ) from error


def export_pipeline(
    family: Family,
    architecture: Mapping[str, Value],
    weights: Path,
    scheduler_config: Mapping[str, Any],
    folder: Path,
) -> Path:
    """Write a pipeline folder: ``model_index.json``, ``unet/`` and ``scheduler/``.

    ``DDPMPipeline.from_pretrained(folder)`` loads it where the family expresses the network in stock diffusers; else
    ``unet/`` holds one self-contained Python file and ``trust_remote_code=True`` is needed. A network conditioned on
    classes is always of the second kind: ``DDPMPipeline`` passes no labels, so the exported network takes the classes
    in turn over the batch when it is given none.

    A family with `Family.pipeline` gets a copy of that pipeline, scheduler included, with its network as the UNet.

    Args:
        family: of the architecture.
        architecture: of the network.
        weights: safetensors file with the network's state.
        scheduler_config: saved configuration of a diffusers scheduler; ``_class_name`` names it.
        folder: where to write; made if it is not there. Must not hold anything but an earlier pipeline.

    Returns:
        The folder.

    Raises:
        JobError: weights that are missing, damaged or of another architecture, a scheduler configuration without
            class, a folder that holds something else, a family whose networks cannot be exported.
        SpaceError: the architecture is not of the family's space.
    """
    import diffusers

    if family.pipeline is not None:
        return _export_into_parts(family, architecture, weights, family.pipeline, folder)
    scheduler = scheduler_config.get("_class_name")
    if not isinstance(scheduler, str) or not hasattr(diffusers, scheduler):
        raise JobError(
            f"The scheduler configuration names the class {scheduler!r}: give the saved configuration of a scheduler "
            f"of diffusers {diffusers.__version__}."
        )
    _refuse_foreign(folder)
    state = _matching(family, architecture, weights)
    if (folder / "unet").is_dir():
        shutil.rmtree(folder / "unet")  # of an earlier export, whose code file may have another name
    (folder / "unet").mkdir(parents=True)
    entry = family.save_diffusers(architecture, state, folder / "unet")
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler_config)
    index = {
        **_MARKED,
        "_class_name": "DDPMPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", scheduler],
        "unet": list(entry),
    }
    _write_json(folder / "model_index.json", index)
    return folder


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder with anything that is no earlier export: it would be overwritten."""
    if folder.exists() and not _exported(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise JobError(f"{folder} holds something that is not an exported pipeline: give an empty or a new folder.")


def _exported(folder: Path) -> bool:
    """Whether a pipeline was exported into a folder; version 0.1 left no mark, and its name in the model card only."""
    if not (folder / "model_index.json").is_file():
        return False
    card = folder / CARD
    return _MARK in read_index(folder) or (card.is_file() and "nni-diffnas" in card.read_text("utf-8", "replace"))


def _export_into_parts(
    family: Family, architecture: Mapping[str, Value], weights: Path, parts: Path, folder: Path
) -> Path:
    """Write a copy of the pipeline in ``parts`` in which the network has the UNet's place."""
    if folder.resolve() == parts.resolve():
        raise JobError(f"{folder} holds the pipeline that the network comes from: give another folder.")
    _refuse_foreign(folder)
    refuse_links(parts)
    state = _matching(family, architecture, weights)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(parts, folder, ignore=lambda at, names: ["unet"] if Path(at) == parts else [])
    name_plainly(folder)
    (folder / "unet").mkdir()
    index = {**read_index(folder), **_MARKED}
    index["unet"] = list(family.save_diffusers(architecture, state, folder / "unet"))
    _write_json(folder / "model_index.json", index)
    return folder


def _matching(family: Family, architecture: Mapping[str, Value], weights: Path) -> dict[str, Any]:
    """The state in the file, if it fits the network of the architecture."""
    import torch

    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in family.build(architecture).state_dict().items()}
    state = read_weights(weights)
    found = {name: tuple(value.shape) for name, value in state.items()}
    if found != wanted:
        odd = next(name for name in sorted(wanted | found) if found.get(name) != wanted.get(name))
        raise JobError(
            f"The weights {weights} are of another architecture: {odd} is {found.get(odd, 'missing')} there and "
            f"{wanted.get(odd, 'missing')} in the network; give the architecture that they were trained with."
        )
    return state


def _write_json(path: Path, body: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(body), indent=2) + "\n", encoding="utf-8")
