"""What others do to a search memory: write into it at the same time, and find it locked or not.

As a script, one writing process: ``python memories.py FILE NUMBER COUNT``; it says after each trial that it is safe.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.memory import SearchMemory

SPACE = Space({f"level{i}.width": (32, 64, 96, 128) for i in range(12)})


def assert_nobody_writes(memory: Path) -> None:
    """Fail with SQLite's error where somebody holds the lock: another process would have to wait."""
    with sqlite3.connect(memory, timeout=0) as another:
        another.execute("BEGIN IMMEDIATE")


def write_trials(path: Path, number: int, count: int, said: Callable[[int], None] = lambda i: None) -> float:
    """Submit and end trials as a search does, with scores that are unique among 8 writers.

    Returns:
        The longest time that one of them took, in seconds.
    """
    rng, worst = np.random.default_rng(number), 0.0
    with SearchMemory(path) as memory:
        for i in range(count):
            trial = Trial(
                f"{number}-{i}",
                f"experiment{number}",
                SPACE.sample(rng),
                Origin("random", "random"),
                cost=Cost(10**9, 10**7),
                protocol="rfid/digits-features/1024 images/16 steps/rapid-20000",
            )
            began = time.perf_counter()
            memory.add(trial, SPACE)
            metrics = {"rfid": float(i * 8 + number), "macs": 1e9, "params": 1e7, "seconds": 3.0}
            memory.update(trial.succeeded(metrics, seconds=3.0))
            worst = max(worst, time.perf_counter() - began)
            said(i)
    return worst


if __name__ == "__main__":
    write_trials(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), lambda i: print(i, flush=True))
