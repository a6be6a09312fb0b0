"""`NASBench201Family`: cells of NAS-Bench-201 (arXiv 2001.00326) over NNI's hub space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value
from nni_diffnas.table import cell_gains

if TYPE_CHECKING:
    import torch

__all__ = ["NASBench201Family"]

NODES = 4
"""Tensors of a cell, the input included; each pair of them is joined by one operation."""

OPERATIONS = ("none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")
"""In the order of NNI's hub."""


def _labels() -> dict[str, tuple[int, int]]:
    """NNI's label of each operation to the tensors that it joins, in forward order."""
    return {f"cell/{a}_{b}": (a, b) for b in range(1, NODES) for a in range(b)}


def _edges() -> tuple[tuple[str, str], ...]:
    """An operation feeds those that start at the tensor where it ends."""
    joins = _labels()
    return tuple((x, y) for x, (_, end) in joins.items() for y, (start, _) in joins.items() if end == start)


class NASBench201Family(Family):
    """Image classifiers whose cell is searched: 6 operations, 5 choices each, 15,625 cells.

    Args:
        channels: of the stem.
        modules: cells in each of the three stacks.
        classes: of the data set.
        size: height and width of the images, in pixels.

    Raises:
        SpaceError: a number below 1.
    """

    def __init__(self, channels: int = 16, modules: int = 5, classes: int = 10, size: int = 32) -> None:
        for name, value in (("channels", channels), ("modules", modules), ("classes", classes), ("size", size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SpaceError(f"The space's {name} is {value!r}: give a whole number of at least 1.")
        self.channels, self.modules, self.classes, self.size = channels, modules, classes, size

    @cached_property
    def space(self) -> Space:
        """NNI's labels and values, with the data flow between the operations."""
        return Space(dict.fromkeys(_labels(), OPERATIONS), _edges())

    @property
    def default(self) -> Architecture:
        """The residual cell: two 3x3 convolutions in a row beside a shortcut; nothing else."""
        chosen: dict[str, Value] = dict.fromkeys(_labels(), "none")
        return self.space.validate(
            {**chosen, "cell/0_1": "conv_3x3", "cell/1_3": "conv_3x3", "cell/0_3": "skip_connect"}
        )

    @property
    def cuts(self) -> Mapping[str, tuple[Value, ...]]:
        """The operation ``none`` of every label."""
        return dict.fromkeys(_labels(), ("none",))

    @property
    def gains(self) -> Sequence[Mapping[str, Mapping[Value, float]]]:
        """What each operation hands on, in each of the three stacks."""
        return cell_gains(list(_labels()), [self.channels << stack for stack in range(3)])

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """NNI's network, frozen to the architecture. Imports NNI's NAS package.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        from nni.nas.hub.pytorch import NasBench201
        from nni.nas.space import model_context

        with model_context(dict(self.space.validate(architecture))):
            network: torch.nn.Module = NasBench201(self.channels, self.modules, self.classes)
        return network

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """MACs and parameters, summed over stem, cells, reductions and head."""
        chosen = self.space.validate(architecture)
        kernels = [{"conv_1x1": 1, "conv_3x3": 9}.get(str(value), 0) for value in chosen.values()]
        widths = [self.channels << stage for stage in range(3)]
        sides = [-(-self.size // (1 << stage)) for stage in range(3)]
        macs = 27 * self.channels * self.size**2
        params = 27 * self.channels + 2 * self.channels
        for stage, (width, side) in enumerate(zip(widths, sides, strict=True)):
            if stage:
                # The reduction block: 3x3 with stride 2, 3x3, and a 1x1 shortcut without normalisation.
                weights = (9 * width // 2 + 9 * width + width // 2) * width
                macs, params = macs + weights * side**2, params + weights + 4 * width
            cell = sum(kernel * width**2 for kernel in kernels)
            norms = sum(2 * width for kernel in kernels if kernel)
            macs, params = macs + self.modules * cell * side**2, params + self.modules * (cell + norms)
        last = widths[-1]
        return Cost(macs + last * self.classes, params + 2 * last + (last + 1) * self.classes)
