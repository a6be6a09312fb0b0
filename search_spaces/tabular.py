"""`TableFamily`: the search space of a table of measured architectures; nothing can be built from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value
from nni_diffnas.table import Table, load_table

if TYPE_CHECKING:
    import torch

__all__ = ["TableFamily"]


class TableFamily(Family):
    """The space of a table; its networks are names of rows, for the evaluator ``tabular``.

    Args:
        path: of the ``npz`` file, see `nni_diffnas.table.load_table`.
        dataset: which one, where the file holds several.

    Raises:
        DataError: the table cannot be used.
    """

    def __init__(self, path: str | Path, dataset: str | None = None) -> None:
        self.table = load_table(path, dataset)

    @classmethod
    def of(cls, table: Table) -> TableFamily:
        """The family of a table that has been read."""
        family = cls.__new__(cls)
        family.table = table
        return family

    @property
    def space(self) -> Space:
        """The labels of the table, with the values that occur in it."""
        return self.table.space

    @property
    def default(self) -> Architecture:
        """The first row: a table does not say what everybody copies."""
        return self.table.architecture(0)

    @property
    def cuts(self) -> Mapping[str, tuple[Value, ...]]:
        """What the table states."""
        return self.table.cuts

    @property
    def gains(self) -> Sequence[Mapping[str, Mapping[Value, float]]]:
        """What the table states."""
        return self.table.gains

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """An empty module: what is known of the network stands in the table.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        from torch import nn

        self.space.validate(architecture)
        return nn.Module()

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """What the table states; 0 MACs or parameters where it does not."""
        return self.table.cost(architecture)
