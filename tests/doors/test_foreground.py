"""``nni-diffnas run``: a real search in a process of its own, on machines where ``nnictl create`` dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from nni_experiment import BIN, environment_of, free_port, write_config

from nni_diffnas.memory import SearchMemory

JOB = {
    "space": {"type": "mlp"},
    "evaluator": {"type": "denoise2d", "steps": 20, "seconds": 0.5},
    "objective": {"metric": "error", "direction": "minimize"},
    "seed": 1,
}
TUNER = {"name": "RandomSearch", "classArgs": {"job": "job.yml", "optimize_mode": "minimize"}}

SLOW = """
const fs = require('fs');
const before = fs.existsSync('FILE') ? Number(fs.readFileSync('FILE')) : 0;
fs.writeFileSync('FILE', String(before + 1));
if (before === 0) process.exit(3);
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 6000);
"""
"""Of a busy machine: NNI's manager dies at its first start, and takes six seconds at its second."""

SLOW_TUNER = """
import sys, time
if sys.orig_argv[1:3] == ["-m", "nni"]:
    time.sleep(12)
"""
"""Of a busy machine: the process of the tuner takes longer than the ten seconds that NNI's manager gives it."""


def started(config: Path, port: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(BIN / "nni-diffnas"), "run", str(config), "--port", str(port)],
        env={**environment_of(config.parent), **environment},
        cwd=config.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def heard(process: subprocess.Popen[str], sign: str) -> str:
    """What it says up to the line that holds a sign."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if sign in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def succeeded(folder: Path) -> int:
    (file,) = folder.glob("exp/[!_]*/memory.sqlite")  # beside NNI's link _latest
    with SearchMemory(file, create=False) as memory:
        return sum(trial.status == "succeeded" for trial in memory.trials())


@pytest.mark.nni
def test_a_busy_machine_is_waited_for_and_the_search_followed_to_its_end(plugin_site: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, JOB, maxTrialNumber=3, logLevel="warning", tuner=TUNER)
    (tmp_path / "slow.js").write_text(SLOW.replace("FILE", str(tmp_path / "starts")))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW_TUNER)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ["PYTHONPATH"]])
    process = started(config, free_port(), NODE_OPTIONS=f"--require {tmp_path / 'slow.js'}", PYTHONPATH=path)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert (tmp_path / "starts").read_text() == "2"
    assert said.count("trying again") == 1
    assert "Traceback" not in said
    assert "[3/3]" in said
    assert "best architecture" in said
    assert succeeded(tmp_path) == 3


@pytest.mark.nni
def test_an_interrupted_search_says_how_it_goes_on_and_leaves_no_process(plugin_site: Path, tmp_path: Path) -> None:
    job = {**JOB, "evaluator": {**JOB["evaluator"], "seconds": 2.0}}
    config = write_config(tmp_path, job, maxTrialNumber=20, trialConcurrency=1, logLevel="warning", tuner=TUNER)
    process = started(config, free_port())
    heard(process, "[1/20]")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "nnictl resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert succeeded(tmp_path) >= 1


@pytest.mark.nni
@pytest.mark.slow
def test_a_manager_that_dies_is_named(plugin_site: Path, tmp_path: Path) -> None:
    job = {**JOB, "evaluator": {**JOB["evaluator"], "seconds": 2.0}}
    config = write_config(tmp_path, job, maxTrialNumber=20, trialConcurrency=1, logLevel="warning", tuner=TUNER)
    process = started(config, free_port())
    heard(process, "[1/20]")
    next(child for child in psutil.Process(process.pid).children() if child.name().startswith("node")).kill()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "NNI's manager ended with code -9" in said
    assert "Traceback" not in said


HANGUP = """
import os, signal
from nni_diffnas.doors.foreground import interruptible
signal.signal(signal.SIGHUP, signal.ACTION)
try:
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
        print("went on")
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(("action", "said"), [("SIG_DFL", "stopped"), ("SIG_IGN", "went on")])
def test_a_closed_terminal_stops_a_search_unless_nohup_says_otherwise(action: str, said: str) -> None:
    script = HANGUP.replace("ACTION", action)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == f"{said}\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"tuner": {**TUNER, "name": "Nonesuch"}}, "'Nonesuch' is none of ours"), ({"maxTrialNumber": "few"}, "few")],
)
def test_what_the_doctor_refuses_is_not_started(
    changes: dict[str, Any], said: str, plugin_site: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, JOB, tuner=TUNER)
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), **changes}))
    process = started(config, free_port())
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert [said in line for line in printed.splitlines() if line.startswith("FAIL")] == [True]
    assert not (tmp_path / "exp").exists()
