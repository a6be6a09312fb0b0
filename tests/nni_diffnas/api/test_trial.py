"""Trials as JSON and through their life; the direction of objectives."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.ending import Ending
from nni_diffnas.api.errors import JobError
from nni_diffnas.api.trial import Objective, Origin, Trial

SCALARS = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
TRIALS = st.builds(
    Trial,
    id=st.text(),
    experiment=st.text(),
    architecture=st.dictionaries(st.text(max_size=5), SCALARS, max_size=4),
    origin=st.builds(Origin, st.text(), st.text(), st.none() | st.text()),
    status=st.sampled_from(["pending", "succeeded", "failed"]),
    metrics=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
    cost=st.none() | st.builds(Cost, st.integers(0), st.integers(0), st.none() | st.floats(0)),
    settings=st.dictionaries(st.text(max_size=5), SCALARS, max_size=3),
    protocol=st.text(),
    reason=st.text(),
    seconds=st.none() | st.floats(0),
    job_id=st.text(),
    ending=st.none() | st.sampled_from(Ending),
)


@given(TRIALS)
def test_json_round_trip(trial: Trial) -> None:
    restored = Trial.from_json(json.loads(json.dumps(trial.to_json())))
    assert restored == trial
    assert [type(value) for value in restored.architecture.values()] == [
        type(value) for value in trial.architecture.values()
    ]


def test_results_leave_the_pending_trial_as_it_was() -> None:
    pending = Trial("a", "first", {"x": 1}, Origin("random", "random"))
    metrics = {"rfid": 2.0}
    done = pending.succeeded(metrics, seconds=4.0, protocol="p")
    metrics["rfid"] = 0.0
    failed = pending.failed("out of memory", seconds=1.0)
    assert (done.status, done.metrics, done.seconds, done.protocol) == ("succeeded", {"rfid": 2.0}, 4.0, "p")
    assert (failed.status, failed.reason, failed.seconds) == ("failed", "out of memory", 1.0)
    assert (pending.status, pending.metrics, pending.reason) == ("pending", {}, "")


def test_how_a_trial_ended_decides_whether_it_may_still_report() -> None:
    pending = Trial("a", "first", {"x": 1}, Origin("random", "random"))
    assert {ending for ending in Ending if pending.failed(ending).open} == {
        Ending.CRASHED,
        Ending.KILLED,
        Ending.SILENT,
    }
    assert not pending.failed("out of memory").open
    silent = pending.failed(Ending.SILENT)
    assert silent.reason == "the trial ended without reporting a final result"
    assert silent.succeeded({"rfid": 1.0}).ending is None


def test_version_0_1_recorded_how_a_trial_ended_in_a_sentence() -> None:
    sentence = "the trial's process was killed: by the system, where memory ran out, or by hand"
    body = Trial("a", "first", {"x": 1}, Origin("random", "random"), status="failed", reason=sentence).to_json()
    del body["ending"]
    trial = Trial.from_json(body)
    assert trial.ending is Ending.KILLED
    assert trial.open
    assert Trial.from_json({**body, "reason": "diverged"}).ending is None


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_more_score_is_always_better(a: float, b: float) -> None:
    lower, higher = Objective("rfid", "minimize"), Objective("rfid", "maximize")
    scores = [objective.score({"rfid": value}) for objective in (lower, higher) for value in (a, b)]
    assert all(score is not None for score in scores)
    small_a, small_b, large_a, large_b = (score for score in scores if score is not None)
    assert (small_a > small_b) == (a < b)
    assert (large_a > large_b) == (a > b)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_score(value: float) -> None:
    assert Objective().score({"rfid": value}) is None
    assert Objective().score({"other": 1.0}) is None


def test_nni_default_turns_only_where_a_maximising_door_meets_a_minimised_metric() -> None:
    metrics = {"rfid": 3.0, "psnr": 20.0}
    assert Objective("rfid").default(metrics, maximize=True) == -3.0
    assert Objective("rfid").default(metrics, maximize=False) == 3.0
    assert Objective("psnr", "maximize").default(metrics, maximize=True) == 20.0
    assert Objective("psnr", "maximize").default(metrics, maximize=False) == 20.0


def test_a_missing_objective_is_named_beside_what_was_reported() -> None:
    with pytest.raises(JobError, match=r"'fid', but the trial reports psnr, rfid: name one of these"):
        Objective("fid").default({"rfid": 3.0, "psnr": 20.0}, maximize=True)
