"""Thresholds of successive halving, and how they travel."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toy_family import ToyFamily

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.evaluation import Evaluation
from nni_diffnas.api.trial import BY_HAND, REFERENCE, UNRANKED, Direction, Objective, Origin, Suggestion, Trial
from nni_diffnas.doors.engine import open_search
from nni_diffnas.doors.evaluator import PluginEvaluator
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.evaluators import BlockwiseEvaluation, DiffusionEvaluation
from nni_diffnas.searching.halving import Halving, check_halving
from nni_diffnas.searching.search import Search
from nni_diffnas.trial.parameters import split_parameters

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


@pytest.mark.parametrize(
    "given", ["3", "three", [3], True, {}, {"eta": "3"}, {"eta": 3, "metric": 5}, math.inf, math.nan]
)
def test_what_is_no_halving_is_one_sentence(given: Any) -> None:
    with pytest.raises(StrategyError, match=r"^halving is .*: give a number above 1, .*\.$"):
        Halving.of(given)


def test_rungs_may_compare_another_metric_than_the_objective() -> None:
    trials = [trial(**{"held_out_loss@50": value, "rfid@50": 9.0 - value, "rfid": 1.0}) for value in (3.0, 4.0)]
    halving = Halving.of({"eta": 2, "metric": "held_out_loss"})
    assert halving == Halving(2, "held_out_loss")
    assert halving.settings(trials, OBJECTIVE) == {"stop.held_out_loss@50": 3.0}
    assert halving.settings(trials, Objective("psnr", "maximize")) == {"stop.held_out_loss@50": 3.0}
    evaluation = DiffusionEvaluation({"source": "digits"})
    check_halving(halving, Objective("psnr", "maximize"), evaluation)
    with pytest.raises(StrategyError, match="does not measure held_out_loss while it trains"):
        check_halving(halving, OBJECTIVE, DiffusionEvaluation({"source": "digits"}, loss_images=0))
    assert Halving.of(None) is None
    assert Halving.of(3) == Halving(3)
    for given in ({"metric": "rfid"}, {"eta": 2, "metrics": "rfid"}):
        with pytest.raises(StrategyError, match="give a number above 1, or eta and metric by these names"):
            Halving.of(given)


@pytest.mark.parametrize(
    ("metric", "direction", "options", "said"),
    [
        ("rfid", "minimize", {}, ""),
        ("rfid", "maximize", {}, "rfid is maximised, .* leave halving out"),
        ("kid", "minimize", {}, r"does not measure kid while it trains \(only rfid.*\): leave halving out"),
        ("rfid", "minimize", {"curve_points": 0}, r"rfid while it trains \(only at the end\).*curve_points"),
        ("rfid", "minimize", {"training": {"images": 64, "reports": 1}}, "only at the end"),
    ],
)
@pytest.mark.parametrize("kind", [DiffusionEvaluation, BlockwiseEvaluation])
def test_a_halving_that_never_stops_a_trial_is_refused(
    kind: type[Evaluation], metric: str, direction: Direction, options: dict[str, Any], said: str
) -> None:
    evaluation = kind({"source": "digits"}, **options)
    with pytest.raises(StrategyError, match=said) if said else nullcontext():
        check_halving(Halving(2), Objective(metric, direction), evaluation)
    check_halving(None, Objective(metric, direction), evaluation)


def test_the_nas_door_refuses_it_too(tmp_path: Path) -> None:
    table = PluginEvaluator("tabular", {"path": "table.npz"})
    space: Any = SimpleNamespace(evaluator=table, simplify=lambda: {"a": SimpleNamespace(values=[0, 1])})
    with pytest.raises(StrategyError, match="halving is 2, but the evaluator does not measure rfid while it trains"):
        open_search(Draws(halving=2), space, None)
    space.evaluator = None
    open_search(Draws(halving=2), space, None)
    with pytest.raises(StrategyError, match="maximised"):
        open_search(Draws(halving=2, direction="maximize"), space, None)


class Draws(AskTellStrategy):
    def suggest(self, count: int) -> Sequence[Suggestion]:
        drawn = self.search.draw()
        return [] if drawn is None else [Suggestion(drawn, "random")]

    def update(self, trials: Sequence[Trial]) -> None:
        pass


def test_thresholds_travel_and_are_no_part_of_the_architecture() -> None:
    toy = ToyFamily()
    search = Search(Draws(halving=2), toy.space, toy)
    for value in (4.0, 8.0):
        (asked,) = search.ask(1)
        search.tell(asked.id, {"rfid": value, "rfid@50": value})
    (third,) = search.ask(1)
    architecture, settings = split_parameters(search.parameters(third))
    assert toy.space.validate(architecture) == third.architecture
    assert settings == {"stop.rfid@50": 4.0}
    own = replace(third, settings={"stop.rfid@50": -1.0})
    assert split_parameters(search.parameters(own))[1] == {"stop.rfid@50": -1.0}, "its own threshold comes first"
    by_hand = replace(third, origin=Origin("Draws", BY_HAND))
    assert split_parameters(search.parameters(by_hand))[1] == {}, "a yardstick trains to its end"
    assert search.view.refusal(third.architecture) != "", "the same architecture is known, whatever its thresholds"
    plain = Search(Draws(), toy.space, toy)
    plain.restore(search.trials, {})
    assert split_parameters(plain.parameters(third))[1] == {}
