"""What is said before a search starts."""

import math

import pytest
from torch import nn

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.evaluation import Evaluation, TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.trial import BY_HAND, RECOMMENDED, REFERENCE, Suggestion
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.forecast import NNI_SECONDS_PER_TRIAL, Forecast, forecast_search, whole_trainings
from nni_diffnas.searching.halving import Halving


def test_a_forecast_says_what_is_known_and_no_more() -> None:
    assert str(Forecast(720.0, 4e6, 12)) == "12 trials will take about 12.0 min and write about 4 MB"
    assert str(Forecast(math.nan, math.nan, 6)) == "6 trials; the evaluator does not say how long they take"


class Clock(Evaluation):
    """Says of every network that it takes ten seconds, whatever its MACs, and four bytes a parameter."""

    def __init__(self) -> None:
        self.timed: list[int] = []

    @property
    def protocol(self) -> str:
        return "clock"

    def prepare(self) -> None:
        """Nothing to make."""

    def evaluate(self, model: nn.Module, context: TrialContext) -> dict[str, float]:
        raise AssertionError("a forecast evaluates nothing")

    def forecast(self, model: nn.Module, family: Family | None = None) -> tuple[float, float]:
        self.timed.append(sum(weights.numel() for weights in model.parameters()))
        return 10.0, 4.0 * self.timed[-1]


def test_a_search_takes_as_long_as_the_networks_within_its_budget() -> None:
    family, clock = UNetFamily("digits"), Clock()
    whole = family.cost(family.default)
    found = forecast_search(family, clock, Budget({"params": Window(max=whole.params / 2)}), 12, 2)
    assert found.seconds == 6 * (10.0 + NNI_SECONDS_PER_TRIAL), "the seconds that were told, not scaled by MACs"
    assert len(set(clock.timed)) == 3
    assert max(clock.timed) <= whole.params / 2
    assert found.disk_bytes == pytest.approx(12 * 4 * sum(clock.timed) / 3)
    short = forecast_search(family, Clock(), Budget(), 12, 2, whole=5.1)
    assert short.seconds == pytest.approx(6 * (5.1 / 12 * 10.0 + NNI_SECONDS_PER_TRIAL))
    assert short.trials == 12


def test_trials_that_halving_ends_early_count_as_what_they_train() -> None:
    first = [Suggestion({}, kind) for kind in (REFERENCE, *[BY_HAND] * 4, RECOMMENDED)]
    assert whole_trainings(24, first, None) == 24
    part = (1 + 1 / 3 + 1 / 9 + 1 / 27) / 4
    assert whole_trainings(24, first, Halving(3)) == pytest.approx(6 + 3 + 15 * part)
    assert whole_trainings(3, first, Halving(3)) == 3, "what comes first trains to its end"
    family, clock = UNetFamily("digits"), Clock()
    found = forecast_search(family, clock, Budget({}), 12, 2, whole=6.0)
    assert found.seconds == 6 * (0.5 * 10.0 + NNI_SECONDS_PER_TRIAL)
