"""Choosing over fronts, with made-up blocks: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from paper_blocks import PaperFamily

from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.errors import BudgetError
from nni_diffnas.strategies.blockwise.choices import choose_globally, choose_locally, knapsack, knapsack_best
from nni_diffnas.strategies.blockwise.fronts import Front, Point, total


def random_fronts(rng: np.random.Generator, blocks: int, points: int) -> list[Front]:
    family = PaperFamily()
    fronts = []
    for index in range(blocks):
        made = tuple(
            Point((i,), Cost(int(rng.integers(1, 1000)), int(rng.integers(1, 1000))), float(rng.random()))
            for i in range(points)
        )
        fronts.append(Front(family.blocks[index % 3], made, 0.5))
    return fronts


@pytest.mark.parametrize("seed", range(12))
def test_the_knapsack_is_the_optimum_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fronts = random_fronts(rng, blocks=5, points=6)
    fixed = Cost(50, 20)
    windows = {"macs": Window(max=float(rng.integers(900, 2600)))}
    if seed % 2:
        windows["params"] = Window(max=float(rng.integers(1200, 2600)))
    budget = Budget(windows)

    def admitted(points: tuple[Point, ...]) -> bool:
        return all(window.distance(total(points, fixed, name)) == 0 for name, window in windows.items())

    feasible = [points for points in product(*(front.points for front in fronts)) if admitted(points)]
    if not feasible:
        with pytest.raises(BudgetError, match="they reach"):
            knapsack(fronts, fixed, budget)
        return
    best = min(sum(point.loss for point in points) for points in feasible)
    chosen = knapsack(fronts, fixed, budget)
    assert admitted(tuple(chosen))
    assert sum(point.loss for point in chosen) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_the_knapsack_keeps_a_budget_that_is_missed_by_less_than_the_solver_sees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fronts = []
    for front in random_fronts(rng, blocks=6, points=6):
        costs = [int(macs) for macs in rng.integers(10**7, 10**9, len(front.points))]
        made = tuple(Point((i,), Cost(macs, 1), 1e8 / macs + 0.1 * rng.random()) for i, macs in enumerate(costs))
        fronts.append(Front(front.block, made, 0.5))
    every = list(product(*(front.points for front in fronts)))
    limit = 3e9
    for _ in range(4):
        budget = Budget({"macs": Window(max=limit)})
        chosen = knapsack(fronts, Cost(0, 0), budget)
        assert budget.admits(sum((point.cost for point in chosen), Cost(0, 0)))
        best = min(sum(p.loss for p in points) for points in every if sum(p.cost.macs for p in points) <= limit)
        assert sum(point.loss for point in chosen) == pytest.approx(best, abs=1e-9)
        limit = total(chosen, Cost(0, 0), "macs") - 200  # missed by this network, by a ten-millionth


@pytest.mark.parametrize("apart", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_choices_are_those_of_brute_force(seed: int, apart: int) -> None:
    fronts = random_fronts(np.random.default_rng(seed), blocks=5, points=4)
    fixed, budget = Cost(50, 20), Budget({"macs": Window(max=2600.0)})
    every = [p for p in product(*(f.points for f in fronts)) if total(p, fixed, "macs") <= 2600]
    wanted: list[tuple[Point, ...]] = []
    for points in sorted(every, key=lambda points: sum(point.loss for point in points)):
        if all(sum(a is not b for a, b in zip(points, other, strict=True)) >= apart for other in wanted):
            wanted.append(points)
    assert [tuple(points) for points in knapsack_best(fronts, fixed, budget, 6, apart)] == wanted[:6]


def test_there_are_no_more_choices_than_there_are() -> None:
    fronts = random_fronts(np.random.default_rng(0), blocks=2, points=2)
    assert len(knapsack_best(fronts, Cost(0, 0), Budget(), 9)) == 4
    assert len(knapsack_best(fronts, Cost(0, 0), Budget(), 9, apart=2)) == 2


def test_local_choice_is_the_cheapest_that_is_good_enough() -> None:
    block = PaperFamily().blocks[0]
    points = (
        Point((0,), Cost(1, 1), 0.9),
        Point((1,), Cost(2, 2), 0.45),
        Point((3,), Cost(2, 2), 0.4),
        Point((2,), Cost(3, 3), 0.5),
    )
    front = Front(block, points, 0.5)
    assert choose_locally([front], 1.0, "macs")[0].path == (3,), "a tie in cost goes to the lower loss"
    assert choose_locally([front], 2.0, "macs")[0].path == (0,)
    assert choose_locally([front], 0.0, "macs")[0].path == block.teacher, "nothing is good enough: stay the teacher's"


def test_global_choice_bounds_the_sum_of_losses() -> None:
    fronts = random_fronts(np.random.default_rng(3), blocks=3, points=5)
    chosen = choose_globally(fronts, Cost(0, 0), Budget(), 1.0, "macs", seed=0)
    limit = sum(front.teacher_loss for front in fronts)
    feasible = [
        sum(p.cost.macs for p in points)
        for points in product(*(front.points for front in fronts))
        if sum(p.loss for p in points) <= limit
    ]
    assert sum(point.cost.macs for point in chosen) == min(feasible)


@pytest.mark.parametrize("seed", range(5))
def test_on_normalised_losses_evolution_finds_the_knapsack_and_on_plain_errors_it_does_not_look_for_it(
    seed: int,
) -> None:
    fronts = random_fronts(np.random.default_rng(seed), blocks=4, points=6)
    fixed, budget = Cost(0, 0), Budget({"macs": Window(max=1600.0)})
    exact = knapsack(fronts, fixed, budget)
    assert choose_globally(fronts, fixed, budget, 1.0, "macs", seed=0) == exact
    variances = (0.01, 30.0, 0.2, 100.0)
    scaled = [replace(front, variance=variance) for front, variance in zip(fronts, variances, strict=True)]
    assert knapsack(scaled, fixed, budget) == exact, "normalised losses do not know the scale of the features"
    plain = choose_globally(scaled, fixed, budget, 1.0, "macs", seed=0)

    def error(points: Sequence[Point]) -> float:
        return sum(point.loss * variance for point, variance in zip(points, variances, strict=True))

    feasible = [p for p in product(*(f.points for f in fronts)) if total(p, fixed, "macs") <= 1600]
    assert error(plain) == pytest.approx(min(map(error, feasible)))
