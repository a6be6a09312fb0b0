"""What version 0.1 recorded still opens, resumes, reports, exports, is judged, and warms the next search."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni_experiment import free_port, run, started
from version_0_1 import Recorded, unpack

from nni_diffnas.doors.in_process import run_search
from nni_diffnas.evaluators.diffusion import RULES_OF_0_1
from nni_diffnas.job import load_job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import find_experiment
from nni_diffnas.results.read import read_search

FINISHED = ("tuner", "python")
ALL = (*FINISHED, "tuner_interrupted", "python_interrupted")
RFID: dict[str, dict[str, float | None]] = {
    "tuner": {
        "wdrjlapi-0000": 62.59836891022047,
        "wdrjlapi-0001": 61.241368356266065,
        "wdrjlapi-0002": 62.446766911507495,
        "wdrjlapi-0003": 61.435678320307346,
    },
    "tuner_interrupted": {
        "acoxw8mh-0000": 69.579661294602,
        "acoxw8mh-0001": 71.18941422728236,
        "acoxw8mh-0002": None,
    },
    "python": {
        "m1htq9oj-0000": 70.6781089083043,
        "m1htq9oj-0001": 72.02279037443654,
        "m1htq9oj-0002": 71.70871575231556,
    },
    "python_interrupted": {
        "interrupt-0000": 70.6781089083043,
        "interrupt-0001": 72.05220096417511,
        "interrupt-0002": None,
    },
    "memory": {
        "guided-0000": 70.6781089083043,
        "guided-0001": 69.36519504029346,
        "guided-0002": 70.91777617394834,
        "guided-0003": 71.59122884524058,
        "replay-0000": 70.6781089083043,
        "replay-0001": 72.1659975177152,
        "replay-0002": 70.12578503986018,
    },
}
"""Every trial of the recordings with its score; ``None`` where it had none when the processes were killed."""

WINNER = {
    "tuner": "wdrjlapi-0001",
    "tuner_interrupted": "acoxw8mh-0001",
    "python": "m1htq9oj-0002",
    "python_interrupted": "interrupt-0001",
}

PREDICTED = {
    "tuner": [0.044684, 0.108733, 0.089602, 0.087645, 0.085542, 0.082989, 0.089304, 0.064683],
    "python": [0.016074, 0.019057, 0.003899, 0.004351, 0.004433, 0.005172, 0.00501, -0.005666],
}
"""Of the winner's pipeline as version 0.1 exported it: what its network predicts of `PREDICT`'s input."""

PREDICT = """
import sys, torch
from diffusers import DDPMPipeline
pipeline = DDPMPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
noisy = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
with torch.no_grad():
    print([round(float(value), 6) for value in pipeline.unet(noisy, 500).sample[0, 0, 0]])
pipeline.set_progress_bar_config(disable=True)
assert pipeline(batch_size=1, num_inference_steps=2).images[0].size == (8, 8)
"""


@pytest.fixture
def recording(tmp_path: Path) -> Callable[[str], Recorded]:
    return lambda name: unpack(name, tmp_path / "recorded")


def run_command(recorded: Recorded, *arguments: str) -> str:
    # In a process of its own: NNI looks once where its experiments are listed.
    done = subprocess.run(
        [sys.executable, "-m", "nni_diffnas.cli", *arguments],
        cwd=recorded.folder,
        env={**os.environ, **recorded.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def predicted(pipeline: Path) -> list[float]:
    """What a process predicts that loads the pipeline with diffusers, and has no nni-diffnas."""
    script = f"import sys; sys.modules['nni_diffnas'] = None\n{PREDICT}"
    done = subprocess.run(
        [sys.executable, "-c", script, str(pipeline)], check=True, timeout=900, stdout=subprocess.PIPE, text=True
    )
    values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return values


@pytest.mark.parametrize("name", ALL)
def test_the_search_is_read_as_it_was_recorded(recording: Callable[[str], Recorded], name: str) -> None:
    recorded = recording(name)
    rows = recorded.rows()
    search = read_search(find_experiment(str(recorded.experiment)))
    assert {trial.id: trial.metrics.get("rfid") for trial in search.trials} == RFID[name]
    assert search.best.id == WINNER[name]
    for trial, row in zip(search.trials, rows, strict=True):
        assert (trial.status, trial.architecture) == (row["status"], row["architecture"])
        assert (trial.protocol, trial.job_id, trial.seconds) == (row["protocol"], row["job_id"], row["seconds"])
        assert trial.metrics == row["metrics"]
        assert (trial.origin.kind, trial.origin.parent) == (row["origin"]["kind"], row["origin"]["parent"])
        assert trial.cost is not None
        assert (trial.cost.macs, trial.cost.params) == (row["cost"]["macs"], row["cost"]["params"])
    assert search.job.space.type == "unet"


@pytest.mark.parametrize("name", ["tuner", pytest.param("python", marks=pytest.mark.slow)])
def test_export_by_id_and_report_by_folder(recording: Callable[[str], Recorded], name: str) -> None:
    recorded = recording(name)
    run_command(recorded, "export", recorded.id, "--to", "pipeline")
    assert predicted(recorded.folder / "pipeline") == pytest.approx(PREDICTED[name], abs=1e-4)
    run_command(recorded, "report", str(recorded.experiment), "--output", "report.html")
    page = (recorded.folder / "report.html").read_text()
    assert all(trial in page for trial in RFID[name])
    assert page.count("data:image/png") >= 1, "the samples of the trials are found"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tuner", "python"])
def test_verdict(recording: Callable[[str], Recorded], name: str) -> None:
    recorded = recording(name)
    verdict = ["nni-diffnas", "verdict", recorded.id, "--seeds", "2", "--workers", "1"]
    told = run(verdict, recorded.environment, recorded.folder, timeout=900)
    assert "rfid on held-out images, 2 fresh seeds" in told
    found = json.loads((recorded.experiment / "verdict" / "verdict.json").read_text())
    winner = found["networks"][0]
    assert winner["trial"] == WINNER[name]
    costs = {row["id"]: row["cost"] for row in recorded.rows()}
    assert winner["cost"] == costs[WINNER[name]]
    assert {"winner", "default"} <= {network["name"] for network in found["networks"]}
    assert all(len(network["scores"]) == 2 for network in found["networks"])


def assert_gone_on(recorded: Recorded, name: str, count: int) -> None:
    """The trials that had ended are as they were, the interrupted one has ended, and the rest followed."""
    after = recorded.rows()
    assert [row["status"] for row in after if row["status"] != "pending"] == ["succeeded"] * count
    assert {row["id"] for row in after} >= RFID[name].keys()
    before = {row["id"]: row for row in unpack(name, recorded.folder.with_name("untouched")).rows()}
    for row in after:
        if row["id"] in before:
            assert row["architecture"] == before[row["id"]]["architecture"]
        if before.get(row["id"], row)["status"] == "succeeded" and row["id"] in before:
            assert row == before[row["id"]], "what had been measured is not measured again"
    ended = [json.dumps(row["architecture"]) for row in after if row["status"] == "succeeded"]
    assert len(set(ended)) == count
    with closing(sqlite3.connect(recorded.experiment / "db" / "nni.sqlite")) as records:
        ran = records.execute("SELECT trialJobId FROM TrialJobEvent WHERE event = 'SUCCEEDED'").fetchall()
    assert len({job for (job,) in ran}) == len(ran) == count


@pytest.mark.nni
def test_an_interrupted_search_of_nnictl_is_resumed(recording: Callable[[str], Recorded]) -> None:
    recorded = recording("tuner_interrupted")
    try:
        started(["nnictl", "resume", recorded.id], recorded.environment, recorded.folder).wait("DONE", timeout=400)
    finally:
        run(["nnictl", "stop", recorded.id], recorded.environment, recorded.folder)
    assert_gone_on(recorded, "tuner_interrupted", 4)
    assert (recorded.experiment / "winner" / "model_index.json").is_file()


@pytest.mark.nni
def test_an_interrupted_search_from_python_is_resumed_by_its_own_script(recording: Callable[[str], Recorded]) -> None:
    recorded = recording("python_interrupted")
    script = [sys.executable, "search.py", str(free_port()), "3", recorded.id, "resume"]
    run(script, recorded.environment, recorded.folder, timeout=400)
    assert_gone_on(recorded, "python_interrupted", 3)


def test_a_memory_of_several_strategies_is_read_and_reported(recording: Callable[[str], Recorded]) -> None:
    recorded = recording("memory")
    with SearchMemory(recorded.memory, create=False) as memory:
        assert {trial.id: trial.metrics["rfid"] for trial in memory.trials()} == RFID["memory"]
        assert list(dict.fromkeys(event.experiment for event in memory.events())) == ["guided", "replay"]
        origins = [(trial.origin.strategy, trial.origin.kind) for trial in memory.trials()]
    assert origins == [(row["origin"]["strategy"], row["origin"]["kind"]) for row in recorded.rows()]
    assert ("DiffusionGuided", "guided") in origins
    assert ("GPTProposer", "proposal") in origins
    run_command(recorded, "report", "memory.sqlite", "--output", "report.html")
    page = (recorded.folder / "report.html").read_text()
    assert all(trial in page for trial in RFID["memory"])


@pytest.mark.slow
def test_a_memory_warms_the_next_search(recording: Callable[[str], Recorded], tmp_path: Path) -> None:
    recorded = recording("memory")
    job: dict[str, Any] = yaml.safe_load((recorded.folder / "job.yml").read_text())
    # The rules of version 0.1: trials are ranked together where their scores mean the same.
    data = {**job["data"], **RULES_OF_0_1}
    job = {**job, "memory": None, "warm_start": [str(recorded.memory)], "seed": 1, "data": data}
    (tmp_path / "job.yml").write_text(yaml.safe_dump(job))
    options = {"unguided": 4, "training_steps": 5, "candidates": 16}
    (first,) = run_search(load_job(tmp_path / "job.yml"), "DiffusionGuided", tmp_path / "next", 1, options)
    assert first.origin.kind == "guided", "seven scores are known: the first trial is not one of the unguided four"
    assert first.status == "succeeded"
    with SearchMemory(recorded.memory, create=False) as untouched:
        assert {trial.id: trial.metrics["rfid"] for trial in untouched.trials()} == RFID["memory"]
