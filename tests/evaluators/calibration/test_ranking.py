"""Rank statistics against SciPy and against made-up scores whose noise is known."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from nni_diffnas.evaluators.calibration.ranking import (
    Measured,
    Proxy,
    agreement,
    ceiling,
    noise,
    read,
    recommend,
)


def measured(reference: Any, **proxies: Proxy) -> Measured:
    values = np.asarray(reference, dtype=float)
    names = tuple({"row": row} for row in range(len(values)))
    macs = np.arange(len(values))
    return Measured(names, macs, values, tuple(range(1000, 1000 + values.shape[1])), 10.0, proxies)


def proxy(values: Any, seconds: float = 1.0, **settings: float) -> Proxy:
    array = np.asarray(values, dtype=float)
    return Proxy("p", array, tuple(range(array.shape[1])), seconds, settings)


def test_tau_is_scipys_with_ties_and_gaps() -> None:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 8, (20, 1)).astype(float)
    score = reference + rng.integers(-3, 4, (20, 1))
    score[4, 0] = np.nan
    found = agreement(proxy(score), measured(reference), bootstraps=200)
    both = np.isfinite(score[:, 0])
    assert found.tau == pytest.approx(kendalltau(score[both, 0], reference[both, 0]).statistic)
    assert found.networks == 19
    assert found.low < found.tau < found.high


def test_regret_is_of_the_network_that_the_score_puts_first() -> None:
    found = agreement(proxy([[3.0], [1.0], [2.0], [9.0]]), measured([[1.0], [3.0], [2.0], [6.0]]))
    assert found.regret == 2.0
    assert found.relative_regret == pytest.approx(2.0 / (3.0 - 1.0))
    perfect = agreement(proxy([[1.0], [3.0], [2.0], [6.0]]), measured([[1.0], [3.0], [2.0], [6.0]]))
    assert (perfect.tau, perfect.regret, perfect.relative_regret) == (1.0, 0.0, 0.0)


def test_a_seed_of_the_reference_is_not_compared_with_itself() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 2))  # seeds that know nothing of each other
    own = Proxy("on the way", reference.copy(), (1000, 1001), 1.0)
    assert abs(agreement(own, measured(reference), bootstraps=2).tau) < 0.12


def test_the_ceiling_is_what_a_score_without_noise_reaches() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(400, 1))
    reference = true + 0.7 * rng.normal(size=(400, 3))
    reached = agreement(proxy(true), measured(reference), bootstraps=2).tau
    assert ceiling(reference) == pytest.approx(reached, abs=0.03)
    assert ceiling(reference) < 0.85
    assert math.isnan(ceiling(reference[:, :1]))


def test_noise_is_told_from_spread() -> None:
    rng = np.random.default_rng(0)
    common = np.array([[0.0, 5.0, -5.0]])
    values = 2.0 * rng.normal(size=(500, 1)) + 0.5 * rng.normal(size=(500, 3)) + common
    found = noise(values)
    assert found.common_seeds == pytest.approx(0.5, rel=0.1)
    assert found.seeds > 4
    assert found.networks == pytest.approx(2.0, rel=0.1)
    assert found.ratio == pytest.approx(0.25, rel=0.15)
    assert math.isnan(noise(values[:, :1]).ratio)


def test_the_cheapest_protocol_that_suffices_is_recommended() -> None:
    truth = np.arange(8.0)[:, None]
    slightly = truth.copy()
    slightly[[0, 1]] = slightly[[1, 0]]
    proxies = {
        "free": proxy(truth, 0.0),  # says the truth, but is no protocol that a job can ask for
        "poor": proxy(-truth, 1.0, factor=1),
        "good": proxy(slightly, 2.0, factor=1),
        "best": proxy(truth, 3.0, factor=1),
    }
    found = {name: agreement(each, measured(truth), bootstraps=2) for name, each in proxies.items()}
    assert recommend(found, proxies, 0.8) == "good"
    assert recommend(found, proxies, 0.99) == "best"
    assert recommend({"poor": found["poor"]}, proxies, 0.5) is None


def record(name: int, seed: int, factor: float, rfid: float, **more: Any) -> dict[str, Any]:
    scores = [{"steps": 4, "images": images, "seconds": 1.0, "rfid": rfid, "kid": rfid} for images in (5, 10)]
    return {
        "architecture": {"name": name}, "seed": seed, "factor": factor, "macs": 10 * name, "params": name, "loss": rfid,
        "images": 100, "train_seconds": 4.0, "scores": scores,
        "curve": [{"images": 50, "loss": 1, "rfid": rfid, "held_out_loss": 3.0}],
        "signals": {"held_out_loss": {"value": rfid / 10, "levels": {"62": 1.0}, "seconds": 0.5}},
        "untrained": {"gradient_norm": 1.0, "naswot": 2.0, "seconds": 0.1}, **more,
    }  # fmt: skip


def test_results_are_sorted_into_reference_and_proxies() -> None:
    records = [record(name, seed, 1.0, name + 20.0) for name in (1, 2, 3, 4) for seed in (0, 1)]
    records += [record(name, seed, 10.0, float(name)) for name in (1, 2, 3) for seed in (1000, 1001)]
    records += [record(1, 1002, 10.0, 99.0), record(2, 5, 1.0, 0.0, failure="it diverged")]
    found = read(records)
    assert found.macs.tolist() == [10, 20, 30], "the fourth has no reference"
    assert found.seeds == (1000, 1001), "most networks lack the third seed"
    assert found.reference.tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    assert found.reference_seconds == 5.0
    rapid = found.proxies["rfid, training x 1, 10 images of 4 steps"]
    assert rapid.values.tolist() == [[21.0, 21.0], [22.0, 22.0], [23.0, 23.0]]
    assert rapid.settings == {"factor": 1.0, "metric": "rfid", "score_images": 10, "sampler_steps": 4}
    loss = found.proxies["held_out_loss, training x 1"]
    assert loss.values.tolist() == [[2.1, 2.1], [2.2, 2.2], [2.3, 2.3]]
    assert (loss.seconds, loss.settings) == (4.5, {"factor": 1.0, "metric": "held_out_loss"})
    assert found.proxies["held_out_loss on the way, at 0.50 of the reference"].seconds == 2.0
    assert found.proxies["rfid on the way, at 0.50 of the reference"].seconds == 2.0
    assert found.proxies["macs"].values.tolist() == [[-10.0], [-20.0], [-30.0]]
    assert found.of([0, 2]).macs.tolist() == [10, 30]
