"""A part of a family: of its choices, those that the experiment's NNI search space offers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.blocks import Block, BlockFamily
from ..api.cost import Cost
from ..api.errors import JobError
from ..api.family import Family
from ..api.family_view import FamilyView
from ..api.space import Architecture, Space

if TYPE_CHECKING:
    import torch

__all__ = ["NarrowedBlocks", "NarrowedFamily", "narrow_family"]


class NarrowedFamily(FamilyView):
    """A family of which only a part is searched: all but the space and the default are the family's own.

    Args:
        family: of the whole space.
        space: has the same labels, and some of their values.
    """

    def __init__(self, family: Family, space: Space) -> None:
        super().__init__(family)
        self._space = space

    @property
    def space(self) -> Space:
        """The part that is searched."""
        return self._space

    @property
    def default(self) -> Architecture:
        """The family's default, with the nearest value that is left where its own is not."""
        whole = self.family.space
        wanted = {label: whole.index_of(label, value) for label, value in whole.complete(self.family.default).items()}
        nearest = {
            label: min(values, key=lambda value: abs(whole.index_of(label, value) - wanted[label]))
            for label, values in self.space.choices.items()
        }
        return self.space.validate(nearest)


class NarrowedBlocks(NarrowedFamily, BlockFamily):
    """A family of blocks of which only a part is searched; teacher and blocks are the whole family's.

    Args:
        family: of the whole space.
        space: has the same labels, and some of their values.
    """

    family: BlockFamily

    @property
    def folder(self) -> Path:
        """The family's."""
        return self.family.folder

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The family's, with all their options."""
        return self.family.blocks

    @property
    def fixed(self) -> Cost:
        """The family's."""
        return self.family.fixed

    def teacher(self) -> torch.nn.Module:
        """The family's."""
        return self.family.teacher()

    def block_path(self, block: str) -> str:
        """The family's."""
        return self.family.block_path(block)

    def supernet(self, block: str, teacher: torch.nn.Module) -> torch.nn.Module:
        """The family's."""
        return self.family.supernet(block, teacher)

    @cached_property
    def teacher_cost(self) -> Cost:
        """The family's: the teacher may lie outside what is searched."""
        return self.family.teacher_cost

    def assemble(self, paths: Iterable[Sequence[int]]) -> Architecture:
        """The family's: the paths may lie outside what is searched."""
        return self.family.assemble(paths)


def narrow_family(family: Family, search_space: Mapping[str, Any]) -> Family:
    """Narrow a family to the values that the experiment's NNI search space offers.

    Labels that it lacks, since an earlier release wrote it, are narrowed to their stock values.

    Raises:
        SpaceError, JobError: another set of labels, or a value that the space does not have.
    """
    if not isinstance(search_space, Mapping):
        raise JobError(f"The config's search space must be an object of labels, not {repr(search_space)[:100]}.")
    space, offered = family.space, Space.from_nni(search_space)
    extra = set(offered.labels) - set(space.labels)
    missing = set(space.labels) - set(offered.labels) - set(space.stock)
    if extra or missing:
        raise JobError(
            f"The config's search space does not fit the job's (unknown: {str(sorted(extra) or 'none')[:300]}, "
            f"missing: {sorted(missing) or 'none'}): write it anew with 'nni-diffnas space JOB --output FILE'."
        )
    kept = {
        label: tuple(values[i] for i in sorted(space.index_of(label, value) for value in listed))
        for label, values in space.choices.items()
        for listed in [offered.choices[label] if label in offered.choices else (space.stock[label],)]
    }
    if kept == space.choices:
        return family
    conditions = {
        label: tuple((parent, tuple(v for v in values if v in kept[parent])) for parent, values in listed)
        for label, listed in space.conditions.items()
    }
    part = replace(space, choices=kept, conditions=conditions)
    return NarrowedBlocks(family, part) if isinstance(family, BlockFamily) else NarrowedFamily(family, part)
