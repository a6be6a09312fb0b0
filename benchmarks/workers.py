"""Trainings side by side, into one journal."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from nni_diffnas.evaluators.calibration.measurements import Journal

__all__ = ["finish"]


def finish(journal: Journal, tasks: Mapping[str, Callable[[], dict[str, Any]]], workers: int) -> None:
    """Make every result that the journal lacks, in the order of ``tasks``, and write each down when it is there.

    Args:
        journal: of the results.
        tasks: key to what makes its result; with several workers, something that another process can be given.
        workers: processes that train at once; 1: this one.

    Raises:
        BaseException: the first failure of a task, once all others are made.
    """
    missing = {key: make for key, make in tasks.items() if key not in journal.records}
    if workers == 1:
        for key, make in missing.items():
            journal.once(key, make)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        started = {pool.submit(make): key for key, make in missing.items()}
        failures = []
        for number, future in enumerate(as_completed(started), 1):
            if (failure := future.exception()) is None:
                journal.once(started[future], future.result)
            else:
                failures.append(failure)
            print(f"{number} of {len(missing)} results", file=sys.stderr, flush=True)
    if failures:
        raise failures[0]
