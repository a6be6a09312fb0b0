"""A search without an NNI manager, on a table, one row of which is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nni_diffnas.api.errors import JobError
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job
from nni_diffnas.report import read_source, render_report

NETWORKS = 6
HANGS = {
    "space": {"type": "mlp"},
    "evaluator": {"type": "denoise2d", "steps": 1, "seconds": 600},
    "objective": {"metric": "error", "direction": "minimize"},
    "max_trial_seconds": 1.0,
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    values = np.linspace(0.5, 0.9, NETWORKS)
    values[4] = np.nan
    table = tmp_path / "table.npz"
    choices = np.array([[i % 2, i // 2] for i in range(NETWORKS)])
    np.savez(table, labels=["a", "b"], choices=choices, metrics=["accuracy"], values=values[:, None])
    where = {"path": str(table)}
    return Job.model_validate(
        {
            "space": {"type": "table", **where},
            "data": where,
            "evaluator": {"type": "tabular"},
            "objective": {"metric": "accuracy", "direction": "maximize"},
            "memory": str(tmp_path / "memory.sqlite"),
        }
    )


def test_a_search_ends_with_its_space_and_leaves_an_experiment(job: Job, tmp_path: Path) -> None:
    trials = run_search(job, "RandomSearch", tmp_path / "all", 20)
    assert len(trials) == NETWORKS
    failed = [trial for trial in trials if trial.status == "failed"]
    assert len(failed) == 1
    assert failed[0].reason
    assert sorted(trial.metrics["accuracy"] for trial in trials if trial.metrics)[-1] == 0.9
    assert "RandomSearch" in render_report(read_source(str(tmp_path / "all")))


def test_the_same_call_goes_on_where_a_search_stopped(job: Job, tmp_path: Path) -> None:
    undisturbed = run_search(job.model_copy(update={"memory": None}), "RandomSearch", tmp_path / "other", 5)
    run_search(job, "RandomSearch", tmp_path / "one", 2)
    # Its own trials lie in the file that it starts from: they are no earlier ones.
    again = job.model_copy(update={"warm_start": [str(tmp_path / "memory.sqlite")]})
    trials = run_search(again, "RandomSearch", tmp_path / "one", 5)
    assert [trial.architecture for trial in trials] == [trial.architecture for trial in undisturbed]
    assert [trial.id for trial in trials] == [f"one-{i:04d}" for i in range(5)]


def test_several_workers_train_what_one_does_and_a_second_call_goes_on(job: Job, tmp_path: Path) -> None:
    first = run_search(job, "RandomSearch", tmp_path / "two", 3, workers=2)
    assert [trial.status for trial in first] == ["succeeded"] * 3
    trials = run_search(job, "RandomSearch", tmp_path / "two", 20, workers=2)
    assert len(trials) == NETWORKS
    assert [trial.job_id for trial in trials] == [f"{i + 1:04d}" for i in range(NETWORKS)]
    assert sum(trial.status == "failed" for trial in trials) == 1


def test_what_a_killed_search_had_under_way_is_trained_by_the_next_call(job: Job, tmp_path: Path) -> None:
    def killed(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nni_diffnas.doors.in_process.run_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            run_search(job, "RandomSearch", tmp_path / "one", 3)
    trials = run_search(job, "RandomSearch", tmp_path / "one", 3)
    assert [trial.status for trial in trials] == ["succeeded"] * 3
    assert [trial.id for trial in trials] == [f"one-{i:04d}" for i in range(3)]


def test_a_worker_that_is_ended_by_the_time_limit_takes_no_search_with_it(plugin_site: Path, tmp_path: Path) -> None:
    trials = run_search(Job.model_validate(HANGS), "RandomSearch", tmp_path / "hangs", 2, workers=2)
    assert [trial.status for trial in trials] == ["failed"] * 2
    assert "max_trial_seconds" in trials[0].reason + trials[1].reason


def test_two_processes_do_not_search_in_one_folder(job: Job, tmp_path: Path) -> None:
    first = run_search(job, "RandomSearch", tmp_path / "one", 2)
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "one")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(JobError, match=r"A search runs in '.*one', in another process: wait for its end"):
            run_search(job, "RandomSearch", tmp_path / "one", 4)
        other.kill()
    trials = run_search(job, "RandomSearch", tmp_path / "one", 4)
    assert [trial.id for trial in trials[:2]] == [trial.id for trial in first]
    assert len(trials) == 4


def test_no_workers_are_refused(job: Job, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="workers is 0"):
        run_search(job, "RandomSearch", tmp_path / "none", 1, workers=0)
