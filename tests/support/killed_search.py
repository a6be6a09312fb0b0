"""Searches that are killed at random moments and resumed until they are done, and what that has cost.

As a script: ``python tests/support/killed_search.py tuner|nas --kills 20`` prints the counts by kind of kill.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from killed_scripts import NAS_DRIVER, NAS_EVALUATOR, TOY, TRIAL
from nni_experiment import BIN, Running, environment_of, free_port, run, started

from nni_diffnas.api.family import Family
from nni_diffnas.api.trial import Trial
from nni_diffnas.memory import SearchMemory
from nni_diffnas.search_spaces.tabular import TableFamily
from nni_diffnas.search_spaces.unet.family import UNetFamily
from nni_diffnas.searching.search import Search as StrategySearch
from nni_diffnas.strategies import RegularizedEvolution


@dataclass
class Counts:
    """What happened to the trials of one search."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    lost: int = 0
    repeated: int = 0
    interrupted: int = 0
    failed: int = 0
    spare: int = 0
    as_undisturbed: bool = True
    trials: list[Trial] = field(default_factory=list)


MOST_IN_VAIN = 6
"""So many resumes in a row behind which no trial starts, and it is no busy machine."""


@dataclass
class Search:
    """One search that can be killed."""

    door: str
    folder: Path
    trials: int
    concurrency: int
    seconds: float = 1.0
    identity: str = field(default_factory=lambda: secrets.token_hex(4))  # two run at once, and kill by it
    driver: subprocess.Popen[bytes] | None = None
    port: int = 0
    vain: list[int] = field(default_factory=list)
    """Lines of the trials' log at each end before its time."""

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "toy.py").write_text(TOY.replace("SECONDS", str(self.seconds)))
        if self.door == "nas":
            (self.folder / "toy_evaluator.py").write_text(NAS_EVALUATOR)
            (self.folder / "driver.py").write_text(NAS_DRIVER)
            return
        (self.folder / "trial.py").write_text(TRIAL)
        choices = np.array(list(itertools.product(range(6), repeat=4)))
        np.savez(
            self.folder / "table.npz",
            labels=list("abcd"),
            choices=choices,
            metrics=["rfid"],
            values=choices.sum(axis=1, keepdims=True).astype(float),
            maximize=False,
        )
        job = {
            "space": {"type": "table", "path": "table.npz"},
            "data": {"path": "table.npz"},
            "evaluator": {"type": "tabular"},
            "seed": 5,
        }
        (self.folder / "job.yml").write_text(yaml.safe_dump(job))
        run(["nni-diffnas", "space", "job.yml", "--output", "search_space.json"], self.environment, self.folder)
        run(["nni-diffnas", "register"], self.environment, self.folder)
        config = {
            "searchSpaceFile": "search_space.json",
            "trialCommand": f"{sys.executable} trial.py",
            "trialCodeDirectory": ".",
            "trialConcurrency": self.concurrency,
            "maxTrialNumber": self.trials,
            "experimentWorkingDirectory": str(self.folder / "exp"),
            "tuner": {
                "name": "RegularizedEvolution",
                "classArgs": {"job": "job.yml", "optimize_mode": "minimize", "population": 3, "sample": 2},
            },
            "trainingService": {"platform": "local"},
        }
        (self.folder / "config.yml").write_text(yaml.safe_dump(config))

    @property
    def environment(self) -> dict[str, str]:
        found = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**environment_of(self.folder), "PYTHONPATH": os.pathsep.join(found)}

    @property
    def running(self) -> Running:
        return Running(self.port, self.environment, self.folder)

    def start(self, *, resume: bool) -> None:
        if self.door == "nas":
            self.port = free_port()
            command = [sys.executable, "driver.py", str(self.port), str(self.trials), str(self.concurrency)]
            with (self.folder / "driver.log").open("ab") as log:
                self.driver = subprocess.Popen(
                    [*command, self.identity, *(["resume"] if resume else [])],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                )
            return
        if resume:
            directory = str(self.folder / "exp")
            command = ["nnictl", "resume", self.identity, "--experiment_dir", directory]
        else:
            command = ["nnictl", "create", "--config", "config.yml"]
        self.port = started(command, self.environment, self.folder).port
        if not resume:
            self.identity = self.running.id

    def processes(self, kind: str) -> Iterator[psutil.Process]:
        """Living processes of this experiment: ``manager``, ``dispatcher`` or ``trial``."""
        for process in psutil.process_iter():
            try:
                variables, command = process.environ(), process.cmdline()
            except (psutil.Error, OSError):
                continue
            logs = variables.get("NNI_LOG_DIRECTORY", "")
            found = {
                "manager": self.identity in command and any(part.endswith("main.js") for part in command),
                "dispatcher": variables.get("SDK_PROCESS") == "dispatcher" and f"/{self.identity}/" in logs + "/",
                "trial": variables.get("NNI_EXP_ID") == self.identity and "NNI_TRIAL_JOB_ID" in variables,
            }
            if found[kind] and process.status() != psutil.STATUS_ZOMBIE:
                yield process

    def stop(self) -> None:
        """End the experiment as a user would, whatever is left of it."""
        command = [str(BIN / "nnictl"), "stop", self.identity]
        subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, timeout=120)
        if self.driver is not None:
            if self.driver.poll() is None:
                try:
                    self.driver.wait(30)
                except subprocess.TimeoutExpired:
                    self.driver.kill()
            self.driver.wait()
        until = time.monotonic() + 40
        while any(self.processes("manager")) and time.monotonic() < until:
            time.sleep(0.2)

    def kill(self, kind: str) -> bool:
        """Kill; whether the search has to be resumed."""
        if kind == "stop":
            self.stop()
            return True
        if kind == "driver":
            assert self.driver is not None
            self.driver.kill()
            self.driver.wait()
        else:
            until = time.monotonic() + 30
            while not (victims := list(self.processes(kind))) and time.monotonic() < until:
                time.sleep(0.1)
            for process in victims:
                process.send_signal(signal.SIGKILL)
        if kind == "trial":
            return False
        if kind != "manager":
            time.sleep(random.uniform(0, 4))  # the others go on for a while
        self.stop()
        return True

    def done(self) -> bool:
        """Whether it has ended; one that a busy machine could not start in NNI's ten seconds is resumed again."""
        if self.door == "nas":
            if self.driver is None or self.driver.poll() is None:
                return False
            if "FINISHED" in (self.folder / "driver.log").read_text():
                return True
        else:
            try:
                status = self.running.status
            except OSError:
                return False
            if status != "ERROR":
                return status == "DONE"
        said = self.last_words()
        print(f"ended before its time and is resumed again: {said}", flush=True)
        self.vain.append(len(self.log()))
        assert len(self.vain) < MOST_IN_VAIN or len(set(self.vain[-MOST_IN_VAIN:])) > 1, f"it cannot be resumed: {said}"
        self.stop()
        # Where nothing was recorded and NNI knows nothing of it, it was killed before it began.
        self.start(resume=self.memory.exists() or "does not exist" not in said)
        return False

    def last_words(self) -> str:
        """The last line with an error that the search has left."""
        logs = [self.folder / "driver.log"] if self.door == "nas" else self.folder.glob("exp/*/log/*.log")
        lines = [line for file in logs for line in file.read_text().splitlines() if "rror" in line]
        return lines[-1][:300] if lines else "no word of an error"

    @property
    def memory(self) -> Path:
        return self.folder / "exp" / self.identity / "memory.sqlite"

    def log(self) -> list[tuple[str, str, dict[str, Any]]]:
        file = self.folder / "trials.log"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def kinds_of(door: str) -> list[str]:
    return ["manager", "driver", "trial", "stop"] if door == "nas" else ["manager", "dispatcher", "trial", "stop"]


def family_of(search: Search) -> Family:
    return UNetFamily(preset="digits") if search.door == "nas" else TableFamily(str(search.folder / "table.npz"))


def undisturbed(family: Family, trials: list[Trial]) -> list[dict[str, Any]]:
    """What the strategy suggests, one after the other, when these trials end as they did and nothing is ever killed."""
    search = StrategySearch(RegularizedEvolution(population=3, sample=2, seed=5), family.space, family)
    suggested = []
    for recorded in trials:
        (trial,) = search.ask(1)
        suggested.append(dict(trial.architecture))
        if recorded.status == "failed":
            search.tell_failed(trial.id, recorded.ending or recorded.reason)
        elif recorded.status == "succeeded":
            search.tell(trial.id, recorded.metrics)
    return suggested


def at_a_random_moment(search: Search, rng: random.Random) -> None:
    """Wait for a moment during the start, or after some more trials have started or finished."""
    events = rng.choice([0, 1, 2, 3])
    aim, until = len(search.log()) + events, time.monotonic() + 150
    while events and len(search.log()) < aim and time.monotonic() < until and not search.done():
        time.sleep(0.1)
    time.sleep(rng.uniform(0, 1.5 * search.seconds if events else 8))


def killed_search(search: Search, kills: list[str], rng: random.Random) -> Counts:
    """Run a search to its end, with a kill at a random moment after each start, and count."""
    counts = Counts()
    search.prepare()
    resumed = False
    try:
        search.start(resume=False)
        for kind in kills:
            if resumed:
                search.start(resume=True)
            at_a_random_moment(search, rng)
            if search.door == "nas":
                until = time.monotonic() + 60  # before there is anything to resume
                while not search.memory.exists() and time.monotonic() < until:
                    time.sleep(0.5)
            if search.done():
                break
            resumed = search.kill(kind)
            counts.kills[kind] += 1
            print(f"{time.strftime('%H:%M:%S')} {kind}: {len(search.log())} lines of log", flush=True)
        if resumed:
            search.start(resume=True)
        until = time.monotonic() + 120 + 60 * search.trials
        while not search.done() and time.monotonic() < until:
            time.sleep(0.5)
        assert search.done(), f"not done in time: see {search.folder}"
    finally:
        search.stop()
        for process in search.processes("trial"):
            process.kill()
    return count(search, counts)


def count(search: Search, counts: Counts) -> Counts:
    with SearchMemory(search.memory, create=False) as memory:
        counts.trials = memory.trials(experiment=search.identity)
    known = {json.dumps(dict(t.architecture), sort_keys=True): t for t in counts.trials}
    finished: dict[str, int] = {}
    family = family_of(search)
    for event, _, architecture in search.log():
        key = json.dumps(dict(family.space.validate(architecture)), sort_keys=True)
        if event == "finish":
            finished[key] = finished.get(key, 0) + 1
        elif key in finished:
            counts.repeated += 1
        else:
            counts.interrupted += 1
    counts.finished = len(finished)
    counts.interrupted -= len(finished)
    counts.lost = sum(known[key].status != "succeeded" for key in finished)
    counts.failed = sum(trial.status == "failed" for trial in counts.trials)
    # NNI's limit counts jobs. One that died before it had asked for its parameters leaves them to the next, and NNI is
    # one behind from then on; one that was killed may have its trial tried again by another.
    jobs = list((search.memory.parent / "environments" / "local-env" / "trials").iterdir())
    results = [job / "result.json" for job in jobs]
    ran = {json.loads(file.read_text()).get("trial") for file in results if file.exists()}
    counts.spare = len(jobs) - len(ran)
    if search.concurrency == 1 and not counts.spare:
        ended = [trial for trial in counts.trials if trial.status != "pending"]
        counts.as_undisturbed = [dict(trial.architecture) for trial in ended] == undisturbed(family, ended)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("door", choices=["tuner", "nas"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    kinds = kinds_of(arguments.door)
    kills = [kinds[i % len(kinds)] for i in range(arguments.kills)]
    rng.shuffle(kills)
    folder = arguments.folder or Path(tempfile.mkdtemp())
    search = Search(arguments.door, folder, arguments.trials, arguments.concurrency)
    counts = killed_search(search, kills, rng)
    ended = sum(trial.status != "pending" for trial in counts.trials)
    print(
        f"{arguments.door} door, {arguments.concurrency} at once: {dict(counts.kills)}; {ended} trials ended, "
        f"{counts.failed} of them failed; {counts.finished} finished, {counts.lost} lost, {counts.repeated} repeated, "
        f"{counts.interrupted} attempts interrupted; "
        f"as undisturbed: {counts.as_undisturbed if not counts.spare and search.concurrency == 1 else 'not asked'}"
    )


if __name__ == "__main__":
    main()
