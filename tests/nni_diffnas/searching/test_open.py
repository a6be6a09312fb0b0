"""An experiment keeps the rules that it began with: here one of version 0.1, whose rule of splitting was another."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from nni_diffnas.api.trial import Trial
from nni_diffnas.cli import app
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job, load_job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source
from nni_diffnas.results.read import read_search

JOB: dict[str, Any] = {
    "space": {"type": "unet", "preset": "digits"},
    "data": {"source": "digits", "held_out": 0.3},
    "evaluator": {
        "type": "diffusion", "extractor": "random", "training": {"steps": 2}, "score_images": 20, "sampler_steps": 2,
        "curve_points": 0,
    },
}  # fmt: skip


def write_job(folder: Path, **data: Any) -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.yml").write_text(yaml.safe_dump({**JOB, "data": {**JOB["data"], **data}}))
    return load_job(folder / "job.yml")


def as_version_0_1(folder: Path) -> None:
    """Make the start of a search what version 0.1 wrote: no rule of splitting, no section of the data."""
    with closing(sqlite3.connect(folder / "memory.sqlite")) as memory, memory:
        ((number, text),) = memory.execute("SELECT number, body FROM events WHERE kind = 'experiment'").fetchall()
        body = json.loads(text)
        del body["data"], body["job"]["data"]["split"]
        body["versions"]["nni-diffnas"] = "0.1.0"
        memory.execute("UPDATE events SET body = ? WHERE number = ?", [json.dumps(body), number])


def trained_on(folder: Path, trial: Trial) -> dict[str, Any]:
    """The data section by which a trial really went, as it wrote it down."""
    output = ExperimentFolder(folder).output(trial.id)
    assert output is not None
    data: dict[str, Any] = json.loads((output / "evaluation.json").read_text())["data"]
    return data


def test_a_new_experiment_records_its_rule(tmp_path: Path) -> None:
    (trial,) = run_search(write_job(tmp_path), "RandomSearch", tmp_path / "one", 1)
    with SearchMemory(tmp_path / "one" / "memory.sqlite", create=False) as memory:
        (start,) = memory.events(kind="experiment")
    assert start.body["job"]["data"] == {**JOB["data"], "split": "content"}
    assert start.body["data"]["split"] == trained_on(tmp_path / "one", trial)["split"] == "content"
    again = run_search(write_job(tmp_path), "RandomSearch", tmp_path / "one", 2)
    assert {trial.protocol for trial in again} == {trial.protocol}


def test_one_of_version_0_1_goes_on_by_its_own(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (before,) = run_search(write_job(tmp_path, split="position"), "RandomSearch", old, 1)
    as_version_0_1(old)
    first, second = run_search(write_job(tmp_path), "RandomSearch", old, 2)
    assert first.protocol == second.protocol == before.protocol
    assert trained_on(old, second)["split"] == "position"
    assert read_search(ExperimentFolder(old)).job.data["split"] == "position"
    source = read_source(str(old))
    assert source.job is not None
    assert source.job.data["split"] == "position"
    assert [trial.id for trial in source.trials] == [first.id, second.id]


@pytest.mark.slow
def test_it_is_judged_by_its_own(tmp_path: Path) -> None:
    old = tmp_path / "old"
    run_search(write_job(tmp_path, split="position"), "RandomSearch", old, 2)
    as_version_0_1(old)
    said = CliRunner().invoke(app, ["verdict", str(old), "--seeds", "2", "--workers", "1"])
    assert said.exit_code == 0, said.output
    files = list((old / "verdict").glob("*/evaluation.json"))
    assert {json.loads(file.read_text())["data"]["split"] for file in files} == {"position"}
