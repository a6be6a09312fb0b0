"""A search at the tuner door without NNI's manager: over a small table, with the manager's records as a list."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.doors.experiment import ManagerInfo, TrialJobs
from nni_diffnas.doors.gpus import GpuRequest
from nni_diffnas.doors.tuner import Driver
from nni_diffnas.job import load_job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.trial.parameters import TRIAL_ID

MANAGER_STARTED = 1000.0


def taken_up(experiment: Path, job_id: str, at: float) -> None:
    """Write into NNI's database that a manager is going to run a job again, at a time in seconds."""
    (experiment / "db").mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(experiment / "db" / "nni.sqlite")) as records:
        records.execute("CREATE TABLE IF NOT EXISTS TrialJobEvent (timestamp integer, trialJobId text, event text)")
        records.execute("INSERT INTO TrialJobEvent VALUES (?, ?, 'ADD_RESUMED')", (round(1000 * at), job_id))
        records.commit()


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
        return TrialJobs(self.folder, self.listed, MANAGER_STARTED)

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


def table_job(folder: Path) -> Path:
    """Write a job over a table of 125 architectures into ``folder``."""
    choices = np.array([[a, b, c] for a in range(5) for b in range(5) for c in range(5)])
    np.savez(
        folder / "table.npz",
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
    (folder / "job.yml").write_text(yaml.safe_dump(job))
    return folder


def start(manager: Manager, space: dict[str, Any] | None = None) -> Driver:
    manager.folder.path.mkdir(exist_ok=True)
    space = space or load_job(manager.path / "job.yml").make_family().space.to_nni()
    options = {"population": 2, "sample": 2}
    return Driver(manager, "job.yml", "RegularizedEvolution", "minimize", options, space)


def rfid(parameters: dict[str, Any]) -> float:
    return float(parameters["a"] + parameters["b"] * 2 + parameters["c"] * 3)


def result(parameters: dict[str, Any]) -> dict[str, float]:
    return {"default": rfid(parameters), "rfid": rfid(parameters)}


def quiet(driver: Driver) -> list[tuple[int, Any]]:
    """Make a list of what the driver sends without being asked."""
    sent: list[tuple[int, Any]] = []
    driver._send = lambda number, parameters: sent.append((number, parameters))
    return sent


def without_id(parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != TRIAL_ID} for one in parameters]


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
