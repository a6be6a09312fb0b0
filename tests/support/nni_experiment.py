"""Starts, watches and stops real NNI experiments: own port, own configuration, own working directory, stopped by id."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from nni_diffnas.doors.register import register_tuners
from nni_diffnas.job import load_job

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """One experiment behind NNI's REST server."""

    port: int
    environment: Mapping[str, str]
    folder: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://localhost:{self.port}/api/v1/nni{path}", timeout=20) as answer:
            return json.load(answer)

    @property
    def id(self) -> str:
        return str(self.get("/experiment")["id"])

    @property
    def status(self) -> str:
        return str(self.get("/check-status")["status"])

    def wait(self, *statuses: str, timeout: float = 240) -> str:
        """Wait until the experiment has one of the statuses; fail with the log when it does not come."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if (status := self.status) in statuses:
                return status
            if status == "ERROR":  # it will not recover
                break
            time.sleep(0.5)
        logs = (*self.folder.glob("exp/*/log/*.log"), *self.folder.parent.glob("exp/*/log/*.log"))
        log = "\n".join(f.read_text()[-3000:] for f in logs)
        raise AssertionError(f"the experiment is {self.status} (within {timeout} s), not {statuses}:\n{log}")

    def trials(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.get("/trial-jobs")
        return listed

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.get(f"/metric-data/{job_id}")
        return listed


def run(command: list[str], environment: Mapping[str, str], folder: Path, timeout: float = 120) -> str:
    """Run one of the environment's commands and return what it printed; its failure fails the test."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env=dict(environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_script(folder: Path, script: str, timeout: float = 400) -> str:
    """Run a search from Python as its user does, as a script in a process of its own, and return what it printed.

    ``PORT`` in the script stands for a free port; a script that fails fails the test.
    """
    (folder / "search.py").write_text(script.replace("PORT", str(free_port())))
    return run([sys.executable, "search.py"], environment_of(folder), folder, timeout)


def environment_of(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "NNI_CONFIG_DIR": str(folder / "nni"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }


def write_config(folder: Path, job: Mapping[str, Any], **config: Any) -> Path:
    """Write job, search space and NNI config into the folder, and register the tuners for it."""
    (folder / "job.yml").write_text(yaml.safe_dump(dict(job)))
    space = load_job(folder / "job.yml").make_family().space.to_nni()
    (folder / "search_space.json").write_text(json.dumps(space))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNI_CONFIG_DIR", environment_of(folder)["NNI_CONFIG_DIR"])
        register_tuners()
    content = {
        "searchSpaceFile": "search_space.json",
        "trialCommand": "nni-diffnas trial job.yml",
        "trialCodeDirectory": ".",
        "trialConcurrency": 2,
        "maxTrialNumber": 4,
        "experimentWorkingDirectory": str(folder / "exp"),
        "trainingService": {"platform": "local"},
        **config,
    }
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(content))
    return file


def started(command: list[str], environment: Mapping[str, str], folder: Path) -> Running:
    """Start an experiment by ``nnictl``, again where NNI has killed a manager that took longer than three seconds."""
    for attempt in range(3):
        port = free_port()
        try:
            run([*command, "--port", str(port)], environment, folder)
            break
        except AssertionError:
            if attempt == 2:
                raise
    return Running(port, environment, folder)


@contextmanager
def created(config: Path) -> Iterator[Running]:
    """``nnictl create`` a config, and stop its experiment by id in the end."""
    folder = config.parent
    environment = environment_of(folder)
    running = started(["nnictl", "create", "--config", str(config)], environment, folder)
    identity = running.id
    try:
        yield running
    finally:
        run(["nnictl", "stop", identity], environment, folder)


@contextmanager
def resumed(identity: str, folder: Path) -> Iterator[Running]:
    """``nnictl resume`` a stopped experiment, and stop it again in the end."""
    environment = environment_of(folder)
    try:
        yield started(["nnictl", "resume", identity, "--experiment_dir", str(folder / "exp")], environment, folder)
    finally:
        run(["nnictl", "stop", identity], environment, folder)
