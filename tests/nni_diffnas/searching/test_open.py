"""An experiment keeps the rules that it began with: here one of version 0.1, whose rule of splitting was another."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tuner_door import Manager
from typer.testing import CliRunner

from nni_diffnas.api.errors import DataError, JobError, TrialFailure
from nni_diffnas.api.trial import Trial
from nni_diffnas.cli import app
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.doors.tuner import Driver
from nni_diffnas.job import Job, carried, load_job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source
from nni_diffnas.results.judging import judge
from nni_diffnas.results.read import read_search
from nni_diffnas.searching.open import make_strategy
from nni_diffnas.trial.run import run_trial

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
        del body["data"], body["described"]
        body["job"]["data"] = JOB["data"]
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
    rules = {"split": "content", "class_numbers": "kept", "upright": True}
    assert start.body["job"]["data"] == {**JOB["data"], **rules}
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


def test_its_trials_behind_nnictl_resume_learn_of_it(tmp_path: Path) -> None:
    """NNI's trials read the job file again, which says nothing of the rules: they travel with the parameters."""
    old = tmp_path / "exp1"
    run_search(write_job(tmp_path, split="position"), "RandomSearch", old, 1)
    as_version_0_1(old)
    space = write_job(tmp_path).make_family().space.to_nni()
    manager: Any = Manager(tmp_path, resumed=True)
    driver = Driver(manager, "job.yml", "RandomSearch", "minimize", {}, space)
    (sent,) = driver.ask([1], None)
    assert driver._job.data["split"] == "position"
    run_trial(load_job(tmp_path / "job.yml"), sent, output=tmp_path / "trial")
    trained = json.loads((tmp_path / "trial" / "evaluation.json").read_text())
    assert trained["data"]["split"] == "position"
    assert trained["protocol"] == driver.search.trials[0].protocol
    driver.close()


@pytest.mark.slow
def test_it_is_judged_by_its_own(tmp_path: Path) -> None:
    old = tmp_path / "old"
    run_search(write_job(tmp_path, split="position"), "RandomSearch", old, 2)
    as_version_0_1(old)
    said = CliRunner().invoke(app, ["verdict", str(old), "--seeds", "2", "--workers", "1"])
    assert said.exit_code == 0, said.output
    files = list((old / "verdict").glob("*/evaluation.json"))
    assert {json.loads(file.read_text())["data"]["split"] for file in files} == {"position"}


def pictures(folder: Path, count: int) -> Path:
    """A folder of so many pictures of noise."""
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


def nni_diffnas(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_search_whose_images_change_says_so(tmp_path: Path) -> None:
    """Ten of sixty pictures are deleted between two trials: whoever goes on, judges or reads learns of it."""
    source, one = pictures(tmp_path / "pictures", 60), tmp_path / "one"
    job = write_job(tmp_path, source=str(source))
    (trial,) = run_search(job, "RandomSearch", one, 1)
    kept = {file: file.read_bytes() for file in sorted(source.iterdir())[:10]}
    for file in kept:
        file.unlink()
    changed = r"data has changed since the search began \(then 60 images of 8x8.*; now 50 images of 8x8"
    with pytest.raises(DataError, match=rf"{changed}.*put it back as it was, or start a new experiment"):
        run_search(job, "RandomSearch", one, 2)
    search = read_search(ExperimentFolder(one))
    assert re.search(changed, search.data_changed())
    other = replace(trial, architecture=job.make_family().space.sample(np.random.default_rng(0)))
    with pytest.raises(DataError, match=rf"{changed}.*no image is sure to be unseen"):
        judge(search.job, other, tmp_path / "verdict", described=search.described)
    exported = nni_diffnas("export", one, "--to", tmp_path / "pipeline")
    assert exported.exit_code == 0
    assert re.search(changed, exported.output)
    assert nni_diffnas("report", one, "--output", tmp_path / "report.html").exit_code == 0
    assert "data has changed since the search began" in (tmp_path / "report.html").read_text()
    for file, content in kept.items():
        file.write_bytes(content)
    assert len({trial.protocol for trial in run_search(job, "RandomSearch", one, 2)}) == 1
    assert read_search(ExperimentFolder(one)).data_changed() == ""


def test_nnictl_resume_refuses_images_that_have_changed(tmp_path: Path) -> None:
    source = pictures(tmp_path / "pictures", 60)
    job = write_job(tmp_path, source=str(source))
    run_search(job, "RandomSearch", tmp_path / "exp1", 1)
    (source / "00.png").unlink()
    manager: Any = Manager(tmp_path, resumed=True)
    space = job.make_family().space.to_nni()
    with pytest.raises(DataError, match=r"data has changed since the search began.*put it back as it was"):
        Driver(manager, "job.yml", "RandomSearch", "minimize", {}, space)


def test_a_trial_that_finds_other_images_fails(tmp_path: Path) -> None:
    """The images change while the search runs: its trials read them again, and must not be ranked with the others."""
    source = pictures(tmp_path / "pictures", 60)
    job = write_job(tmp_path, source=str(source))
    evaluation = job.make_evaluation()
    sent = {**job.make_family().default, **{f"run.{n}": v for n, v in carried(evaluation, job.data, job.data).items()}}
    assert "rfid" in run_trial(job, sent, output=tmp_path / "first")
    (source / "00.png").unlink()
    with pytest.raises(TrialFailure, match=r"data is not what the search began with \(here 59 images"):
        run_trial(job, sent, output=tmp_path / "second")


def test_a_search_whose_job_measures_something_else_is_not_resumed(tmp_path: Path) -> None:
    run_search(write_job(tmp_path), "RandomSearch", tmp_path / "one", 1)
    job = write_job(tmp_path)
    other = job.model_copy(update={"evaluator": job.evaluator.model_copy(update={"score_images": 30})})
    with pytest.raises(JobError, match=r"began with scores of .*20 images.*30 images.*cannot be ranked together"):
        run_search(other, "RandomSearch", tmp_path / "one", 2)


def test_report_and_verdict_rank_the_same_trials(tmp_path: Path) -> None:
    """A memory in which two protocols are mixed, as version 0.1 could leave it."""
    one = tmp_path / "one"
    (first,) = run_search(write_job(tmp_path), "RandomSearch", one, 1)
    space = write_job(tmp_path).make_family().space
    with SearchMemory(one / "memory.sqlite") as memory:
        memory.update(replace(first, metrics={**first.metrics, "rfid": 0.001}))
        for number in (1, 2):
            architecture = space.sample(np.random.default_rng(number))
            later = replace(first, id=f"one-000{number}", architecture=architecture, protocol="another")
            memory.add(replace(later, metrics={"rfid": float(number)}), space)
    search, source = read_search(ExperimentFolder(one)), read_source(str(one))
    assert search.best.id == "one-0001"
    assert source.outcome.best is not None
    assert source.outcome.best.id == "one-0001"
    assert [trial.id for trial in search.others] == [trial.id for trial in source.others] == [first.id]
    assert search.pick(first.id).id == first.id


@pytest.mark.parametrize("option", ["direction", "seed"])
def test_what_the_job_says_is_no_class_argument(option: str) -> None:
    with pytest.raises(JobError, match=f"takes '{option}' from the job"):
        make_strategy("RandomSearch", Job.model_validate(JOB), None, {option: "maximize"})
