"""What choices are worth, against a family whose effects are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from toy_family import ToyFamily, score

from nni_diffnas.api.trial import UNRANKED, Objective, Origin, Trial
from nni_diffnas.report.worth import worths

SPACE, OBJECTIVE = ToyFamily().space, Objective("score", "minimize")


def trials(count: int, noise: float = 0.5, base: float = 20.0) -> list[Trial]:
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng) for _ in range(count)]
    return [
        Trial(f"t{i}", "e", a, Origin("s", "random")).succeeded({"score": base + score(a) + noise * rng.normal()})
        for i, a in enumerate(drawn)
    ]


def test_what_decides_is_found_with_its_size_and_what_does_not_is_not() -> None:
    found = worths(trials(120), SPACE, OBJECTIVE)
    assert found is not None
    assert (found.metric, found.trials) == ("score", 120)
    assert found.explained > 0.9
    width, *others = found.labels
    assert [(worth.label, worth.value) for worth in width] == [("level0.width", value) for value in (8, 16, 24, 32)]
    assert min(width, key=lambda worth: worth.effect).value == 24
    assert all(worth.certain and worth.low < worth.effect < worth.high for worth in width)
    assert not any(worth.certain for group in others for worth in group if worth.label in ("attention", "heads"))
    assert sum(worth.trials for worth in width) == 120
    assert found == worths(trials(120), SPACE, OBJECTIVE)


def test_scores_of_any_sign_are_compared_by_differences() -> None:
    found = worths(trials(120, noise=0.01, base=-10.0), SPACE, OBJECTIVE)
    assert found is not None
    assert not found.relative
    effects = {worth.value: worth.effect for worth in found.labels[0]}
    assert 14 < effects[8] - effects[24] < 18, "16 by the family's score"
    relative = worths(trials(120), SPACE, OBJECTIVE)
    assert relative is not None
    assert relative.relative
    shares = {worth.value: 1 + worth.effect for worth in relative.labels[0]}
    assert 1.5 < shares[8] / shares[24] < 1.9, "about 38 against 22"


def test_noise_is_worth_nothing() -> None:
    rng = np.random.default_rng(1)
    found = worths([t.succeeded({"score": float(rng.normal())}) for t in trials(60)], SPACE, OBJECTIVE)
    assert found is not None
    assert found.explained <= 0.05


def test_few_trials_and_equal_scores_say_nothing() -> None:
    assert worths(trials(19), SPACE, OBJECTIVE) is None
    assert worths([t.succeeded({"score": 1.0}) for t in trials(30)], SPACE, OBJECTIVE) is None


def test_where_most_trials_were_stopped_on_their_way_the_first_rung_is_compared() -> None:
    whole = [t.succeeded({"score@50": 2.0, "score@25": t.metrics["score"], **t.metrics}) for t in trials(40)]
    halved = [replace(t, metrics={"score@25": t.metrics["score"], UNRANKED: 1.0}) for t in whole[:30]]
    found = worths([*halved, *whole[30:]], SPACE, OBJECTIVE)
    assert found is not None
    assert (found.metric, found.trials) == ("score@25", 40)
    unstopped = worths(whole, SPACE, OBJECTIVE)
    assert unstopped is not None
    assert unstopped.metric == "score"


def test_the_latest_trials_count() -> None:
    old = [t.succeeded({"score": 60.0 - score(t.architecture)}) for t in trials(500)]
    found = worths([*old, *trials(600)], SPACE, OBJECTIVE)
    assert found is not None
    assert found.trials == 600
    assert min(found.labels[0], key=lambda worth: worth.effect).value == 24


def test_one_diverged_network_does_not_decide() -> None:
    listed = trials(60)
    listed[7] = listed[7].succeeded({"score": 1e9})
    found = worths(listed, SPACE, OBJECTIVE)
    assert found is not None
    assert found.explained > 0.5
