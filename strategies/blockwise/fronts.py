"""What the block trials brought home: for each block, paths with their cost and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nni_diffnas.api.blocks import Block
from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Space

__all__ = ["Front", "Point", "read_front", "teacher_only"]


@dataclass(frozen=True)
class Point:
    """One path of a block: what the block costs along it, and its normalised loss."""

    path: tuple[int, ...]
    cost: Cost
    loss: float

    def price(self, quantity: str) -> float:
        """``macs``, ``params`` or ``latency_ms``.

        Raises:
            StrategyError: the latency was not measured.
        """
        value = self.cost.as_metrics().get(quantity)
        if value is None:
            raise StrategyError(f"The fronts know no {quantity}: set latency: true in the job's space.")
        return value


@dataclass(frozen=True)
class Front:
    """Points of one block, and the loss of its teacher-shaped path in the same supernet.

    Losses are in units of ``variance``, that of the teacher's outputs: times it, they are plain mean squared errors.
    """

    block: Block
    points: tuple[Point, ...]
    teacher_loss: float
    variance: float = 1.0


def read_front(block: Block, metrics: Mapping[str, Any], space: Space) -> Front:
    """Read a block trial's ``front``: rows of MACs, parameters, milliseconds, loss and option indices.

    Costs are the family's own: a latency that another machine measured would not compare.

    Args:
        block: whose trial it was.
        metrics: of the trial.
        space: what is searched; points outside it are left out.

    Raises:
        StrategyError: the trial reported no front of this block.
    """
    rows, loss = metrics.get("front"), metrics.get("teacher_loss")
    if not isinstance(rows, list) or loss is None:
        raise StrategyError(f"The trial of block {block.name} reported no front: use the evaluator 'blockwise'.")
    points = []
    for row in rows:
        path = tuple(int(option) for option in row[4:])
        if len(path) != len(block.layers):
            raise StrategyError(f"The front of block {block.name} is of another space: do not mix experiments.")
        if all(value in space.choices[label] for label, value in block.choices(path).items()):
            points.append(Point(path, block.cost(path), float(row[3])))
    variance = float(metrics.get("output_variance", 1.0))
    return Front(block, tuple(points) or teacher_only(block).points, float(loss), variance)


def teacher_only(block: Block) -> Front:
    """The front of a block that could not be searched: it stays the teacher's."""
    return Front(block, (Point(block.teacher, block.cost(block.teacher), 0.0),), 0.0)


def total(points: Sequence[Point], fixed: Cost, quantity: str) -> float:
    """Cost of the whole network."""
    return fixed.as_metrics()[quantity] + sum(point.price(quantity) for point in points)
