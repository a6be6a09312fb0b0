"""The tuner door's driver with a stand-in for NNI's manager: resume, trials run again, a limit that is raised."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from nni_diffnas import winner
from nni_diffnas.driver import Driver
from nni_diffnas.errors import JobError, StrategyError
from nni_diffnas.evaluators.tabular import TabularEvaluation
from nni_diffnas.experiment import ExperimentFolder, ManagerInfo, TrialJobs
from nni_diffnas.gpus import GpuRequest
from nni_diffnas.job import load_job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.record import TrialRecord
from nni_diffnas.runner import TRIAL_ID
from nni_diffnas.trial import STOPPED_EARLY, Origin, Trial


@dataclass
class Manager:
    """What a driver asks of `ManagerInfo`, with NNI's records as a list."""

    path: Path
    concurrency: int = 2
    max_trials: int | None = 50
    resumed: bool = False
    listed: list[Any] = field(default_factory=list)
    ended_after: int | None = None
    gpus: GpuRequest | None = None
    assessed: bool = False
    failed: list[str] = field(default_factory=list)

    telling = ManagerInfo.telling

    def fail(self, message: str) -> None:
        self.failed.append(message)

    @property
    def folder(self) -> ExperimentFolder:
        return ExperimentFolder(self.path / "exp1")

    @property
    def code_directory(self) -> Path:
        return self.path

    def jobs(self) -> TrialJobs:
        return TrialJobs(self.folder, self.listed)

    def refreshed(self) -> Manager:
        return self

    def end_after(self, trials: int) -> None:
        self.ended_after = trials

    def record(self, number: int, parameters: dict[str, Any], status: str, rfid: float | None = None) -> Any:
        given = SimpleNamespace(parameter_id=number, parameters=parameters)
        final = [] if rfid is None else [SimpleNamespace(parameterId=number, data={"default": rfid, "rfid": rfid})]
        job = SimpleNamespace(trialJobId=f"j{number}", status=status, hyperParameters=[given], finalMetricData=final)
        self.listed.append(job)
        return job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    choices = np.array([[a, b, c] for a in range(5) for b in range(5) for c in range(5)])
    np.savez(
        tmp_path / "table.npz",
        labels=["a", "b", "c"],
        choices=choices,
        metrics=["rfid"],
        values=choices.sum(axis=1, keepdims=True) * 1.0,
        maximize=False,
    )
    job = {
        "space": {"type": "table", "path": "table.npz"},
        "data": {"path": "table.npz"},
        "evaluator": {"type": "tabular"},
        "seed": 3,
    }
    (tmp_path / "job.yml").write_text(yaml.safe_dump(job))
    return tmp_path


def start(manager: Manager, space: dict[str, Any] | None = None) -> Driver:
    manager.folder.path.mkdir(exist_ok=True)
    space = space or load_job(manager.path / "job.yml").make_family().space.to_nni()
    options = {"population": 2, "sample": 2}
    return Driver(manager, "job.yml", "RegularizedEvolution", "minimize", options, space)  # type: ignore[arg-type]


def rfid(parameters: dict[str, Any]) -> float:
    return float(parameters["a"] + parameters["b"] * 2 + parameters["c"] * 3)


def result(parameters: dict[str, Any]) -> dict[str, float]:
    return {"default": rfid(parameters), "rfid": rfid(parameters)}


def quiet(driver: Driver) -> list[tuple[int, Any]]:
    """Make a list of what the driver sends without being asked."""
    sent: list[tuple[int, Any]] = []
    driver._send = lambda number, parameters: sent.append((number, parameters))
    return sent


def undisturbed(folder: Path, count: int) -> list[dict[str, Any]]:
    """Parameters of a search at concurrency 1 without any interruption."""
    driver = start(Manager(folder / "other", concurrency=1))
    seen = []
    for number in range(count):
        (parameters,) = driver.ask([number], None)
        seen.append(parameters)
        driver.tell(parameters, result(parameters), f"j{number}")
    driver.close()
    return seen


def without_id(parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != TRIAL_ID} for one in parameters]


@pytest.fixture
def other(folder: Path) -> Path:
    (folder / "other").mkdir()
    for name in ("job.yml", "table.npz"):
        (folder / "other" / name).write_bytes((folder / name).read_bytes())
    return folder / "other"


Ending = Callable[[Manager, dict[str, Any]], None]


def was_running(manager: Manager, parameters: dict[str, Any]) -> None:
    manager.record(3, parameters, "RUNNING")


def had_reported(manager: Manager, parameters: dict[str, Any]) -> None:
    manager.record(3, parameters, "SUCCEEDED", rfid(parameters))


def had_reported_and_runs_again(manager: Manager, parameters: dict[str, Any]) -> None:
    manager.record(3, parameters, "RUNNING", rfid(parameters))


def never_reached_nni(manager: Manager, parameters: dict[str, Any]) -> None:
    """The dispatcher died between its memory and the manager."""


def is_listed_as_resumed(manager: Manager, parameters: dict[str, Any]) -> None:
    """So NNI lists what was running when the search was stopped, until it runs again."""
    manager.record(3, parameters, "ADD_RESUMED")
    output = manager.folder.path / "environments" / "local-env" / "trials" / "j3"
    output.mkdir(parents=True)
    TrialRecord(output, parameters[TRIAL_ID]).fail(STOPPED_EARLY)


def test_a_halving_that_never_stops_a_trial_is_refused(folder: Path) -> None:
    manager: Any = Manager(folder)
    manager.folder.path.mkdir()
    space = load_job(folder / "job.yml").make_family().space.to_nni()
    with pytest.raises(StrategyError, match="halving is 2, but the evaluator does not measure rfid while it trains"):
        Driver(manager, "job.yml", "RandomSearch", "minimize", {"halving": 2}, space)


@pytest.mark.parametrize(
    "ending", [was_running, had_reported, had_reported_and_runs_again, never_reached_nni, is_listed_as_resumed]
)
def test_after_a_resume_the_suggestions_are_those_of_an_undisturbed_search(
    ending: Ending, folder: Path, other: Path
) -> None:
    expected = without_id(undisturbed(folder, 8))
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    seen = []
    for number in range(4):
        (parameters,) = driver.ask([number], None)
        seen.append(parameters)
        if number < 3:
            driver.tell(parameters, result(parameters), f"j{number}")
            manager.record(number, parameters, "SUCCEEDED", rfid(parameters))
    driver.strategy.memory.close()  # type: ignore[union-attr]  # killed
    ending(manager, seen[3])

    manager.resumed = True
    driver = start(manager)
    sent = quiet(driver)
    driver.import_results([])
    asked = driver.ask([4], driver._send)  # NNI asks for all its workers, whatever it runs again
    if ending in (was_running, is_listed_as_resumed, had_reported_and_runs_again):
        assert asked == []
        driver.import_results([{"parameter": seen[3], "value": result(seen[3])}])
        asked = driver.ask([5], driver._send)
    elif ending is never_reached_nni:
        assert asked == [seen[3]]
        driver.tell(seen[3], result(seen[3]), "j4")
        asked = driver.ask([5], driver._send)
    asked += [parameters for _, parameters in sent]
    for number in range(6, 10):
        (parameters,) = asked
        seen.append(parameters)
        driver.tell(parameters, result(parameters), f"j{number}")
        sent.clear()
        asked = driver.ask([number], driver._send) + [parameters for _, parameters in sent]
    assert without_id(seen) == expected
    assert all(trial.status == "succeeded" for trial in driver.strategy.trials[:8])
    driver.close()


def test_a_result_that_comes_twice_counts_once(folder: Path) -> None:
    driver = start(Manager(folder))
    first, second = driver.ask([0, 1], None)
    driver.tell(first, result(first), "j0")
    driver.tell(first, {"rfid": -1.0}, "j0")
    assert driver.strategy.trials[0].metrics["rfid"] == rfid(first)
    assert len(driver.ask([2], None)) == 1
    driver.tell(second, result(second), "j1")
    driver.close()


def test_a_trial_that_was_killed_without_a_word_is_settled_when_its_worker_is_free(folder: Path) -> None:
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    (first,) = driver.ask([0], None)
    manager.record(0, first, "USER_CANCELED")
    assert len(driver.ask([1], None)) == 1
    assert driver.strategy.trials[0].status == "failed"
    assert "killed" in driver.strategy.trials[0].reason
    driver.close()


def test_a_trial_that_was_given_up_may_still_report(folder: Path) -> None:
    """NNI gives the parameters of a job that died before it asked for them to the next job."""
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    (first,) = driver.ask([0], None)
    manager.record(0, first, "USER_CANCELED")
    (second,) = driver.ask([1], None)
    assert driver.strategy.trials[0].status == "failed"
    driver.tell(first, result(first), "j1")
    assert driver.strategy.trials[0].status == "succeeded"
    assert driver.strategy.trials[0].reason == ""
    driver.tell(second, result(second), "j2")
    assert [trial.status for trial in driver.strategy.trials] == ["succeeded"] * 2
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


def test_a_finished_search_goes_on_when_its_limit_is_raised(folder: Path) -> None:
    manager = Manager(folder, concurrency=2, max_trials=2)
    driver = start(manager)
    sent: list[dict[str, Any]] = []
    asked = driver.ask([0, 1], lambda number, parameters: sent.append(parameters))
    for number, parameters in enumerate(asked):
        driver.tell(parameters, result(parameters), f"j{number}")
    time.sleep(2.5)
    assert sent == []
    manager.max_trials = 22
    until = time.monotonic() + 10
    while len(sent) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(sent) == 2
    assert len({str(one) for one in without_id([*asked, *sent])}) == 4
    driver.close()


def test_what_nni_cannot_place_on_gpus_is_refused_before_any_trial(folder: Path) -> None:
    with pytest.raises(JobError, match="leave trialGpuNumber unset"):
        start(Manager(folder, gpus=GpuRequest(99.0)))


def change_job(folder: Path, **changes: Any) -> None:
    job = yaml.safe_load((folder / "job.yml").read_text())
    (folder / "job.yml").write_text(yaml.safe_dump({**job, **changes}))


def earlier(folder: Path, *trials: Trial) -> None:
    """Warm-start the job from these trials."""
    job = load_job(folder / "job.yml")
    with SearchMemory(folder / "old.sqlite") as memory:
        for trial in trials:
            memory.add(replace(trial, protocol=job.make_evaluation().protocol), job.make_family().space)
    change_job(folder, warm_start=["old.sqlite"])


def old(number: int) -> Trial:
    return Trial(f"old-{number}", "old", {"a": number, "b": 4, "c": 4}, Origin("RandomSearch", "random"))


def test_a_pending_trial_of_an_earlier_search_holds_nothing_up(folder: Path) -> None:
    earlier(folder, old(0))
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    (first,) = driver.ask([0], None)
    driver.tell(first, result(first), "j0")
    assert len(driver.ask([1], None)) == 1
    assert {trial.experiment for trial in driver.strategy.trials} == {"exp1"}
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
    assert [trial.id for trial in driver.strategy.trials] == ["old-3"]
    family = driver.strategy.family
    assert isinstance(family, type(job.make_family()))
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
    assert driver.strategy.trials[0].origin.kind == "default"
    assert (first["a"], first["b"], first["c"]) == (0, 2, 0)
    driver.close()


def test_an_export_that_fails_takes_no_result_with_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> Path:
        with sqlite3.connect(folder / "exp1" / "memory.sqlite", timeout=0) as another:
            another.execute("BEGIN IMMEDIATE")  # raises while anybody writes
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TabularEvaluation, "scheduler_config", lambda evaluation: {})
    monkeypatch.setattr(winner, "export_trial", full)
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


def test_failures_of_others_and_from_before_a_resume_do_not_end_the_search(folder: Path) -> None:
    earlier(folder, *(old(number).failed("the data is missing") for number in range(5)))
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    for number in range(4):
        (parameters,) = driver.ask([number], None)
        manager.record(number, parameters, "FAILED")
        driver.ended(success=False)
        assert manager.ended_after is None
    (parameters,) = driver.ask([4], None)
    driver.strategy.memory.close()  # type: ignore[union-attr]  # killed
    manager.record(4, parameters, "FAILED")
    manager.resumed = True
    driver = start(manager)
    assert [trial.status for trial in driver.strategy.trials[-5:]] == ["failed"] * 5
    assert manager.ended_after is None
    for number in range(5, 10):
        assert manager.ended_after is None
        (parameters,) = driver.ask([number], None)
        manager.record(number, parameters, "FAILED")
        driver.ended(success=False)
    assert manager.ended_after == 10
    driver.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_in_the_background_reaches_the_manager(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(count: int) -> Any:
        raise RuntimeError("the surrogate is singular")

    manager = Manager(folder, concurrency=1, max_trials=1)
    driver = start(manager)
    (only,) = driver.ask([0], None)
    monkeypatch.setattr(driver.strategy, "suggest", broken)
    driver.tell(only, result(only), "j0")
    manager.max_trials = 2
    until = time.monotonic() + 20
    while not manager.failed and time.monotonic() < until:
        time.sleep(0.1)
    assert manager.failed == ["RuntimeError: the surrogate is singular"]
    monkeypatch.setattr(driver, "_settle", broken)
    driver.strategy.history.add(old(1))
    with pytest.raises(RuntimeError):
        driver._look_for_silent()
    assert len(manager.failed) == 2
