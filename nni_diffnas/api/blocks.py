"""`BlockFamily`: networks made of blocks that can be searched one by one against a teacher's.

The contract between a space whose networks come from a trained teacher, an evaluator that trains blocks, and a
strategy that chooses among them. A wing never imports another wing: they meet here.

Notation
    block    one part of the network with its own inputs and outputs (a level of a UNet, or its middle)
    layer    one searched part of a block; the block's layers run one after the other
    option   one way to build a layer; option indices, one per layer, make a path
    path     indices of options, one per layer: one subnet of the block's supernet
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .cost import Cost
from .family import Family
from .space import Architecture, Value

if TYPE_CHECKING:
    import torch

__all__ = ["Block", "BlockFamily", "Layer", "PathSupernet"]


@dataclass(frozen=True)
class Layer:
    """One searched layer.

    Args:
        labels: of the space that decide it.
        options: every assignment to the labels that builds a different layer, absent labels left out.
        costs: of each option.
        teacher: index of the teacher's own option.
    """

    labels: tuple[str, ...]
    options: tuple[Architecture, ...]
    costs: tuple[Cost, ...]
    teacher: int


@dataclass(frozen=True)
class Block:
    """One block: its searched layers in forward order, and what all its paths share.

    Args:
        name: e.g. ``down0``, ``middle``, ``up1``.
        layers: those that can be chosen.
        rest: cost of everything else in the block.
    """

    name: str
    layers: tuple[Layer, ...]
    rest: Cost

    @property
    def size(self) -> int:
        """Number of paths."""
        return math.prod(len(layer.options) for layer in self.layers)

    @property
    def teacher(self) -> tuple[int, ...]:
        """The path that has the teacher's shape."""
        return tuple(layer.teacher for layer in self.layers)

    def cost(self, path: Sequence[int]) -> Cost:
        """Cost of the block along a path."""
        return _sum([self.rest, *(layer.costs[option] for layer, option in zip(self.layers, path, strict=True))])

    def choices(self, path: Sequence[int]) -> Architecture:
        """The labels of a path with their values."""
        chosen: Architecture = {}
        for layer, option in zip(self.layers, path, strict=True):
            chosen |= layer.options[option]
        return chosen

    def path(self, architecture: Mapping[str, Value]) -> tuple[int, ...]:
        """Inverse of `choices`, for the block's part of a valid architecture."""
        return tuple(
            layer.options.index({label: architecture[label] for label in layer.labels if label in architecture})
            for layer in self.layers
        )


class PathSupernet(Protocol):
    """A module that is called like the teacher's block, and holds all its paths.

    ``remember`` makes each layer keep its last output and reuse it while the path up to it and the input stay the same:
    paths in lexicographic order then share their prefixes. Call ``forget`` before the input changes.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen path."""

    def choose(self, path: Sequence[int]) -> None:
        """Take the path from now on."""

    def remember(self) -> None:
        """Share prefixes from now on; without gradients only."""

    def forget(self) -> None:
        """Drop what was remembered, and share nothing."""

    def path_state(self, path: Sequence[int]) -> dict[str, torch.Tensor]:
        """Weights of one path under the names that the student's block has."""


class BlockFamily(Family):
    """Students of one teacher. Costs add up over the layers, so that the cheapest network and the best choice within
    a budget can be computed instead of searched.
    """

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The teacher's pipeline folder, in diffusers' format."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The searched blocks in forward order."""

    @property
    @abstractmethod
    def fixed(self) -> Cost:
        """Cost of everything outside the blocks."""

    @abstractmethod
    def teacher(self) -> torch.nn.Module:
        """The teacher's network with its weights, on the CPU, in evaluation mode."""

    @abstractmethod
    def block_path(self, block: str) -> str:
        """Name of the module that is the block, in teacher and students alike."""

    @abstractmethod
    def supernet(self, block: str, teacher: torch.nn.Module) -> torch.nn.Module:
        """The `PathSupernet` of a block: searched layers with fresh weights, the rest copied from ``teacher``."""

    @cached_property
    def teacher_cost(self) -> Cost:
        """Cost of the teacher's own architecture."""
        return self.cost(self.default)

    @cached_property
    def blocks_share(self) -> float:
        """The blocks' part of the teacher's multiply-accumulates, 0 to 1."""
        return 1.0 - self.fixed.macs / max(self.teacher_cost.macs, 1)

    def assemble(self, paths: Iterable[Sequence[int]]) -> Architecture:
        """The architecture with one path per block, in the order of `blocks`."""
        chosen: Architecture = {}
        for block, path in zip(self.blocks, paths, strict=True):
            chosen |= block.choices(path)
        return self.space.validate(chosen)

    def cheapest(self, quantity: str) -> float:
        """The least ``macs``, ``params`` or ``latency_ms`` that a network of this space can have."""
        parts = [self.fixed, *(block.rest for block in self.blocks)]
        fixed = sum(part.as_metrics()[quantity] for part in parts)
        layers = [layer for block in self.blocks for layer in block.layers]
        return fixed + sum(min(cost.as_metrics()[quantity] for cost in layer.costs) for layer in layers)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """Sum over the layers: exact for MACs and parameters, an estimate for latency."""
        chosen = self.space.validate(architecture)
        return _sum([self.fixed, *(block.cost(block.path(chosen)) for block in self.blocks)])


def _sum(costs: Sequence[Cost]) -> Cost:
    total = costs[0]
    for cost in costs[1:]:
        total = total + cost
    return total
