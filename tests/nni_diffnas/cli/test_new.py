"""``nni-diffnas new``: the files that it writes, what it asks and refuses."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from command import command

from nni_diffnas.api.errors import JobError
from nni_diffnas.cli.new import _seconds
from nni_diffnas.doors.doctor import check_config
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import load_job

NEW = [sys.executable, "-m", "nni_diffnas.cli", "new"]
TINY = ("--trials", "2", "--images-per-trial", "128")
FROM_THE_JOB = ("job", "optimize_mode")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels)
    return tmp_path


def new(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "new", *arguments)


def test_what_is_written_passes_the_doctor_and_runs_to_its_end(folder: Path) -> None:
    done = new(folder, "mine", "--images", "images.npz", "--budget", "1", *TINY, "--strategy", "RandomSearch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "nni-diffnas run mine/config.yml"
    assert "200 images of 4x4 pixels" in done.stdout
    assert "2 trials of 128 images" in done.stdout
    mine = folder / "mine"
    assert {file.name for file in mine.iterdir()} == {"job.yml", "config.yml", "search_space.json"}
    assert "# What ranks networks" in (mine / "job.yml").read_text()
    assert [found for found in check_config(mine / "config.yml", 8099) if found.level == "FAIL"] == []
    config, job = yaml.safe_load((mine / "config.yml").read_text()), load_job(mine / "job.yml")
    options = {name: value for name, value in config["tuner"]["classArgs"].items() if name not in FROM_THE_JOB}
    trials = run_search(job, config["tuner"]["name"], folder / "run", config["maxTrialNumber"], options)
    assert len(trials) == 2
    assert all("held_out_loss" in trial.metrics for trial in trials if not trial.reason)


def test_names_with_spaces_and_line_breaks_end_up_in_files_that_can_be_read_and_commands_that_can_be_pasted(
    folder: Path,
) -> None:
    home = folder / "my search\n1: 2"
    done = new(folder, home.name, "--images", "images.npz", "--budget", "1\n", *TINY, "--strategy", "RandomSearch")
    assert done.returncode == 0, done.stderr
    assert shlex.split(done.stdout.partition("Then:\n")[2]) == ["nni-diffnas", "run", f"{home.name}/config.yml"]
    assert 1 not in yaml.safe_load((home / "config.yml").read_text())
    assert load_job(home / "job.yml").budget["macs"].max == 1_468_928


def test_a_terminal_is_asked_for_what_is_missing(folder: Path) -> None:
    ours, theirs = pty.openpty()
    asked = subprocess.Popen([*NEW, *TINY], cwd=folder, stdin=theirs, stdout=subprocess.PIPE, text=True)
    os.write(ours, b"asked\nimages.npz\n\n")
    said, _ = asked.communicate(timeout=600)
    assert asked.returncode == 0, said
    assert "Images (a folder, an archive, an .npz, or digits)" in said
    assert "asked for was 0.5 of that" in (folder / "asked" / "job.yml").read_text()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("1h30m", 90), ("2h15min", 135), ("2hours30minutes", 150), ("1 h 30 m", 90), ("1h 5m", 65), ("1.5h", 90),
        ("90m", 90), ("90 min", 90), (".5H", 30), ("1hr", 60),
    ],
)  # fmt: skip
def test_a_time_is_what_people_write(text: str, minutes: float) -> None:
    assert _seconds(text) == 60 * minutes


@pytest.mark.parametrize("text", ["1h30", "30ms", "2months", "3mb", "1h1h", "1,5h", "90", "", "h", "0h"])
def test_a_time_is_not_guessed_at(text: str) -> None:
    with pytest.raises(JobError, match="give hours and minutes, such as 2h, 90m or 1h30m"):
        _seconds(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--images", "images.npz", *TINY), "FOLDER is missing, and there is no terminal to ask for it"),
        (("mine", "--budget", "0.5", *TINY), "--images is missing, and there is no terminal"),
        (("mine", "--images", "images.npz", "--budget", "0.5"), "--time is missing, and there is no terminal"),
        ((".", "--images", "images.npz"), "'.' is not an empty folder: give another one"),
        (("mine", "--images", "images.npz", "--budget", "0.5", "--time", "2 days"), "The time is '2 days': give hours"),
        (("mine", "--images", "images.npz", "--budget", "2", *TINY), "The budget is '2': give a part"),
        (
            ("mine", "--images", "~nobody-of-this-name", "--budget", "1", *TINY),
            "~nobody-of-this-name' is neither a file",
        ),
        (
            ("mine", "--images", "images.npz", "--budget", "1", "--time", "9" * 400 + "h", "--trials", "2"),
            "The time is inf hours: give more than none, and at most",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = new(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [file.name for file in folder.iterdir()] == ["images.npz"]
