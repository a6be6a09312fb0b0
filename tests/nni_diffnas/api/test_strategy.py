from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from memories import assert_nobody_writes

from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.errors import BudgetError, StrategyError
from nni_diffnas.api.space import Architecture, Space, Value, digest
from nni_diffnas.api.strategy import AskTellStrategy
from nni_diffnas.api.trial import GIVEN_UP, REFERENCE, Objective, Origin, Suggestion, Trial, standing
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.ranking import Outcome
from nni_diffnas.strategies import RandomSearch, RegularizedEvolution
from nni_diffnas.testing import SmallFamily
from nni_diffnas.trial.run import parameters_of, split_parameters


@pytest.fixture
def family(plugin_site: Path) -> Any:
    from diffnas_denoiser_mlp.space import MLPFamily

    return MLPFamily()


class Fixed(AskTellStrategy):
    """Suggests what it was given, once."""

    def __init__(self, *suggestions: Suggestion, **options: Any) -> None:
        super().__init__(start_with_default=False, **options)
        self.left = list(suggestions)
        self.seen: list[Trial] = []

    def suggest(self, count: int) -> Sequence[Suggestion]:
        given, self.left = self.left[:count], self.left[count:]
        return given

    def update(self, trials: Sequence[Trial]) -> None:
        self.seen += trials


SPACE = Space({"a": (1, 2, 3), "b": (True, False)})
ORIGIN = Origin("Other", "random")
WARM = Trial("old", "e", {"a": 1, "b": False}, ORIGIN).failed("broken")


def test_default_network_comes_first_and_once(family: Any) -> None:
    strategy = RandomSearch(seed=3)
    strategy.bind(family.space, family)
    asked = [trial for _ in range(3) for trial in strategy.ask(2)]
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
        strategy = kind(budget=Budget({"params": Window(min=least)}), memory=memory)
        strategy.bind(family.space, family)
        reference, other = strategy.ask(2)
        assert (reference.origin.kind, reference.architecture) == (REFERENCE, family.default)
        assert split_parameters(parameters_of(reference, family.space))[1] == reference.settings
        strategy.tell(reference.id, {"rfid": 1.0, **standing(reference.settings)})
        strategy.tell(other.id, {"rfid": 2.0, **standing(other.settings)})
        outcome = Outcome.of(strategy.trials, Objective())
        assert [trial.id for trial in outcome.ranked] == [other.id]
        assert outcome.default is not None
        assert outcome.default.id == reference.id
        assert [trial.id for trial in memory.best(Objective(), 5)] == [other.id]
        assert reference.id not in strategy.state().get("population", [])
        assert all(trial.origin.kind != REFERENCE for trial in strategy.ask(3))


def test_everything_asked_is_within_budget_and_new(family: Any) -> None:
    strategy = RandomSearch(seed=0, budget=Budget({"params": Window(max=600)}))
    strategy.bind(family.space, family)
    asked = [trial for _ in range(10) for trial in strategy.ask(2)]
    assert len({family.space.key_of(trial.architecture) for trial in asked}) == len(asked)
    assert all(trial.cost is not None and trial.cost.params <= 600 for trial in asked)


def test_budget_that_nobody_meets_is_refused_when_bound(family: Any) -> None:
    strategy = RandomSearch(budget=Budget({"params": Window(max=10)}))
    with pytest.raises(BudgetError, match="nearest"):
        strategy.bind(family.space, family)


def test_exhausted_space_ends_the_search() -> None:
    strategy = RandomSearch()
    strategy.bind(SPACE)
    assert len(strategy.ask(100)) == SPACE.size
    assert strategy.ask(1) == []


def test_duplicates_are_refused_and_a_stuck_strategy_is_named() -> None:
    same = Suggestion({"a": 1, "b": True}, "fixed")
    strategy = Fixed(*[same] * 50)
    strategy.bind(SPACE)
    assert len(strategy.ask(1)) == 1
    with pytest.raises(StrategyError, match="already trained or pending"):
        strategy.ask(1)


def test_settings_make_a_different_trial() -> None:
    strategy = Fixed(
        Suggestion({"a": 1, "b": True}, "x", settings={"block": "down0"}),
        Suggestion({"a": 1, "b": True}, "x", settings={"block": "down1"}),
    )
    strategy.bind(SPACE)
    first, second = strategy.ask(2)
    assert first.settings != second.settings
    architecture, settings = split_parameters(parameters_of(second, SPACE))
    assert (architecture, settings) == ({"a": 1, "b": True}, {"block": "down1"})


def test_each_ending_is_told_once_with_all_metrics() -> None:
    strategy = Fixed(*(Suggestion({"a": a, "b": True}, "x") for a in (1, 2)))
    strategy.bind(SPACE)
    first, second = strategy.ask(2)
    strategy.tell(first.id, {"rfid": 2.0, "extra": 1.0})
    strategy.tell(first.id, {"rfid": 9.0})
    strategy.tell_failed(second.id, "out of memory")
    assert [(t.status, dict(t.metrics), t.reason) for t in strategy.seen] == [
        ("succeeded", {"rfid": 2.0, "extra": 1.0}, ""),
        ("failed", {}, "out of memory"),
    ]
    assert strategy.pending == []


@pytest.mark.parametrize("make", [RandomSearch, lambda **o: RegularizedEvolution(population=4, sample=2, **o)])
def test_same_seed_and_events_give_the_same_suggestions_also_after_a_resume(
    make: Any, family: Any, tmp_path: Path
) -> None:
    def score(trial: Trial) -> dict[str, float]:
        assert trial.cost is not None
        return {"rfid": float(trial.cost.macs % 97)}

    def run(strategy: AskTellStrategy, count: int) -> list[Any]:
        listed = []
        for _ in range(count):
            for trial in strategy.ask(1):
                listed.append(trial.architecture)
                strategy.tell(trial.id, score(trial))
        return listed

    straight = make(seed=5)
    straight.bind(family.space, family)
    expected = run(straight, 16)

    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        first = make(seed=5, memory=memory)
        first.bind(family.space, family)
        begun = run(first, 9)
        memory.save_state(first.experiment, "strategy", first.snapshot())
        second = make(seed=999, memory=memory)
        second.experiment = first.experiment
        second.bind(family.space, family)
        snapshot = memory.load_state(first.experiment, "strategy")
        assert isinstance(snapshot, dict)
        second.restore(memory.trials(experiment=first.experiment), snapshot)
        assert begun + run(second, 7) == expected


def test_evolution_beats_random_where_structure_helps(family: Any) -> None:
    """On a separable score, 60 trials of evolution find better networks than 60 random ones, seed by seed."""

    def best(strategy: AskTellStrategy) -> float:
        strategy.bind(space)
        for _ in range(60):
            for trial in strategy.ask(1):
                strategy.tell(trial.id, {"rfid": float(sum(int(v) for v in trial.architecture.values()))})
        return min(trial.metrics["rfid"] for trial in strategy.trials)

    space = Space({f"l{i}": tuple(range(8)) for i in range(8)})
    evolved = [best(RegularizedEvolution(population=10, sample=5, seed=seed)) for seed in range(5)]
    drawn = [best(RandomSearch(seed=seed)) for seed in range(5)]
    assert sum(evolved) < sum(drawn) - 5


def test_warm_start_reaches_the_strategy_before_its_first_suggestion() -> None:
    earlier = Fixed(Suggestion({"a": 1, "b": True}, "x"))
    earlier.bind(SPACE)
    done = earlier.tell(earlier.ask(1)[0].id, {"rfid": 1.0})
    strategy = Fixed(Suggestion({"a": 1, "b": True}, "x"), Suggestion({"a": 2, "b": True}, "x"), warm_start=[done])
    strategy.bind(SPACE)
    assert strategy.seen == [done]
    assert [trial.architecture["a"] for trial in strategy.ask(2)] == [2]


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
    strategy = RandomSearch(budget=Budget({"macs": Window(max=10)}))
    strategy.bind(family.space, family)
    assert [trial.architecture for trial in strategy.ask(4)] == [family.default]
    assert strategy.draw() is None


@pytest.mark.parametrize(
    "useless",
    [
        Trial("old", "e", {"a": 1, "b": True}, ORIGIN),
        Trial("old", "e", {"a": 1, "b": True}, ORIGIN, protocol="other").succeeded({"rfid": 0.1}),
        Trial("old", "e", {"a": 9, "b": True}, ORIGIN).succeeded({"rfid": 0.1}),
        Trial("old", "e", {"a": 1}, ORIGIN).succeeded({"rfid": 0.1}),
    ],
    ids=["pending", "another protocol", "outside the space", "another space"],
)
def test_a_warm_start_takes_only_what_can_be_compared(useless: Trial) -> None:
    strategy = Fixed(Suggestion({"a": 1, "b": True}, "x"), warm_start=[useless])
    strategy.bind(SPACE)
    assert (strategy.seen, strategy.trials, strategy.pending) == ([], [], [])
    assert len(strategy.ask(1)) == 1, "it may be trained again"


def test_own_trials_in_the_file_of_a_warm_start_are_no_earlier_ones() -> None:
    done = Trial("e-0000", "e", {"a": 1, "b": True}, ORIGIN).succeeded({"rfid": 1.0})
    strategy = Fixed(Suggestion({"a": 2, "b": True}, "x"), warm_start=[done])
    strategy.experiment = "e"
    strategy.bind(SPACE)
    assert (strategy.seen, strategy.trials) == ([], []), "a resume brings them, and would bring them twice"


def test_scores_of_another_protocol_set_no_threshold_and_father_no_child() -> None:
    family = SmallFamily()
    easy = [
        Trial(f"w{width}", "old", {**family.default, "width": width}, ORIGIN, protocol="other").succeeded(
            {"rfid": 0.01, "rfid@25": 0.01}
        )
        for width in (8, 16, 24, 32)
    ]
    strategy = RegularizedEvolution(warm_start=easy, halving=2, population=2, sample=2)
    strategy.bind(family.space, family, "mine")
    for kind in ("default", "random", "random"):
        (trial,) = strategy.ask(1)
        assert trial.origin.kind == kind
        strategy.tell(trial.id, {"rfid": 50.0, "rfid@25": 60.0})
    (child,) = strategy.ask(1)
    assert strategy.parameters(child)["run.stop.rfid@25"] == 60.0
    assert child.origin.parent in {trial.id for trial in strategy.trials}
    assert not str(child.origin.parent).startswith("w")


def test_what_has_ended_is_told_in_the_order_in_which_it_did() -> None:
    strategy = Fixed(*(Suggestion({"a": a, "b": True}, "x") for a in (1, 2, 3)), warm_start=[WARM])
    strategy.bind(SPACE)
    first, second, third = strategy.ask(3)
    strategy.tell_failed(third.id, GIVEN_UP[0])
    strategy.tell_failed(first.id, "broken")
    strategy.tell(third.id, {"rfid": 1.0})
    assert [(t.id, t.status) for t in strategy.ended] == [(first.id, "failed"), (third.id, "succeeded")]
    assert second in strategy.pending


def test_nobody_waits_for_the_memory_while_something_is_suggested(tmp_path: Path) -> None:
    class Slow(RandomSearch):
        def suggest(self, count: int) -> Sequence[Suggestion]:
            assert_nobody_writes(tmp_path / "memory.sqlite")
            return super().suggest(count)

    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        strategy = Slow(memory=memory, start_with_default=False)
        strategy.bind(SPACE)
        asked = strategy.ask(2)
        assert [trial.id for trial in memory.trials()] == [trial.id for trial in asked]
        state = memory.load_state(strategy.experiment, "strategy")
        assert isinstance(state, dict)
        assert state["rng"] == strategy.rng.bit_generator.state, "what was suggested and what follows go together"
