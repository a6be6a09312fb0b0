"""A search without an NNI manager, on a table, one row of which is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job
from nni_diffnas.report import read_source, render_report

NETWORKS = 6


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
