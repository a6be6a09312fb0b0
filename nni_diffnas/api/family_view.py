"""`FamilyView`: a family that says what another one says, for those that change a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .cost import Budget, Cost
from .family import Family, Part
from .space import Architecture, Space, Value

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["FamilyView"]


class FamilyView(Family):
    """A family seen through another: override what is different.

    Args:
        family: that answers.
    """

    def __init__(self, family: Family) -> None:
        self.family = family

    @property
    def space(self) -> Space:
        """The family's."""
        return self.family.space

    @property
    def default(self) -> Architecture:
        """The family's."""
        return self.family.default

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the family's network."""
        return self.family.build(architecture)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """The family's."""
        return self.family.cost(architecture)

    def costs(self, space: Space, rows: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]]:
        """The family's."""
        return self.family.costs(space, rows)

    def scaled(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """The family's, with the space, default and costs of this view."""
        return self.family.scaled(budget, within or self)

    def recommended(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """The family's, with the space, default and costs of this view."""
        return self.family.recommended(budget, within or self)

    def describe(self, label: str) -> str:
        """The family's."""
        return self.family.describe(label)

    @property
    def cuts(self) -> Mapping[str, tuple[Value, ...]]:
        """The family's."""
        return self.family.cuts

    @property
    def gains(self) -> Sequence[Mapping[str, Mapping[Value, float]]]:
        """The family's gains."""
        return self.family.gains

    @property
    def pipeline(self) -> Path | None:
        """The family's."""
        return self.family.pipeline

    def parts(self, architecture: Mapping[str, Value]) -> Sequence[Part]:
        """The family's."""
        return self.family.parts(architecture)

    def save_diffusers(
        self, architecture: Mapping[str, Value], state: Mapping[str, torch.Tensor], folder: Path
    ) -> tuple[str, str]:
        """Write the family's network."""
        return self.family.save_diffusers(architecture, state, folder)
