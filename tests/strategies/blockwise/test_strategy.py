"""The order of block-wise trials, with made-up blocks: nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paper_blocks import ContraryFamily, PaperFamily

from nni_diffnas.api.blocks import BlockFamily
from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import BudgetError, StrategyError
from nni_diffnas.api.trial import UNRANKED, Objective, Trial, standing
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.narrowing import narrow_family
from nni_diffnas.searching.ranking import Outcome
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import BlockwiseLocalSearch
from nni_diffnas.strategies.blockwise import strategy as module


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
