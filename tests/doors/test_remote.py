"""NNI's remote training service on two hosts: code there, results and weights back; and how evenly they work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from nni_experiment import Running, created, environment_of, run, write_config
from ssh_hosts import missing, ssh_hosts

from nni_diffnas.api.errors import JobError
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.results.read import WEIGHTS, read_search
from nni_diffnas.results.remote import fetch_output

pytestmark = [
    pytest.mark.nni,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "OpenSSH is here"),
]

JOB = {
    "space": {"type": "shipped", "preset": "digits"},
    "data": {"source": "digits"},
    "evaluator": {
        "type": "diffusion",
        "training": {"images": 256},
        "score_images": 32,
        "sampler_steps": 2,
        "curve_points": 1,
        "curve_images": 16,
    },
}


def ship_a_space(folder: Path) -> Path:
    """A plug-in as ``pip install --target`` leaves it; it travels with the trials' code."""
    site = folder / "site"
    (site / "shipped-1.0.dist-info").mkdir(parents=True)
    (site / "shipped.py").write_text(
        "from nni_diffnas.search_spaces.unet.family import UNetFamily\n\n\nclass Shipped(UNetFamily):\n    pass\n"
    )
    (site / "shipped-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: shipped\nVersion: 1.0\n")
    (site / "shipped-1.0.dist-info" / "entry_points.txt").write_text(
        "[nni_diffnas.spaces]\nshipped = shipped:Shipped\n"
    )
    return site


def test_a_search_on_two_hosts_brings_results_and_weights_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    code.mkdir()
    site = ship_a_space(code)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    tuner = {"name": "RandomSearch", "classArgs": {"job": "job.yml", "optimize_mode": "minimize"}}
    with ssh_hosts(tmp_path / "hosts", 2) as machines:
        config = write_config(
            code,
            JOB,
            maxTrialNumber=3,
            trialCommand="PYTHONPATH=site nni-diffnas trial job.yml",
            nniManagerIp="127.0.0.1",
            experimentWorkingDirectory=str(tmp_path / "exp"),
            trainingService={"platform": "remote", "reuseMode": True, "machineList": machines},
            tuner=tuner,
        )
        with created(config) as experiment:
            check(experiment, tmp_path)
            folder = ExperimentFolder(tmp_path / "exp" / experiment.id)
        search = read_search(folder)
        others = Path("/tmp/nni-experiments") / folder.id
        try:
            assert [trial.status for trial in search.trials] == ["succeeded"] * 3
            assert (folder.path / "winner" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
            fetched = folder.job_output(search.best.job_id)
            assert fetched is not None
            there = others / "trials" / search.best.job_id / "nnioutput"
            assert (fetched / WEIGHTS).read_bytes() == (there / WEIGHTS).read_bytes()
            assert json.loads((fetched / "result.json").read_text())["trial"] == search.best.id
            # After the experiment, another one than the winner.
            last = search.outcome.ranked[-1]
            assert not list(folder.path.rglob(f"{last.job_id}/{WEIGHTS}"))
            run(
                ["nni-diffnas", "export", str(folder.path), "--trial", last.id, "--to", "last"],
                environment_of(code),
                code,
            )
            assert (code / "last" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
            assert fetch_output(folder, "../../../etc") is None
            assert fetch_output(folder, "nonesuch") is None
        finally:
            shutil.rmtree(others, ignore_errors=True)


def check(experiment: Running, folder: Path) -> None:
    experiment.wait("DONE", timeout=500)
    jobs: list[dict[str, Any]] = experiment.trials()
    assert len({job["message"].split("environment: ")[1] for job in jobs}) == 2, "one host has done it all"


def test_machines_with_passwords_are_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "nni_diffnas.results.remote.machines_of", lambda folder: [{"host": "h", "user": "u", "password": "p"}]
    )
    with pytest.raises(JobError, match="sshKeyFile"):
        fetch_output(ExperimentFolder(tmp_path), "abc")
