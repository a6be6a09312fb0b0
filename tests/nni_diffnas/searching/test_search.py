"""One running search: asking, telling, settling, ending."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from memories import assert_nobody_writes
from small_search import ORIGIN, SPACE, Fixed

from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.ending import Ending
from nni_diffnas.api.errors import BudgetError, StrategyError
from nni_diffnas.api.space import Architecture, Space, Value, digest
from nni_diffnas.api.trial import REFERENCE, Objective, Suggestion, Trial, standing
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.ranking import Outcome
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import RandomSearch, RegularizedEvolution
from nni_diffnas.testing import SmallFamily
from nni_diffnas.trial.parameters import parameters_of, split_parameters


@pytest.fixture
def family(plugin_site: Path) -> Any:
    from diffnas_denoiser_mlp.space import MLPFamily

    return MLPFamily()


WARM = Trial("old", "e", {"a": 1, "b": False}, ORIGIN).failed("broken")


def test_default_network_comes_first_and_once(family: Any) -> None:
    search = Search(RandomSearch(seed=3), family.space, family)
    asked = [trial for _ in range(3) for trial in search.ask(2)]
    assert [trial.origin.kind for trial in asked] == ["default", "random", "random", "random", "random", "random"][
        : len(asked)
    ]
    assert asked[0].architecture == family.default
    assert asked[0].cost == family.cost(family.default)


@pytest.mark.parametrize("kind", [RandomSearch, RegularizedEvolution])
def test_default_outside_the_budget_is_a_reference_that_nobody_ranks(
    kind: type[AskTellStrategy], family: Any, tmp_path: Path
) -> None:
    least = family.cost(family.default).params + 1
    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        search = Search(kind(budget=Budget({"params": Window(min=least)}), memory=memory), family.space, family)
        reference, other = search.ask(2)
        assert (reference.origin.kind, reference.architecture) == (REFERENCE, family.default)
        assert split_parameters(parameters_of(reference, family.space))[1] == reference.settings
        search.tell(reference.id, {"rfid": 1.0, **standing(reference.settings)})
        search.tell(other.id, {"rfid": 2.0, **standing(other.settings)})
        outcome = Outcome.of(search.trials, Objective())
        assert [trial.id for trial in outcome.ranked] == [other.id]
        assert outcome.default is not None
        assert outcome.default.id == reference.id
        assert Outcome.of(memory.trials(), Objective()).ranked == outcome.ranked
        assert reference.id not in search.strategy.state().get("population", [])
        assert all(trial.origin.kind != REFERENCE for trial in search.ask(3))


def test_everything_asked_is_within_budget_and_new(family: Any) -> None:
    search = Search(RandomSearch(seed=0, budget=Budget({"params": Window(max=600)})), family.space, family)
    asked = [trial for _ in range(10) for trial in search.ask(2)]
    assert len({family.space.key_of(trial.architecture) for trial in asked}) == len(asked)
    assert all(trial.cost is not None and trial.cost.params <= 600 for trial in asked)


def test_budget_that_nobody_meets_is_refused_when_bound(family: Any) -> None:
    strategy = RandomSearch(budget=Budget({"params": Window(max=10)}))
    with pytest.raises(BudgetError, match="nearest"):
        Search(strategy, family.space, family)


def test_exhausted_space_ends_the_search() -> None:
    search = Search(RandomSearch(), SPACE)
    assert len(search.ask(100)) == SPACE.size
    assert search.ask(1) == []


def test_duplicates_are_refused_and_a_stuck_strategy_is_named() -> None:
    same = Suggestion({"a": 1, "b": True}, "fixed")
    search = Search(Fixed(*[same] * 50), SPACE)
    assert len(search.ask(1)) == 1
    with pytest.raises(StrategyError, match="already trained or pending"):
        search.ask(1)


def test_settings_make_a_different_trial() -> None:
    strategy = Fixed(
        Suggestion({"a": 1, "b": True}, "x", settings={"block": "down0"}),
        Suggestion({"a": 1, "b": True}, "x", settings={"block": "down1"}),
    )
    search = Search(strategy, SPACE)
    first, second = search.ask(2)
    assert first.settings != second.settings
    architecture, settings = split_parameters(parameters_of(second, SPACE))
    assert (architecture, settings) == ({"a": 1, "b": True}, {"block": "down1"})


def test_each_ending_is_told_once_with_all_metrics() -> None:
    search = Search(Fixed(*(Suggestion({"a": a, "b": True}, "x") for a in (1, 2))), SPACE)
    first, second = search.ask(2)
    search.tell(first.id, {"rfid": 2.0, "extra": 1.0})
    search.tell(first.id, {"rfid": 9.0})
    search.tell_failed(second.id, "out of memory")
    assert [(t.status, dict(t.metrics), t.reason) for t in search.strategy.seen] == [
        ("succeeded", {"rfid": 2.0, "extra": 1.0}, ""),
        ("failed", {}, "out of memory"),
    ]
    assert search.pending == []


@pytest.mark.parametrize("make", [RandomSearch, lambda **o: RegularizedEvolution(population=4, sample=2, **o)])
def test_same_seed_and_events_give_the_same_suggestions_also_after_a_resume(
    make: Any, family: Any, tmp_path: Path
) -> None:
    def score(trial: Trial) -> dict[str, float]:
        assert trial.cost is not None
        return {"rfid": float(trial.cost.macs % 97)}

    def run(search: Search, count: int) -> list[Any]:
        listed = []
        for _ in range(count):
            for trial in search.ask(1):
                listed.append(trial.architecture)
                search.tell(trial.id, score(trial))
        return listed

    straight = Search(make(seed=5), family.space, family)
    expected = run(straight, 16)

    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        first = Search(make(seed=5, memory=memory), family.space, family)
        begun = run(first, 9)
        memory.save_state(first.experiment, "strategy", first.snapshot())
        second = Search(make(seed=999, memory=memory), family.space, family, experiment=first.experiment)
        snapshot = memory.load_state(first.experiment, "strategy")
        assert isinstance(snapshot, dict)
        second.restore(memory.trials(experiment=first.experiment), snapshot)
        assert begun + run(second, 7) == expected


def test_evolution_beats_random_where_structure_helps(family: Any) -> None:
    """On a separable score, 60 trials of evolution find better networks than 60 random ones, seed by seed."""

    def best(strategy: AskTellStrategy) -> float:
        search = Search(strategy, space)
        for _ in range(60):
            for trial in search.ask(1):
                search.tell(trial.id, {"rfid": float(sum(int(v) for v in trial.architecture.values()))})
        return min(trial.metrics["rfid"] for trial in search.trials)

    space = Space({f"l{i}": tuple(range(8)) for i in range(8)})
    evolved = [best(RegularizedEvolution(population=10, sample=5, seed=seed)) for seed in range(5)]
    drawn = [best(RandomSearch(seed=seed)) for seed in range(5)]
    assert sum(evolved) < sum(drawn) - 5


class Lone(SmallFamily):
    """Of 65,536 networks only the default is cheap, and no change says which way that lies."""

    @property
    def space(self) -> Space:
        return Space({f"label{i}": (1, 2, 3, 4) for i in range(8)})

    @property
    def default(self) -> Architecture:
        return dict.fromkeys(self.space.labels, 1)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        chosen = self.space.validate(architecture)
        return Cost(1, 1) if chosen == self.default else Cost(1000 + int(digest(chosen)[:4], 16), 1)


def test_a_search_whose_budget_is_used_up_draws_nothing_and_does_not_fail() -> None:
    family = Lone()
    search = Search(RandomSearch(budget=Budget({"macs": Window(max=10)})), family.space, family)
    assert [trial.architecture for trial in search.ask(4)] == [family.default]
    assert search.view.draw() is None


def test_what_has_ended_is_told_in_the_order_in_which_it_did() -> None:
    search = Search(Fixed(*(Suggestion({"a": a, "b": True}, "x") for a in (1, 2, 3)), warm_start=[WARM]), SPACE)
    first, second, third = search.ask(3)
    search.tell_failed(third.id, Ending.CRASHED)
    search.tell_failed(first.id, "broken")
    search.tell(third.id, {"rfid": 1.0})
    assert [(t.id, t.status) for t in search.ended] == [(first.id, "failed"), (third.id, "succeeded")]
    assert second in search.pending


def test_nobody_waits_for_the_memory_while_something_is_suggested(tmp_path: Path) -> None:
    class Slow(RandomSearch):
        def suggest(self, count: int) -> Sequence[Suggestion]:
            assert_nobody_writes(tmp_path / "memory.sqlite")
            return super().suggest(count)

    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        search = Search(Slow(memory=memory, train_first="none"), SPACE)
        asked = search.ask(2)
        assert [trial.id for trial in memory.trials()] == [trial.id for trial in asked]
        state = memory.load_state(search.experiment, "strategy")
        assert isinstance(state, dict)
        assert state["rng"] == search.view.rng.bit_generator.state, "what was suggested and what follows go together"


@dataclass
class Records:
    """What a door knows of the processes."""

    reported: dict[str, tuple[str, Any]] = field(default_factory=dict)
    over: dict[str, str | Ending] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)

    def results(self) -> dict[str, tuple[str, Any]]:
        return self.reported

    def ended(self) -> Mapping[str, str | Ending]:
        return self.over

    def to_run_again(self) -> set[str]:
        return self.again


def test_after_a_resume_each_trial_is_told_run_again_or_asked_for_first() -> None:
    search = Search(Fixed(*(Suggestion({"a": a, "b": b}, "x") for a in (1, 2, 3) for b in (True, False))), SPACE)
    reported, failed, runs, lost = search.ask(4)
    jobs = Records({reported.id: ("j", {"rfid": 1.0, "default": 9.0})}, {failed.id: "broken"}, {runs.id})
    assert search.catch_up(jobs, silent=False) == {runs.id}
    assert [trial.status for trial in search.trials] == ["succeeded", "failed", "pending", "pending"]
    assert search.trials[0].metrics == {"rfid": 1.0}
    assert (search.running, search.left(5), search.ended) == (1, 2, [])
    again, fresh = search.ask(2)
    assert again == lost
    assert fresh.architecture == {"a": 3, "b": True}


def test_a_silent_ending_is_a_failure_only_once_nothing_can_come() -> None:
    search = Search(Fixed(Suggestion({"a": 1, "b": True}, "x")), SPACE)
    (trial,) = search.ask(1)
    assert search.settle(Records(over={trial.id: ""}), silent=False) == []
    (failed,) = search.settle(Records(over={trial.id: ""}), silent=True)
    assert failed.ending is Ending.SILENT
    assert failed.reason == "the trial ended without reporting a final result"
    assert search.awaits(trial.id)
    heard: list[tuple[str, bool]] = []
    search.on_end = lambda ended, given_up: heard.append((ended.status, given_up))
    search.tell(trial.id, 2.0)
    assert heard == [("succeeded", True)]
    assert not search.awaits(trial.id)
    assert not search.awaits("of another search")


def test_five_failures_in_a_row_end_a_search() -> None:
    search = Search(RandomSearch(train_first="none"), SPACE)
    for _ in range(5):
        assert search.broken == ""
        (trial,) = search.ask(1)
        search.tell_failed(trial.id, "broken")
    assert "5 trials in a row failed" in search.broken


def test_a_strategy_sees_its_search_and_cannot_change_it() -> None:
    search = Search(RandomSearch(), SPACE, protocol="p", experiment="e", task="toys")
    view = search.strategy.search
    assert (view.space, view.trials, view.pending) == (SPACE, [], [])
    assert (view.about.experiment, view.about.protocol, view.about.task) == ("e", "p", "toys")
    with pytest.raises(FrozenInstanceError):
        view.budget = Budget()
    view.trials.append(WARM)
    assert search.trials == []
    with pytest.raises(StrategyError, match="a door has to bind it"):
        _ = RandomSearch().search
