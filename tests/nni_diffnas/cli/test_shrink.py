"""``nni-diffnas shrink``: what it writes and refuses; a whole run is in tests/doors/test_blockwise_doors.py."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import yaml
from blockwise_teachers import save_teacher
from command import command
from nni_experiment import environment_of, free_port

from nni_diffnas.job import load_job
from nni_diffnas.search_spaces import BlockwiseUNetFamily


def shrink(folder: Path, *arguments: str) -> CompletedProcess[str]:
    environment = {
        "NNI_CONFIG_DIR": environment_of(folder)["NNI_CONFIG_DIR"],
        "NNI_DIFFNAS_CACHE": str(folder / "cache"),
    }
    return command(folder, "shrink", "teacher", *arguments, "--port", str(free_port()), environment=environment)


def test_a_dry_run_writes_checks_and_forecasts(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher")
    short = ("--images", "64", "--steps", "8", "--extractor", "random")
    done = shrink(tmp_path, "--data", "digits", "--macs", "0.6", "--params", "0.7", *short, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nni-diffnas run teacher-shrunk/config.yml" in done.stdout
    assert "FAIL" not in done.stdout
    folder = tmp_path / "teacher-shrunk"
    assert {file.name for file in folder.iterdir()} >= {"job.yml", "config.yml", "search_space.json"}
    whole = BlockwiseUNetFamily(tmp_path / "teacher").teacher_cost
    job = load_job(folder / "job.yml")
    windows = job.make_budget().windows
    assert windows["macs"].max == int(0.6 * whole.macs)
    assert windows["params"].max == int(0.7 * whole.params)
    assert job.evaluator.options["training"] == {"images": 64}
    assert job.evaluator.options["extractor"] == "random"
    assert yaml.safe_load((folder / "config.yml").read_text())["maxTrialNumber"] >= 7
    again = shrink(tmp_path, "--data", "digits", "--macs", "0.6", "--params", "0.7", *short, "--dry-run")
    assert again.returncode == 0, again.stdout + again.stderr
    other = shrink(tmp_path, "--data", "digits", "--dry-run")
    assert other.returncode == 2
    assert "holds other files of a search" in other.stderr
    (folder / "experiments").mkdir()
    begun = shrink(tmp_path, "--data", "digits", "--macs", "0.6", "--params", "0.7", *short)
    assert begun.returncode == 2
    assert "holds a search that has begun" in begun.stderr


def test_images_without_classes_are_scored_by_random_features_and_what_the_doctor_refuses_leaves_no_files(
    tmp_path: Path,
) -> None:
    save_teacher(tmp_path / "teacher")
    np.savez(tmp_path / "mine.npz", images=np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8))
    short = ("--data", "mine.npz", "--macs", "0.6", "--images", "64", "--steps", "8", "--dry-run")
    refused = shrink(tmp_path, *short, "--extractor", "labels")
    assert refused.returncode == 1
    assert "learns from labels, of which the data has 0 classes" in refused.stdout
    assert not list((tmp_path / "teacher-shrunk").iterdir())
    done = shrink(tmp_path, *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_job(tmp_path / "teacher-shrunk" / "job.yml").evaluator.options["extractor"] == "random"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "digits"), "no pipeline folder"),
        (("--data", "digits", "--seeds", "1"), "give 2 or more"),
    ],
)
def test_what_cannot_work_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = shrink(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "teacher-shrunk").exists()
