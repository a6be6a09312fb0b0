"""Trials that crash, hang, diverge, lack memory or disk, are killed, or report twice or never: one real search."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nni_experiment import created, environment_of, run, write_config

from nni_diffnas.api.trial import Objective
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.searching.ranking import Outcome

pytestmark = [pytest.mark.nni, pytest.mark.slow]

# A trial without torch; what befalls it is decided by its number.
TRIAL = """
import os, resource, signal, sys, time
import numpy as np
import nni
from nni_diffnas.trial import run
from nni_diffnas.api.errors import DiffNASError
from nni_diffnas.evaluators.tabular import TabularEvaluation
from nni_diffnas.job import load_job
from nni_diffnas.table import load_table

def evaluate(self, model, context):
    fault = FAULTS[context.architecture["number"]]
    if fault == "crash":
        raise KeyError("layer7")
    if fault == "death":
        os._exit(7)
    if fault == "hang":
        time.sleep(600)
    if fault == "nan":
        return {"rfid": float("nan")}
    if fault == "memory":
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
        np.ones(2**30)
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        (context.output / "model.safetensors").write_bytes(bytes(2**20))
    if fault == "corrupt":
        (context.output / "data.npz").write_bytes(b"PK no archive")
        load_table(context.output / "data.npz")
    if fault == "never":
        sys.exit(0)
    if fault == "twice":
        nni.report_final_result({"default": 99.0, "rfid": 99.0})
    return {"rfid": 1.0 + context.architecture["number"]}

run.build_seeded = lambda *given: None
TabularEvaluation.evaluate = evaluate
try:
    run.run_trial(load_job("job.yml"))
except DiffNASError as error:
    sys.exit(f"nni-diffnas: the trial failed: {error}")
"""
# Five failures in a row, in the order in which they end, would end the search.
FAULTS = [
    *("crash", "death", ""),
    *("hang", "nan", ""),
    *("memory", "killed", ""),
    *("disk", "corrupt", ""),
    *("never", "twice"),
]
REASONS = {
    "crash": "KeyError: 'layer7'",
    "death": "before it could say why",
    "hang": "max_trial_seconds: 20",
    "nan": "rfid is nan",
    "memory": "out of memory",
    "killed": "was killed",
    "disk": "the disk is full",
    "corrupt": "data.npz",
    "never": "without reporting",
}


def write_search(folder: Path, faults: list[str], before: str = "", **config: Any) -> Path:
    numbers = np.arange(len(faults))[:, None]
    np.savez(
        folder / "table.npz",
        labels=["number"],
        choices=numbers,
        metrics=["rfid", "macs"],
        values=np.hstack([numbers + 1.0, numbers + 1.0]),
        maximize=False,
    )
    (folder / "trial.py").write_text(TRIAL.replace("FAULTS", repr(faults), 1).replace("try:", before + "try:", 1))
    job = {
        "space": {"type": "table", "path": "table.npz"},
        "data": {"path": "table.npz"},
        "evaluator": {"type": "tabular"},
        "max_trial_seconds": 20,
    }
    arguments = {"job": "job.yml", "optimize_mode": "minimize", "train_first": "none"}
    return write_config(
        folder,
        job,
        trialCommand=f"{sys.executable} trial.py",
        tuner={"name": "CheapestFirst", "classArgs": arguments},
        **config,
    )


def test_every_fault_is_recorded_with_its_reason_and_the_search_goes_on(plugin_site: Path, tmp_path: Path) -> None:
    config = write_search(tmp_path, FAULTS, maxTrialNumber=len(FAULTS), trialConcurrency=2)
    with created(config) as experiment:
        experiment.wait("DONE", timeout=600)
        jobs = {job["trialJobId"]: job for job in experiment.trials()}
        folder = ExperimentFolder(tmp_path / "exp" / experiment.id)
        with SearchMemory(folder.memory, create=False) as memory:
            until = time.monotonic() + 30  # a silent trial counts as failed ten seconds after its end
            while memory.trials(status="pending") and time.monotonic() < until:
                time.sleep(0.5)
    with SearchMemory(folder.memory, create=False) as memory:
        trials = {int(trial.architecture["number"]): trial for trial in memory.trials()}
    assert len(jobs) == len(trials) == len(FAULTS)
    for number, fault in enumerate(FAULTS):
        trial = trials[number]
        if fault not in REASONS:
            assert trial.status == "succeeded", trial
            continue
        assert trial.status == "failed", trial
        assert REASONS[fault] in trial.reason, trial
    # What NNI's web UI shows behind "View trial error".
    shown = [
        (output / "trial.stderr").read_text()
        for output in (folder.job_output(job) for job in jobs)
        if output is not None
    ]
    for sign in ("layer7", "max_trial_seconds: 20", "rfid is nan", "File too large", "data.npz"):
        assert any(sign in text for text in shown), sign
    ranked = Outcome.of(list(trials.values()), Objective("rfid", "minimize")).ranked
    assert ranked[0].architecture["number"] == FAULTS.index("")


def test_five_faults_in_a_row_end_the_search_and_say_why(plugin_site: Path, tmp_path: Path) -> None:
    config = write_search(tmp_path, ["", *["nan"] * 30], maxTrialNumber=30, trialConcurrency=1)
    with created(config) as experiment:
        experiment.wait("DONE", timeout=300)
        identity, jobs = experiment.id, experiment.trials()
    assert 6 <= len(jobs) <= 8
    said = (tmp_path / "exp" / identity / "log" / "nnictl_stdout.log").read_text()
    assert "the search ends: 5 trials in a row failed, the last because: rfid is nan" in said


def test_records_are_right_where_nni_swaps_two_trials_and_a_finished_search_goes_on(
    plugin_site: Path, tmp_path: Path
) -> None:
    # NNI gives the first parameters to whichever of two jobs asks first: here always to the second.
    late = 'if os.environ["NNI_TRIAL_SEQ_ID"] == "0":\n    time.sleep(6)\n'
    config = write_search(tmp_path, ["", "crash", "", "", "", ""], late, maxTrialNumber=2, trialConcurrency=2)
    with created(config) as experiment:
        experiment.wait("DONE", timeout=300)
        folder = ExperimentFolder(tmp_path / "exp" / experiment.id)
        shown = {
            json.loads(job["hyperParameters"][0])["parameters"]["number"]: job["status"] for job in experiment.trials()
        }
        update = ["nnictl", "update", "trialnum", experiment.id, "--value", "4"]
        run(update, environment_of(tmp_path), tmp_path)
        until = time.monotonic() + 120
        while len(experiment.trials()) < 4 and time.monotonic() < until:
            time.sleep(0.5)
        experiment.wait("DONE", timeout=120)
        jobs = [job["trialJobId"] for job in experiment.trials()]
    assert shown == {0: "FAILED", 1: "SUCCEEDED"}, "NNI has not swapped them"
    with SearchMemory(folder.memory, create=False) as memory:
        trials = {int(trial.architecture["number"]): trial for trial in memory.trials() if trial.status != "pending"}
    assert len(jobs) == len(trials) == 4
    assert trials[0].metrics["rfid"] == 1.0
    assert trials[1].status == "failed"
    assert "layer7" in trials[1].reason
    for trial in trials.values():
        assert trial.status == "failed" or trial.metrics["rfid"] == 1.0 + int(trial.architecture["number"])
        if trial.job_id:
            assert folder.trial_result(trial.job_id)["trial"] == trial.id
