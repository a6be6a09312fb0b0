"""Choosing one point per block: locally, by an exact knapsack, by global evolution, at random.

Notation
    b, p         block, point of its front
    loss(b, p)   normalised distillation loss;  cost(b, p)  in the chosen quantity
    s            tolerance: how much worse than the teacher-shaped path a block may be
    variance(b)  of the teacher's outputs, which losses are divided by
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nni_diffnas.api.blocks import BlockFamily
from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.errors import BudgetError
from nni_diffnas.api.family import sample_within
from nni_diffnas.api.space import Architecture

from .fronts import Front, Point, total

__all__ = ["choose_globally", "choose_locally", "choose_randomly", "knapsack", "knapsack_best"]


def choose_locally(fronts: Sequence[Front], tolerance: float, quantity: str) -> list[Point]:
    """For each block the cheapest point with loss <= s x loss of its teacher-shaped path; ties by loss."""
    chosen = []
    for front in fronts:
        good = [point for point in front.points if point.loss <= tolerance * front.teacher_loss]
        teacher = [point for point in front.points if point.path == front.block.teacher]
        chosen.append(min(good or teacher or front.points, key=lambda point: (point.price(quantity), point.loss)))
    return chosen


def knapsack(fronts: Sequence[Front], fixed: Cost, budget: Budget) -> list[Point]:
    """Minimise the sum of loss(b, p) over one point per block, with the network within ``budget``: exactly.

    Args:
        fronts: of all blocks.
        fixed: cost outside the blocks.
        budget: windows on the whole network.

    Raises:
        BudgetError: no combination of points is within budget; the message states the nearest.
    """
    return knapsack_best(fronts, fixed, budget, 1)[0]


def knapsack_best(
    fronts: Sequence[Front], fixed: Cost, budget: Budget, count: int, apart: int = 1
) -> list[list[Point]]:
    """The ``count`` least sums of loss(b, p) with the network within ``budget``, the least first; fewer where there are
    no more.

    A multiple-choice knapsack with one row per window, solved as an integer program by branch and bound (HiGHS), again
    for each of them, with a row that forbids what is too near to one that was found. The solver takes a network for
    within budget that misses it by up to a millionth: such a one is left out, by a row that forbids just this
    combination.

    Args:
        fronts: of all blocks.
        fixed: cost outside the blocks.
        budget: windows on the whole network.
        count: how many are wanted, at least 1.
        apart: blocks, at least, in which each differs from all before it.

    Raises:
        BudgetError: no combination of points is within budget; the message states the nearest.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    points = [(index, point) for index, front in enumerate(fronts) for point in front.points]
    one_each = np.array([[float(index == block) for index, _ in points] for block in range(len(fronts))])
    constraints = [LinearConstraint(one_each, 1.0, 1.0)]
    for quantity, window in budget.windows.items():
        outside = fixed.as_metrics()[quantity]
        scale = max(total([front.points[0] for front in fronts], fixed, quantity), 1e-12)
        row = np.array([[point.price(quantity) / scale for _, point in points]])
        low = -np.inf if window.min is None else (window.min - outside) / scale
        high = np.inf if window.max is None else (window.max - outside) / scale
        constraints.append(LinearConstraint(row, low, high))
    found: list[list[Point]] = []
    while len(found) < count:
        result = milp(
            np.array([point.loss for _, point in points]),
            constraints=constraints,
            integrality=np.ones(len(points)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
        if result.x is None and found:
            break
        if result.x is None:
            raise BudgetError(
                f"No choice over the blocks' fronts is within budget: they reach {_reach(fronts, fixed, budget)}."
            )
        taken = result.x > 0.5
        chosen = [point for (_, point), kept in zip(points, taken, strict=True) if kept]
        assert len(chosen) == len(fronts)
        admitted = budget.admits(sum((point.cost for point in chosen), fixed))
        if admitted:
            found.append(chosen)
        kept = len(fronts) - (min(apart, len(fronts)) if admitted else 1.0)
        constraints.append(LinearConstraint(taken[None].astype(float), -np.inf, kept))
    return found


def _reach(fronts: Sequence[Front], fixed: Cost, budget: Budget) -> str:
    reach = []
    for quantity, window in budget.windows.items():
        prices = [[point.price(quantity) for point in front.points] for front in fronts]
        least = fixed.as_metrics()[quantity] + sum(map(min, prices))
        most = fixed.as_metrics()[quantity] + sum(map(max, prices))
        reach.append(f"{quantity} from {least:,.6g} to {most:,.6g} (window {window})")
    return ", ".join(reach)


def choose_globally(
    fronts: Sequence[Front],
    fixed: Cost,
    budget: Budget,
    tolerance: float,
    quantity: str,
    seed: int,
    population: int = 64,
    generations: int = 60,
) -> list[Point]:
    """Evolve whole networks by the sum of their blocks' plain mean squared errors: the control for local choice.

    Without a budget: the cheapest network whose *sum* of errors is at most s x that of the teacher-shaped paths. With
    one: the least sum of errors within it. Tournament of four, uniform crossover, one mutated block a child, the better
    half survives. Errors are not normalised per block here: with normalised ones this is the knapsack, solved badly.
    """
    rng = np.random.default_rng(seed)
    limit = tolerance * sum(front.teacher_loss * front.variance for front in fronts)
    counts = [len(front.points) for front in fronts]

    def fitness(genes: tuple[int, ...]) -> tuple[float, float]:
        points = [front.points[gene] for front, gene in zip(fronts, genes, strict=True)]
        loss = sum(point.loss * front.variance for point, front in zip(points, fronts, strict=True))
        if budget.windows:
            costs = {name: total(points, fixed, name) for name in budget.windows}
            return sum(abs(window.distance(costs[name])) for name, window in budget.windows.items()), loss
        return max(loss - limit, 0.0), total(points, fixed, quantity)

    def drawn() -> tuple[int, ...]:
        return tuple(int(rng.integers(count)) for count in counts)

    living = sorted({drawn() for _ in range(population)}, key=fitness)
    for _ in range(generations):
        children = set()
        for _ in range(population):
            one, other = (min(int(rng.integers(len(living))) for _ in range(4)) for _ in range(2))
            mixed = [a if rng.random() < 0.5 else b for a, b in zip(living[one], living[other], strict=True)]
            changed = int(rng.integers(len(counts)))
            mixed[changed] = int(rng.integers(counts[changed]))
            children.add(tuple(mixed))
        living = sorted({*living, *children}, key=lambda genes: (fitness(genes), genes))[:population]
    return [front.points[gene] for front, gene in zip(fronts, living[0], strict=True)]


def choose_randomly(family: BlockFamily, target: float, quantity: str, budget: Budget, seed: int) -> Architecture:
    """A random network within budget that costs between 95 % and 100 % of ``target``: the control at equal cost.

    Raises:
        BudgetError: no such network was found.
    """
    low = (budget.windows.get(quantity) or Window()).min
    window = Window(0.95 * target if low is None else max(0.95 * target, low), target)
    return sample_within(family, Budget({**budget.windows, quantity: window}), np.random.default_rng(seed))
