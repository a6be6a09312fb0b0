"""What trials that were stopped on their way teach a guided search."""

import pytest
import torch

from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import UNRANKED, Origin, Trial
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.extrapolation import extrapolate

SPACE = Space(dict.fromkeys("abcde", (0, 1, 2)))


def trial(**metrics: float) -> Trial:
    named = {name.replace("_at_", "@"): value for name, value in metrics.items()}
    return Trial("t", "e", {}, Origin("s", "k"), "succeeded", named)


def score(of: Trial) -> float | None:
    return -of.metrics["loss"] if "loss" in of.metrics else None


def test_a_line_through_the_complete_ones_says_the_rest() -> None:
    complete = [trial(loss=0.5 * x + 1, loss_at_25=x, loss_at_50=0.9 * x) for x in (1.0, 2.0, 3.0, 4.0, 5.0)]
    (said,) = extrapolate([trial(loss_at_25=7.0)], complete, "loss", score)
    assert said.score == pytest.approx(-4.5)
    assert said.deviation == pytest.approx(0, abs=1e-9)
    (later,) = extrapolate([trial(loss_at_25=100.0, loss_at_50=6.3)], complete, "loss", score)
    assert later.score == pytest.approx(-4.5)  # by the last rung


def test_few_complete_ones_only_shift_and_one_says_nothing() -> None:
    complete = [trial(loss=1.0, loss_at_25=2.0), trial(loss=2.0, loss_at_25=3.4)]
    (said,) = extrapolate([trial(loss_at_25=4.0)], complete, "loss", score)
    assert said.score == pytest.approx(-2.8)
    assert said.deviation > 0
    assert extrapolate([trial(loss_at_25=4.0)], complete[:1], "loss", score) == []
    assert extrapolate([trial(seconds=4.0)], complete, "loss", score) == []


def test_trials_that_lie_close_together_tell_little_of_the_slope() -> None:
    noise = (0.2, -0.2, 0.0, 0.2, -0.2)
    complete = [trial(loss=1.0 + more, loss_at_25=2.0 + 0.01 * i) for i, more in enumerate(noise)]
    (said,) = extrapolate([trial(loss_at_25=4.0)], complete, "loss", score)
    assert said.score == pytest.approx(-3.0, abs=0.1), "the slope stays near 1, though the points alone fall"
    wide = [trial(loss=1.0 + more, loss_at_25=2.0 + 10 * i) for i, more in enumerate(noise)]
    (said,) = extrapolate([trial(loss_at_25=4.0)], wide, "loss", score)
    assert said.score == pytest.approx(-1.0, abs=0.1)


def test_stopped_trials_steer_the_search() -> None:
    strategy = DiffusionGuided(
        objective="loss", halving=3, training_steps=5, candidates=32, sampler_steps=4, cache=lambda name, make: make()
    )
    search = Search(strategy, SPACE)
    for number in range(12):
        (asked,) = search.ask(1)
        loss = 1.0 + sum(asked.architecture.values())
        rung = {"loss@25": 2 * loss + 0.1 * (number % 3)}
        stopped = number >= 4 and loss > 3
        search.tell(asked.id, {**rung, UNRANKED: 1.0} if stopped else {**rung, "loss": loss})
    known = strategy.observations.known(strategy.observations.scored, [])
    assert len(known.matrices) == 12
    assert known.candidates < 12
    assert bool((known.doubt[known.candidates :] > 0).all())
    assert torch.isfinite(known.targets).all()
    assert [t.origin.kind for t in search.trials] == ["start"] * 4 + ["guided"] * 8
