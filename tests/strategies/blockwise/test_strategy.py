"""Choosing over fronts, and the order of trials, with made-up blocks: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nni_diffnas.api.blocks import Block, BlockFamily, Layer
from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.errors import BudgetError, StrategyError
from nni_diffnas.api.space import Architecture, Space, Value
from nni_diffnas.api.trial import UNRANKED, Objective, Trial, standing
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.narrowing import narrow_family
from nni_diffnas.searching.ranking import Outcome
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import BlockwiseLocalSearch
from nni_diffnas.strategies.blockwise import strategy as module
from nni_diffnas.strategies.blockwise.choices import choose_globally, choose_locally, knapsack, knapsack_best
from nni_diffnas.strategies.blockwise.fronts import Front, Point, total


class PaperFamily(BlockFamily):
    """Three blocks of one layer with four options each; the third option is the teacher's."""

    folder = Path("nowhere")
    fixed = Cost(100, 10)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            Block(
                name,
                (
                    Layer(
                        (f"{name}.width",),
                        tuple({f"{name}.width": value} for value in (1, 2, 3, 4)),
                        tuple(Cost(scale * value, 2 * value) for value in (1, 2, 3, 4)),
                        2,
                    ),
                ),
                Cost(5, 1),
            )
            for name, scale in (("down0", 10), ("middle", 20), ("up0", 30))
        )

    @property
    def space(self) -> Space:
        return Space({f"{block.name}.width": (1, 2, 3, 4) for block in self.blocks})

    @property
    def default(self) -> Architecture:
        return self.assemble(block.teacher for block in self.blocks)

    def build(self, architecture: Mapping[str, Value]) -> Any:
        raise NotImplementedError

    def teacher(self) -> Any:
        raise NotImplementedError

    def block_path(self, block: str) -> str:
        raise NotImplementedError

    def supernet(self, block: str, teacher: Any) -> Any:
        raise NotImplementedError


class ContraryFamily(PaperFamily):
    """Blocks that have many parameters where they have few MACs."""

    fixed = Cost(0, 1)
    COSTS = (Cost(100, 400), Cost(200, 100), Cost(300, 120), Cost(400, 500))

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            replace(block, layers=(replace(block.layers[0], costs=self.COSTS),), rest=Cost(0, 0))
            for block in super().blocks
        )


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


def searching(**options: Any) -> Search:
    family = PaperFamily()
    return Search(BlockwiseLocalSearch(**options), family.space, family, "paper")


def report(search: Search, trial: Trial) -> None:
    if trial.settings["task"] != "block":
        search.tell(trial.id, {"rfid": 1.0, **standing(trial.settings)})
        return
    block = next(b for b in PaperFamily().blocks if b.name == trial.settings["block"])
    rows = [[0, 0, -1.0, loss, option] for option, loss in enumerate((0.8, 0.5, 0.5, 0.1))]
    search.tell(trial.id, {UNRANKED: 1, "front": rows, "teacher_loss": 0.5, "block": len(block.layers)})


def test_blocks_come_first_then_students_then_the_end() -> None:
    search = searching(betas=["linear", "constant1"])
    assert (search.strategy.planned(20), search.strategy.planned(4)) == (6, 4)
    first = search.ask(3)
    assert [trial.settings.get("block", trial.settings["task"]) for trial in first] == ["teacher", "down0", "middle"]
    rest = search.ask(5)
    assert [trial.settings["block"] for trial in rest] == ["up0"]
    assert search.ask(2) == [], "waits for the blocks"
    for trial in (*first, *rest):
        report(search, trial)
    students = search.ask(5)
    assert [trial.settings for trial in students] == [
        {"task": "retrain", "beta": "linear"},
        {"task": "retrain", "beta": "constant1"},
    ]
    assert set(students[0].architecture.values()) == {2}, "the cheapest as good as the teacher-shaped path"
    for trial in students:
        report(search, trial)
    assert search.ask(1) == []
    assert search.pending == []
    assert len(search.trials) == search.strategy.planned(20)
    outcome = Outcome.of(search.trials, Objective())
    assert [trial.settings["task"] for trial in outcome.ranked] == ["retrain", "retrain"]
    assert outcome.default is not None


def test_a_budget_makes_it_a_knapsack_that_blocks_need_not_keep() -> None:
    budget = Budget({"macs": Window(max=200.0)})
    search = searching(budget=budget, score_teacher=False)
    blocks = search.ask(3)
    assert len(blocks) == 3, "the default network costs more than the budget, block trials are asked for all the same"
    for trial in blocks:
        report(search, trial)
    (student,) = search.ask(1)
    assert student.cost is not None
    assert student.cost.macs <= 200
    assert student.origin.kind == "auto"


def test_candidates_are_probed_in_rounds_and_the_nearest_to_the_teacher_is_retrained() -> None:
    search = searching(candidates=5, probe_share=0.02, budget=Budget({"macs": Window(max=260.0)}), score_teacher=False)
    strategy = search.strategy
    for trial in search.ask(3):
        report(search, trial)
    first = search.ask(9)
    assert [dict(trial.settings) for trial in first] == [{"task": "probe", "share": 0.02}] * 5
    assert search.ask(9) == [], "waits for the round"
    gaps = [0.5, 0.4, 0.1, 0.2, 0.3]
    for trial, gap in zip(first[:4], gaps, strict=False):
        search.tell(trial.id, {UNRANKED: 1, "gap": gap})
    again = first[4]
    for attempt in (1, 2):  # one that fails three times is the last
        search.tell_failed(again.id, "diverged")
        (again,) = search.ask(9)
        assert again.settings["attempt"] == attempt
    search.tell_failed(again.id, "diverged")
    second = search.ask(9)
    assert [trial.architecture for trial in second] == [first[2].architecture, first[3].architecture]
    assert {trial.settings["share"] for trial in second} == {0.04}
    for trial, gap in zip(second, [0.2, 0.1], strict=True):
        search.tell(trial.id, {UNRANKED: 1, "gap": gap})
    (student,) = search.ask(9)
    assert (student.settings["task"], student.architecture) == ("retrain", first[3].architecture)
    assert strategy.planned(99) == 3 + 5 + 2 + 1
    assert strategy.whole(11) == pytest.approx(4 + 5 * 0.02 + 2 * 0.04)
    assert "7 of these trials are short retrainings of 5 candidates, together 18%" in strategy.forecast(11)
    assert searching().strategy.forecast(4) == ""


def test_a_failed_block_is_tried_again_and_then_stays_the_teachers() -> None:
    search = searching(score_teacher=False)
    asked = []
    while trials := search.ask(1):
        asked.append(trials[0].settings.get("block", "student"))
        if trials[0].settings.get("block") == "middle":
            search.tell_failed(trials[0].id, "diverged")
        else:
            report(search, trials[0])
    assert asked == ["down0", "middle", "middle", "middle", "up0", "student"]
    assert search.trials[-1].architecture["middle.width"] == 3


def test_a_resumed_search_goes_on_without_repeating_blocks(tmp_path: Path) -> None:
    family = PaperFamily()
    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        search = Search(
            BlockwiseLocalSearch(memory=memory, score_teacher=False), family.space, family, "paper", experiment="e"
        )
        for trial in search.ask(2):
            report(search, trial)
        snapshot = search.snapshot()
    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        again = Search(
            BlockwiseLocalSearch(memory=memory, score_teacher=False), family.space, family, "paper", experiment="e"
        )
        again.restore(memory.trials(experiment="e"), snapshot)
        (third,) = again.ask(4)
        assert third.settings["block"] == "up0"
        report(again, third)
        (student,) = again.ask(4)
        assert set(student.architecture.values()) == {2}


def test_the_random_control_costs_as_much() -> None:
    search = searching(choice=["auto", "random"], score_teacher=False)
    for trial in search.ask(3):
        report(search, trial)
    chosen = search.strategy.chosen()
    costs = [PaperFamily().cost(architecture).macs for architecture in chosen.values()]
    assert 0.95 * costs[0] <= costs[-1] <= costs[0]


@pytest.mark.parametrize("seed", range(10))
def test_every_choice_keeps_a_budget_on_another_quantity(seed: int) -> None:
    """MACs and parameters run against each other: a random network of the same MACs may have any parameters."""
    family = ContraryFamily()
    search = BlockwiseLocalSearch(
        choice=["knapsack", "random", "global"], budget=Budget({"params": Window(max=361)}), seed=seed
    )
    search = Search(search, family.space, family, "paper")
    for trial in search.ask(4):
        rows = [[0, 0, -1.0, 1 / cost.macs, i] for i, cost in enumerate(family.COSTS)]
        score = {"rfid": 1.0} if trial.settings["task"] == "teacher" else {UNRANKED: 1, "front": rows}
        search.tell(trial.id, {**score, "teacher_loss": 0.001})
    students = search.ask(4)
    assert students
    assert all(search.view.budget.admits(family.cost(student.architecture)) for student in students)


def test_a_choice_that_finds_nothing_within_budget_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    search = searching(choice="global", budget=Budget({"macs": Window(max=300.0)}), score_teacher=False)
    for trial in search.ask(3):
        report(search, trial)
    monkeypatch.setattr(module, "choose_globally", lambda fronts, *rest: [front.points[-1] for front in fronts])
    with pytest.raises(BudgetError, match=r"'global' found no network within budget \(macs .*use 'knapsack'"):
        search.ask(1)


def test_a_budget_below_the_cheapest_network_says_the_cheapest() -> None:
    cheapest = PaperFamily().cheapest("macs")
    assert cheapest == 100 + 3 * 5 + 60
    with pytest.raises(BudgetError, match="has 175"):
        searching(budget=Budget({"macs": Window(max=150.0)}))
    with pytest.raises(BudgetError, match="latency: true"):
        searching(budget=Budget({"latency_ms": Window(max=1.0)}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choice": "best"}, "best"),
        ({"choice": "knapsack"}, "needs a budget"),
        ({"choice": "local", "budget": Budget({"macs": Window(max=1e9)})}, "knapsack"),
        ({"quantity": "watts"}, "watts"),
        ({"tolerance": -1.0}, "at least 0"),
        ({"candidates": 0}, "candidates is 0"),
        ({"probe_share": 0.5}, "at most 0.25"),
        ({"candidates": 6}, "no budget"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(StrategyError, match=said):
        BlockwiseLocalSearch(**options)


def test_a_space_without_blocks_is_refused() -> None:
    from nni_diffnas.search_spaces import UNetFamily

    family = UNetFamily("digits")
    search = Search(BlockwiseLocalSearch(), family.space, family)
    with pytest.raises(StrategyError, match="BlockwiseUNetSpace"):
        search.ask(1)


def test_nni_is_told_that_a_block_is_last() -> None:
    metrics = {UNRANKED: 1, "front": [[1.0, 2.0]]}
    assert Objective().default(metrics, maximize=False) > 1e6
    assert Objective().default(metrics, maximize=True) < -1e6
    assert Objective("is", "maximize").default(metrics, maximize=False) < -1e6
    assert Objective().score(metrics) is None


def test_a_narrowed_space_of_blocks_stays_one() -> None:
    offered = PaperFamily().space.to_nni()
    offered["middle.width"]["_value"] = [1, 2]
    family = narrow_family(PaperFamily(), offered)
    assert isinstance(family, BlockFamily)
    assert family.default == {"down0.width": 3, "middle.width": 2, "up0.width": 3}
    search = Search(BlockwiseLocalSearch(tolerance=0.0), family.space, family)
    while asked := search.ask(2):
        for trial in asked:
            assert trial.architecture["middle.width"] in (1, 2)
            front = [[0, 0, -1, 1.0 / (1 + option), option] for option in range(4)]
            measured = {"front": front, "teacher_loss": 0.1} if trial.settings["task"] == "block" else {"rfid": 1.0}
            search.tell(trial.id, {**measured, **standing(trial.settings)})
    assert search.trials[-1].settings["task"] == "retrain"
