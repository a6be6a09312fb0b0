"""The tuner door's driver with a stand-in for NNI's manager: what is asked, what counts, what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memories import assert_nobody_writes
from tuner_door import Manager, change_job, earlier, old, quiet, result, rfid, start, table_job

from nni_diffnas.api.errors import JobError, StrategyError
from nni_diffnas.doors.gpus import GpuRequest
from nni_diffnas.doors.tuner import Driver
from nni_diffnas.evaluators.tabular import TabularEvaluation
from nni_diffnas.job import load_job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.results import read
from nni_diffnas.strategies import RegularizedEvolution
from nni_diffnas.trial.parameters import TRIAL_ID


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return table_job(tmp_path)


def test_a_halving_that_never_stops_a_trial_is_refused(folder: Path) -> None:
    manager: Any = Manager(folder)
    manager.folder.path.mkdir()
    space = load_job(folder / "job.yml").make_family().space.to_nni()
    with pytest.raises(StrategyError, match="halving is 2, but the evaluator does not measure rfid while it trains"):
        Driver(manager, "job.yml", "RandomSearch", "minimize", {"halving": 2}, space)


def test_a_result_that_comes_twice_counts_once(folder: Path) -> None:
    driver = start(Manager(folder))
    first, second = driver.ask([0, 1], None)
    driver.tell(first, result(first), "j0")
    driver.tell(first, {"rfid": -1.0}, "j0")
    assert driver.search.trials[0].metrics["rfid"] == rfid(first)
    assert len(driver.ask([2], None)) == 1
    driver.tell(second, result(second), "j1")
    driver.close()


def test_a_trial_that_was_killed_without_a_word_is_settled_when_its_worker_is_free(folder: Path) -> None:
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    (first,) = driver.ask([0], None)
    manager.record(0, first, "USER_CANCELED")
    assert len(driver.ask([1], None)) == 1
    assert driver.search.trials[0].status == "failed"
    assert "killed" in driver.search.trials[0].reason
    driver.close()


def test_a_trial_that_was_given_up_may_still_report(folder: Path) -> None:
    """NNI gives the parameters of a job that died before it asked for them to the next job."""
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    (first,) = driver.ask([0], None)
    manager.record(0, first, "USER_CANCELED")
    (second,) = driver.ask([1], None)
    assert driver.search.trials[0].status == "failed"
    driver.tell(first, result(first), "j1")
    assert driver.search.trials[0].status == "succeeded"
    assert driver.search.trials[0].reason == ""
    driver.tell(second, result(second), "j2")
    assert [trial.status for trial in driver.search.trials] == ["succeeded"] * 2
    driver.close()


def test_more_than_the_workers_are_never_asked_for(folder: Path) -> None:
    """A trial that was run again has ended while the tuner was being imported: NNI asks for its successor as well."""
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    assert len(driver.ask([0], None) + driver.ask([1], None)) == 1
    manager.concurrency = 2
    assert len(driver.ask([2], None)) == 1
    driver.close()


def test_no_more_than_the_limit_is_suggested_until_it_is_raised(folder: Path) -> None:
    manager = Manager(folder, concurrency=2, max_trials=3)
    driver = start(manager)
    asked = driver.ask([0, 1], None)
    driver.tell(asked[0], result(asked[0]), "j0")
    driver.tell(asked[1], result(asked[1]), "j1")
    assert len(driver.ask([2, 3], None)) == 1
    assert driver.trial_of(2) == {TRIAL_ID: "exp1-0002"}  # NNI overwrites its parameters, since 3 got none
    manager.max_trials = 4
    sent = quiet(driver)
    assert len(driver.ask([4], driver._send)) + len(sent) == 1
    driver.close()


def test_trials_stopped_early_do_not_end_the_search(folder: Path) -> None:
    manager = Manager(folder, concurrency=1, assessed=True)
    driver = start(manager)
    for number in range(8):
        (parameters,) = driver.ask([number], None)
        manager.record(number, parameters, "EARLY_STOPPED" if number % 2 else "USER_CANCELED")
        driver.ended(success=False)
    assert manager.ended_after is None
    for number in range(8, 13):
        (parameters,) = driver.ask([number], None)
        manager.record(number, parameters, "FAILED")
        driver.ended(success=False)
    assert manager.ended_after == 13
    driver.close()


def test_what_nni_cannot_place_on_gpus_is_refused_before_any_trial(folder: Path) -> None:
    with pytest.raises(JobError, match="leave trialGpuNumber unset"):
        start(Manager(folder, gpus=GpuRequest(99.0)))


def test_a_pending_trial_of_an_earlier_search_holds_nothing_up(folder: Path) -> None:
    earlier(folder, old(0))
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    (first,) = driver.ask([0], None)
    driver.tell(first, result(first), "j0")
    assert len(driver.ask([1], None)) == 1
    assert {trial.experiment for trial in driver.search.trials} == {"exp1"}
    driver.close()


@pytest.mark.parametrize("budget", [{}, {"macs": {"max": 50}}])
def test_a_narrowed_search_space_is_all_that_the_search_sees(
    folder: Path, budget: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    content = dict(np.load(folder / "table.npz"))
    values = np.c_[content["values"], content["choices"].sum(axis=1) * 10.0]
    np.savez(folder / "table.npz", **{**content, "metrics": ["rfid", "macs"], "values": values})
    change_job(folder, budget=budget)
    earlier(folder, old(0).succeeded({"rfid": 0.0}), old(3).succeeded({"rfid": 1.0}))
    job = load_job(folder / "job.yml")
    space = job.make_family().space.to_nni()
    space["a"]["_value"] = [3, 4]
    driver = start(Manager(folder, concurrency=1, max_trials=5), space)
    assert "5 trials" in capsys.readouterr().out
    assert [trial.id for trial in driver.search.trials] == ["old-3"]
    family = driver.search.family
    assert family is not None
    assert family.space.choices["a"] == (3, 4)
    assert family.default == {**job.make_family().default, "a": 3}
    for number in range(4):
        (parameters,) = driver.ask([number], None)
        assert parameters["a"] in (3, 4)
        assert not budget or parameters["a"] + parameters["b"] + parameters["c"] <= 5
        driver.tell(parameters, result(parameters), f"j{number}")
    driver.close()


def test_the_default_of_a_narrowed_space_is_trained_first(folder: Path) -> None:
    space = load_job(folder / "job.yml").make_family().space.to_nni()
    space["b"]["_value"] = [2, 4]
    driver = start(Manager(folder), space)
    (first,) = driver.ask([0], None)
    assert driver.search.trials[0].origin.kind == "default"
    assert (first["a"], first["b"], first["c"]) == (0, 2, 0)
    driver.close()


def test_progress_and_forecast_count_what_the_strategy_plans(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RegularizedEvolution, "planned", lambda strategy, trials: min(trials, 2))
    driver = start(Manager(folder, concurrency=1, max_trials=5))
    assert "2 trials" in capsys.readouterr().out
    for i in range(3):
        (asked,) = driver.ask([i], None)
        driver.tell(asked, result(asked), f"j{i}")
    said = capsys.readouterr().out
    assert [f"[{i}/{of}]" in said for i, of in ((1, 2), (2, 2), (3, 3))] == [True] * 3, "a failure may cost one more"
    driver.close()


def test_an_export_that_fails_takes_no_result_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> Path:
        assert_nobody_writes(folder / "exp1" / "memory.sqlite")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TabularEvaluation, "scheduler_config", lambda evaluation: {})
    monkeypatch.setattr(read, "export_trial", full)
    driver = start(Manager(folder, concurrency=1, max_trials=1))
    (only,) = driver.ask([0], None)
    driver.tell(only, result(only), "j0")
    with SearchMemory(folder / "exp1" / "memory.sqlite") as memory:
        assert [(trial.status, trial.metrics["rfid"]) for trial in memory.trials()] == [("succeeded", rfid(only))]
    driver.close()
    said = capsys.readouterr()
    assert said.err.count("the winner was not exported") == 1
    assert "No space left on device" in said.err
    assert "best architecture" in said.out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_the_background_reaches_the_manager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(count: int) -> Any:
        raise RuntimeError("the surrogate is singular")

    manager = Manager(folder, concurrency=1, max_trials=1)
    driver = start(manager)
    (only,) = driver.ask([0], None)
    monkeypatch.setattr(driver.search.strategy, "suggest", broken)
    driver.tell(only, result(only), "j0")
    manager.max_trials = 2
    until = time.monotonic() + 20
    while not manager.failed and time.monotonic() < until:
        time.sleep(0.1)
    assert manager.failed == ["RuntimeError: the surrogate is singular"]
    monkeypatch.setattr(driver, "_settle", broken)
    driver.search.history.add(old(1))
    with pytest.raises(RuntimeError):
        driver._look_for_silent()
    assert len(manager.failed) == 2
