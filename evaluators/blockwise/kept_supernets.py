"""Trained supernets in the cache of the machine that trained them, where a retraining finds them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from nni_diffnas.api.blocks import Block
from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.api.space import Architecture
from nni_diffnas.cache import cache_folder, fingerprint
from nni_diffnas.files.whole_file import written_whole

from .settings import SupernetSettings
from .teacher_pipeline import TeacherPipeline, weights_hash

__all__ = ["KeptSupernets"]


class KeptSupernets:
    """Supernets of one teacher, trained by the same settings on the same images.

    Args:
        teacher: their teacher.
        settings: how they were trained.
        split: identity of the images.
    """

    def __init__(self, teacher: TeacherPipeline, settings: SupernetSettings, split: str) -> None:
        self.teacher, self._split = teacher, split
        self._how = settings.model_dump_json(exclude={"choosing_share", "first_images", "candidates", "front"})

    @cached_property
    def _weights(self) -> str:
        return weights_hash(self.teacher.family.folder)

    def _file(self, block: Block, seed: int) -> Path:
        options = [layer.options for layer in block.layers]
        key = fingerprint(self._weights, self._how, options, self._split)
        return cache_folder() / "blockwise" / f"{block.name}-{key}-{seed}.safetensors"

    def keep(self, supernet: nn.Module, block: Block, seed: int) -> None:
        """Leave the weights; whole or not at all."""
        from safetensors.torch import save_file

        file = self._file(block, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as draft:
            save_file({name: value.contiguous().cpu() for name, value in supernet.state_dict().items()}, draft)

    def find(self, block: Block, seed: int) -> Any:
        """The supernet, on the CPU, trained with this seed or else with another: a student that is trained again with a
        fresh seed takes those of the search. ``None`` where there is none.
        """
        from safetensors.torch import load_file

        file = self._file(block, seed)
        if not file.is_file():
            name = f"{file.stem.rpartition('-')[0]}-*.safetensors"
            file = min(file.parent.glob(name), default=file, key=lambda found: (len(found.name), found.name))
        if not file.is_file():
            return None
        supernet = fresh_supernet(self.teacher, block)
        supernet.load_state_dict(load_file(file))
        return supernet

    def fill(self, student: nn.Module, architecture: Architecture, seed: int, filled: set[str]) -> None:
        """Give a student's blocks the weights that it has not been given yet.

        Args:
            student: on the CPU.
            architecture: its own.
            seed: see `find`.
            filled: names of what it has; where that is nothing, every block needs its supernet.

        Raises:
            TrialFailure: a supernet that is needed is not there.
        """
        family = self.teacher.family
        for block in family.blocks:
            path = family.block_path(block.name)
            module = student.get_submodule(path)
            if fresh := [name for name in module.state_dict() if f"{path}.{name}" not in filled]:
                supernet = self.find(block, seed)
                if supernet is not None:
                    part = supernet.path_state(block.path(architecture))
                    module.load_state_dict({name: part[name] for name in fresh}, strict=False)
                elif not filled:
                    raise TrialFailure(
                        f"The supernet of block {block.name} was not trained on this machine with these settings: set "
                        f"evaluator.inherit to teacher, or run all trials on one machine."
                    )


def fresh_supernet(teacher: TeacherPipeline, block: Block) -> Any:
    """A block's supernet on the CPU, its searched layers fresh."""
    supernet: Any = teacher.family.supernet(block.name, teacher.network.cpu())
    teacher.network.to(teacher.device)
    return supernet
