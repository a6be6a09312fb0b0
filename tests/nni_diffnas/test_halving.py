"""Thresholds of successive halving, and how they travel."""

from collections.abc import Sequence
from typing import Any

import pytest
from toy_family import ToyFamily

from nni_diffnas.errors import StrategyError
from nni_diffnas.halving import Halving
from nni_diffnas.runner import split_parameters
from nni_diffnas.strategy import AskTellStrategy
from nni_diffnas.trial import REFERENCE, UNRANKED, Objective, Origin, Suggestion, Trial

OBJECTIVE = Objective("rfid", "minimize")


def trial(**metrics: float) -> Trial:
    return Trial("t", "e", {}, Origin("s", "random"), "succeeded", metrics)


@pytest.mark.parametrize(("count", "expected"), [(2, None), (3, 1), (5, 1), (6, 2), (9, 3)])
def test_a_third_goes_on(count: int, expected: int | None) -> None:
    trials = [trial(**{"rfid@25": float(value), "rfid": 0.5}) for value in range(count, 0, -1)]
    found = Halving(3).settings(trials, OBJECTIVE)
    assert found == ({} if expected is None else {"stop.rfid@25": float(expected)})


def test_stopped_trials_count_where_they_came() -> None:
    trials = [trial(**{"rfid@25": 9.0, UNRANKED: 1}), trial(**{"rfid@25": 3.0, "rfid@50": 2.0})]
    assert Halving(2).settings(trials, OBJECTIVE) == {"stop.rfid@25": 3.0}
    assert Halving(2).settings(trials, Objective("rfid", "maximize")) == {}


def test_a_reference_sets_no_threshold() -> None:
    dear = Trial("r", "e", {}, Origin("s", REFERENCE), "succeeded", {"rfid@25": 0.1, "rfid": 0.1, UNRANKED: 1})
    others = [trial(**{"rfid@25": 9.0}), trial(**{"rfid@25": 3.0})]
    assert Halving(2).settings([dear, *others], OBJECTIVE) == {"stop.rfid@25": 3.0}
    assert Halving(3).settings([dear, *others], OBJECTIVE) == {}


def test_one_trial_of_one_would_stop_nothing() -> None:
    with pytest.raises(StrategyError, match="halving is 1: give a number above 1"):
        Halving(1)


class Draws(AskTellStrategy):
    def suggest(self, count: int) -> Sequence[Suggestion]:
        drawn = self.draw()
        return [] if drawn is None else [Suggestion(drawn, "random")]

    def update(self, trials: Sequence[Trial]) -> None:
        pass


def test_thresholds_travel_and_are_no_part_of_the_architecture() -> None:
    strategy, toy = Draws(halving=2), ToyFamily()
    strategy.bind(toy.space, toy)
    for value in (4.0, 8.0):
        (asked,) = strategy.ask(1)
        strategy.tell(asked.id, {"rfid": value, "rfid@50": value})
    (third,) = strategy.ask(1)
    architecture, settings = split_parameters(strategy.parameters(third))
    assert toy.space.validate(architecture) == third.architecture
    assert settings == {"stop.rfid@50": 4.0}
    assert strategy.rejection(third.architecture) != "", "the same architecture is known, whatever its thresholds"
    plain: Any = Draws()
    plain.bind(toy.space, toy)
    plain.restore(strategy.trials, {})
    assert split_parameters(plain.parameters(third))[1] == {}
