"""An experiment is read wherever its folder has been taken: moved, renamed, or somebody else's that must not change."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from command import command
from tuner_door import table_job

import nni_diffnas
from nni_diffnas.api.errors import JobError, MemoryFileError
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job, load_job, refuse_missing
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source, render_report
from nni_diffnas.results.read import read_search


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    run_search(load_job(table_job(tmp_path) / "job.yml"), "RandomSearch", tmp_path / "here" / "one", 3)
    return tmp_path / "here" / "one"


def as_version_0_1(experiment: Path) -> None:
    """Version 0.1 wrote down where the memory was, and no id."""
    (experiment / "diffnas.json").write_text(json.dumps({"memory": str(experiment / "memory.sqlite")}))


@pytest.mark.parametrize("pointer", [None, "", "[1]"])
def test_a_copy_that_is_not_whole_is_read_by_the_name_that_its_memory_knows(
    experiment: Path, pointer: str | None
) -> None:
    (experiment / "diffnas.json").unlink()
    if pointer is not None:
        (experiment / "diffnas.json").write_text(pointer)
    assert len(read_search(ExperimentFolder(experiment)).trials) == len(read_source(str(experiment)).trials) == 3
    other = experiment.rename(experiment.parent / "other")
    said = r"knows no experiment other, only one: give the folder that name\."
    with pytest.raises(JobError, match=said):
        read_search(ExperimentFolder(other))
    with pytest.raises(JobError, match=said):
        read_source(str(other))


@pytest.mark.parametrize("version", ["0.1", "now"])
@pytest.mark.parametrize("name", ["one", "renamed"])
@pytest.mark.parametrize("gone", [False, True])
def test_a_copy_is_read_from_where_it_lies(experiment: Path, version: str, name: str, gone: bool) -> None:
    if version == "0.1":
        as_version_0_1(experiment)
    place = experiment.parents[1] / "there" / name
    shutil.copytree(experiment, place)
    run_search(load_job(experiment.parents[1] / "job.yml"), "RandomSearch", experiment, 4)  # the original goes on
    if gone:
        shutil.rmtree(experiment.parent)
    search, source = read_search(ExperimentFolder(place)), read_source(str(place))
    assert search.folder.id == "one"
    assert len(search.trials) == len(source.trials) == 3
    best = source.outcome.best
    assert best is not None
    output = source.output(best)
    assert output is not None
    assert output.is_relative_to(place)
    assert "RandomSearch" in render_report(source)


def test_a_memory_that_was_kept_elsewhere_is_named_where_it_is_missed(experiment: Path) -> None:
    (experiment / "diffnas.json").write_text(json.dumps({"memory": "/nowhere/shared.sqlite"}))
    with pytest.raises(JobError, match=r"kept at /nowhere/shared\.sqlite, which is not there: copy it to .*one"):
        read_search(ExperimentFolder(experiment))


@contextmanager
def as_somebody_else(folder: Path) -> Iterator[None]:
    """A user who may read all of a folder and write nothing of it."""
    for at, _, files in os.walk(folder):
        os.chmod(at, 0o555)
        for name in files:
            os.chmod(Path(at) / name, 0o444)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)
        for at, _, _ in os.walk(folder):
            os.chmod(at, 0o755)


def test_reading_needs_no_write(experiment: Path) -> None:
    # A folder of its own, since pytest's are closed to others.
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        place = Path(name) / "one"
        shutil.copytree(experiment, place)
        with as_somebody_else(place):
            before = sorted(place.rglob("*"))
            assert len(read_search(ExperimentFolder(place)).trials) == 3
            assert "RandomSearch" in render_report(read_source(str(place)))
            assert sorted(place.rglob("*")) == before


DIGITS = {
    "space": {"type": "unet", "preset": "digits"},
    "data": {"source": "digits"},
    "evaluator": {
        "type": "diffusion", "extractor": "random", "training": {"steps": 1}, "score_images": 10, "sampler_steps": 1,
        "curve_points": 0,
    },
}  # fmt: skip


def test_a_colleagues_searches_are_reported_compared_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the commands, of folders that were moved and may only be read."""
    needed = (Path(sys.prefix), Path(nni_diffnas.__file__))
    if os.geteuid() == 0 and not all(at.stat().st_mode & 0o005 == 0o005 for place in needed for at in place.parents):
        pytest.skip("another user may not read this Python environment")
    with tempfile.TemporaryDirectory() as theirs, tempfile.TemporaryDirectory() as own:
        os.chmod(theirs, 0o755)
        os.chmod(own, 0o777)
        monkeypatch.setenv("NNI_DIFFNAS_CACHE", f"{own}/cache")
        for name in ("one", "two"):
            run_search(Job.model_validate(DIGITS), "RandomSearch", tmp_path / name, 1)
            shutil.move(tmp_path / name, f"{theirs}/moved-{name}")
        os.chmod(f"{own}/cache", 0o777)
        one, two = f"{theirs}/moved-one", f"{theirs}/moved-two"
        with as_somebody_else(Path(theirs)):
            for arguments, written in (
                (["report", one, "--output"], "report.html"),
                (["compare", one, two, "--output"], "compare.html"),
                (["export", one, "--to"], "pipeline"),
            ):
                done = command(Path(own), *arguments, written)
                assert (done.returncode, done.stderr) == (0, "")
                assert (Path(own) / written).exists()
            refused = command(Path(own), "export", one)
        assert refused.returncode == 2
        assert refused.stderr == (
            f"nni-diffnas: '{one}/winner' cannot be written (Permission denied): give another path.\n"
        )


def test_data_that_lies_elsewhere_on_this_machine_is_named_with_the_remedy(experiment: Path) -> None:
    search = read_search(ExperimentFolder(experiment))
    shutil.move(experiment.parents[1] / "table.npz", experiment.parents[1] / "moved.npz")
    with pytest.raises(
        JobError, match=r"space\.path of the search is '.*table\.npz', which is not on this machine: put it there"
    ):
        refuse_missing(search.job)
    (experiment.parents[1] / "table.npz").symlink_to("moved.npz")
    refuse_missing(search.job)


@pytest.mark.parametrize(
    ("table", "body"),
    [
        ("trials", "{"),
        ("trials", "[]"),
        ("trials", '{"id": 5}'),
        ("events", "x"),
        ("events", '{"job": {"space": 5}}'),
        ("spaces", '{"choices": 3}'),
    ],
)
def test_an_entry_that_no_search_writes_is_one_sentence(experiment: Path, table: str, body: str) -> None:
    with closing(sqlite3.connect(experiment / "memory.sqlite")) as rows:
        rows.execute(f"UPDATE {table} SET body = ?", [body])
        rows.commit()
    with pytest.raises(MemoryFileError, match="holds an entry that cannot be read"):
        render_report(read_source(str(experiment)))
