"""How fast trials of a job go on this machine, as many side by side as will run."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..api.errors import TrialFailure
from ..job import Job
from ..process.workers import core_count, visible_gpus, worker_pool
from ..searching.forecast import to_be_timed
from .sizes import TrialPace

__all__ = ["Machine", "measure_pace"]

MOST_WORKERS = 16
"""A strategy that learns from trials which have ended has no use for more."""

_MEMORY = 1.5e9
"""Bytes that a process with torch, images and a small network takes."""

_BATCH, _MACS = 64, 2e10
"""Images of a timed step, and the MACs above which fewer are taken on a CPU, where large networks need no batch."""


@dataclass(frozen=True)
class Machine:
    """What this machine trains with.

    Args:
        workers: trials at a time: one on each GPU, or on each core, memory permitting.
        threads: of the CPU for each.
        gpus: that torch sees.
    """

    workers: int
    threads: int
    gpus: int

    @classmethod
    def here(cls) -> Machine:
        """What there is here, and free."""
        import psutil

        gpus, cores = len(visible_gpus()), core_count()
        room = max(1, int(psutil.virtual_memory().available / _MEMORY))
        workers = min(gpus or cores, room, MOST_WORKERS)
        return cls(workers, 1 if gpus else cores // workers, gpus)


def measure_pace(job: Job, machine: Machine) -> TrialPace:
    """Time a few training steps, samples and scores of three networks that the search may try, side by side.

    Where a process finds no memory, half as many are tried.

    Args:
        job: of the search, whose evaluator is ``diffusion``.
        machine: says how many at a time.

    Raises:
        DiffNASError: bad input; or the memory does not suffice for one.
    """
    family, evaluation = job.make_family(), job.make_evaluation()
    evaluation.prepare()
    batch = _BATCH if machine.gpus else int(min(_BATCH, max(2, _MACS // family.cost(family.default).macs)))
    workers = machine.workers
    while workers > 1:
        try:
            with worker_pool(workers) as pool:
                timed = list(pool.map(_pace_here, [job] * workers, [batch] * workers))
        except (BrokenProcessPool, TrialFailure):
            workers //= 2
        else:
            return TrialPace(fmean(image for image, _ in timed), fmean(rest for _, rest in timed), workers)
    return TrialPace(*_pace_here(job, batch), 1)


def _pace_here(job: Job, batch: int) -> tuple[float, float]:
    """Mean seconds for an image of training, and for all else of a trial, in this process."""
    family, evaluation = job.make_family(), _in_batches(job.make_evaluation(), batch)
    evaluation.prepare()
    found = [evaluation.duration(family.build(each)) for each in to_be_timed(family, job.make_budget())]
    return fmean(each.image for each in found), fmean(each.rest for each in found)


def _in_batches(evaluation: Any, size: int) -> Any:
    """The same evaluation with so many images at a time."""
    training = evaluation.settings.training.model_dump(exclude_unset=True)
    return evaluation.changed(training={**training, "batch_size": size}, sampling_batch=size)
