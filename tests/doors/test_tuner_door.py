"""Real ``nnictl create`` runs: the tuner, the trials, the memory, and what is left when they end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from nni_experiment import BIN, created, environment_of, resumed, run, write_config

from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.results.read import read_search

pytestmark = pytest.mark.nni

TOY = {
    "space": {"type": "mlp"},
    "evaluator": {"type": "denoise2d", "steps": 20},
    "objective": {"metric": "error", "direction": "minimize"},
    "seed": 1,
}


def tuner(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "classArgs": {"job": "job.yml", "optimize_mode": "minimize", **arguments}}


def test_digits_search_reaches_done_and_leaves_a_pipeline(tmp_path: Path) -> None:
    job = {
        "space": {"type": "unet", "preset": "digits"},
        "data": {"source": "digits"},
        "evaluator": {
            "type": "diffusion",
            "training": {"images": 512},
            "score_images": 64,
            "sampler_steps": 4,
            "curve_points": 2,
            "curve_images": 32,
        },
        "budget": {"params": {"max": 400_000}},
    }
    config = write_config(tmp_path, job, maxTrialNumber=3, tuner=tuner("RegularizedEvolution", population=2, sample=1))
    with created(config) as experiment:
        experiment.wait("DONE")
        trials = experiment.trials()
        identity = experiment.id
        assert [trial["status"] for trial in trials] == ["SUCCEEDED"] * 3
        for trial in trials:
            final = json.loads(json.loads(trial["finalMetricData"][0]["data"]))
            assert final["default"] == final["rfid"] > 0
            assert {"macs", "params", "seconds", "loss"} <= final.keys()
            parameters = json.loads(trial["hyperParameters"][0])["parameters"]
            assert {"level0.width", "level1.depth", "run.trial"} <= parameters.keys()
            curve = [m for m in experiment.metrics(trial["trialJobId"]) if m["type"] == "PERIODICAL"]
            assert len(curve) == 2
    folder = ExperimentFolder(tmp_path / "exp" / identity)
    search = read_search(folder)
    succeeded = [trial for trial in search.trials if trial.status == "succeeded"]
    assert len(succeeded) == 3
    assert search.best.metrics["rfid"] == min(trial.metrics["rfid"] for trial in succeeded)
    assert next(trial.origin.kind for trial in search.trials) == "default"
    assert (folder.path / "winner" / "samples.png").is_file()
    # The tuner has exported the winner; a process that cannot import us draws with it.
    script = (
        "import sys; sys.modules['nni_diffnas'] = None\n"
        "from diffusers import DDPMPipeline\n"
        f"pipeline = DDPMPipeline.from_pretrained({str(folder.path / 'winner')!r}, trust_remote_code=True)\n"
        "pipeline.set_progress_bar_config(disable=True)\n"
        "image = pipeline(batch_size=1, num_inference_steps=2).images[0]\n"
        "assert image.size == (8, 8), image.size\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120, cwd=tmp_path)
    exported = run(["nni-diffnas", "export", str(folder.path), "--to", "again"], environment_of(tmp_path), tmp_path)
    assert "again" in exported
    assert (tmp_path / "again" / "unet" / "diffusion_pytorch_model.safetensors").is_file()


@pytest.mark.slow
def test_a_job_that_always_fails_ends_after_five_failures(plugin_site: Path, tmp_path: Path) -> None:
    job = {**TOY, "space": {"type": "mlp", "widths": [8]}, "evaluator": {**TOY["evaluator"], "fail_width": 8}}
    config = write_config(tmp_path, job, maxTrialNumber=50, tuner=tuner("RandomSearch"))
    with created(config) as experiment:
        experiment.wait("DONE")
        assert 5 <= len(experiment.trials()) <= 7


@pytest.mark.slow
def test_an_exhausted_space_ends_the_experiment(plugin_site: Path, tmp_path: Path) -> None:
    job = {**TOY, "space": {"type": "mlp", "widths": [8], "depths": [1]}}
    config = write_config(tmp_path, job, maxTrialNumber=50, tuner=tuner("RandomSearch"))
    with created(config) as experiment:
        experiment.wait("DONE")
        assert len(experiment.trials()) == 2


def test_failed_trials_keep_their_reason_and_a_resume_loses_and_repeats_none(plugin_site: Path, tmp_path: Path) -> None:
    job = {
        **TOY,
        "space": {"type": "mlp", "widths": [8, 16]},
        "evaluator": {**TOY["evaluator"], "fail_width": 16, "seconds": 1.0},
    }
    config = write_config(tmp_path, job, maxTrialNumber=6, tuner=tuner("CheapestFirst"))
    with created(config) as experiment:
        identity = experiment.id
        memory_file = tmp_path / "exp" / identity / "memory.sqlite"
        while sum(trial["status"] in ("SUCCEEDED", "FAILED") for trial in experiment.trials()) < 2:
            experiment.wait("RUNNING", "NO_MORE_TRIAL")
            time.sleep(0.3)
    with SearchMemory(memory_file, create=False) as memory:
        before = {trial.id: trial for trial in memory.trials() if trial.status != "pending"}
    assert before
    with resumed(identity, tmp_path) as experiment:
        experiment.wait("DONE")
    with SearchMemory(memory_file, create=False) as memory:
        after = [trial for trial in memory.trials() if trial.status != "pending"]  # NNI asks for more than it starts
    assert len({json.dumps(trial.architecture) for trial in after}) == len(after) == 6
    assert all(trial == before[trial.id] for trial in after if trial.id in before)
    for trial in after:
        broken = trial.architecture["layer0.width"] == 16
        assert trial.status == ("failed" if broken else "succeeded")
        assert ("not finite" in trial.reason) == broken
    assert {trial.status for trial in after} == {"failed", "succeeded"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"optimize_mode": "maximize"}, "optimize_mode"),
        ({"job": "nonesuch.yml"}, "nonesuch.yml"),
        ({"populatoin": 3}, "populatoin"),
    ],
)
def test_bad_class_arguments_end_as_error_with_one_sentence(
    arguments: dict[str, Any], said: str, plugin_site: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, TOY, tuner=tuner("RegularizedEvolution", **arguments))
    doctor = subprocess.run(
        [str(BIN / "nni-diffnas"), "doctor", str(config)],
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert doctor.returncode == 1
    assert [said in line for line in doctor.stdout.splitlines() if line.startswith("FAIL")] == [True]
    with created(config) as experiment:
        experiment.wait("ERROR", timeout=60)
        assert experiment.trials() == []
        identity = experiment.id
    log = (tmp_path / "exp" / identity / "log" / "nnictl_stderr.log").read_text()
    assert said in log
