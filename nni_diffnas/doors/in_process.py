"""Runs a whole search without NNI's manager: short searches, debugging, benchmarks.

It leaves what an experiment leaves, a folder with memory and trials, so that ``nni-diffnas report``, ``export`` and
``verdict`` take it by that folder.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..api.ending import Ending
from ..api.errors import JobError, TrialFailure
from ..api.space import Value
from ..api.trial import Trial
from ..job import Job
from ..memory.experiment_folder import ExperimentFolder
from ..process.workers import worker_pool
from ..searching.formats import format_cost
from ..searching.open import announce, open_job
from ..searching.progress import score_line
from ..searching.search import Search
from ..trial.result_file import failure_in
from ..trial.run import run_trial

__all__ = ["run_search"]

_ATTEMPTS = 2
"""So often a trial is started whose process ends without a word: it may have been ended by a neighbour's end."""


class _Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _train(job: Job, parameters: Mapping[str, Value], output: Path) -> dict[str, Any]:
    return run_trial(job, parameters, output=output)


class _Workers:
    """Processes that train the trials of a search; with one, it is this process."""

    def __init__(self, search: Search, job: Job, home: ExperimentFolder, count: int) -> None:
        self.search, self.job, self.home, self.count = search, job, home, count
        self.executor = self._start()
        self.running: dict[Future[Any], Trial] = {}
        self._begun: Counter[str] = Counter()

    def _start(self) -> Executor:
        return _Here() if self.count == 1 else worker_pool(self.count)

    def _job_id(self, trial: Trial) -> str:
        number = next(i for i, own in enumerate(self.search.own) if own.id == trial.id)
        return f"{number + 1:04d}"

    def train(self, trial: Trial) -> None:
        """Start a trial."""
        self._begun[trial.id] += 1
        output = self.home.path / "trials" / self._job_id(trial)
        self.running[self.executor.submit(_train, self.job, self.search.parameters(trial), output)] = trial

    def ended(self) -> list[Trial]:
        """Wait for the next trials that end, and tell the search of them."""
        done, _ = wait(self.running, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            return self._mended()
        found = []
        for future in sorted(done, key=lambda each: self.running[each].id):
            trial, error = self.running.pop(future), future.exception()
            if error is not None and not isinstance(error, TrialFailure):
                raise error
            with self.search.recording():
                if error is not None:
                    found.append(self.search.tell_failed(trial.id, str(error), self._job_id(trial)))
                else:
                    found.append(self.search.tell(trial.id, future.result(), self._job_id(trial)))
        return found

    def _mended(self) -> list[Trial]:
        """A worker's process has ended, by a time limit or for want of memory, and all others' with it: start anew."""
        lost, self.running = list(self.running.values()), {}
        self.executor.shutdown(cancel_futures=True)
        self.executor, found = self._start(), []
        for trial in lost:
            job_id = self._job_id(trial)
            result = self.home.trial_result(job_id)
            with self.search.recording():
                if "metrics" in result:
                    found.append(self.search.tell(trial.id, result["metrics"], job_id))
                elif failure := failure_in(result):
                    found.append(self.search.tell_failed(trial.id, failure, job_id))
                elif self._begun[trial.id] >= _ATTEMPTS:
                    found.append(self.search.tell_failed(trial.id, Ending.KILLED, job_id))
        for trial in lost:
            if trial.id in {pending.id for pending in self.search.pending}:
                self.train(trial)
        return found


def run_search(
    job: Job,
    strategy: str,
    folder: Path,
    max_trials: int,
    options: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> list[Trial]:
    """Search until ``max_trials`` have ended or the strategy has nothing more to suggest; print each; return them.

    A search that was interrupted or killed goes on by the same call.

    Args:
        job: of the search.
        strategy: name of the plug-in.
        folder: of the experiment; its name becomes the id.
        max_trials: failed ones included.
        options: of the strategy, as ``classArgs`` of the tuner.
        workers: trials at once, each in a process of its own and, where there are several GPUs, on one of these in
            turn; 1 trains in this process. A script that asks for more must keep what it runs behind
            ``if __name__ == "__main__"``, as Python's multiprocessing wants it.

    Raises:
        DiffNASError: bad input, before anything trains.
    """
    if workers < 1:
        raise JobError(f"workers is {workers}: give the number of trials that train at once, at least 1.")
    home, known = ExperimentFolder(folder.resolve()), dict(options or {})
    home.path.mkdir(parents=True, exist_ok=True)
    with _alone(home.path):
        return _search(job, strategy, home, max_trials, known, workers)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder while its search runs; the system lets go of it however the process ends.

    Raises:
        JobError: another process holds it.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobError(
                f"A search runs in {str(folder)!r}, in another process: wait for its end, or name another folder."
            ) from error
        except OSError:  # a file system that knows no locks
            pass
        yield
    finally:
        os.close(held)


def _search(
    job: Job, strategy: str, home: ExperimentFolder, max_trials: int, known: Mapping[str, Any], workers: int
) -> list[Trial]:
    """Run a search in a folder that nobody else searches in."""
    everything = job.make_family().space.to_nni()
    search, evaluation = open_job(job, strategy, job.objective.direction, known, everything, home, resumed=True)
    if not search.own:
        announce(search, strategy, evaluation, job, known, max_trials, concurrency=workers)
    search.unstarted = search.pending
    pool = _Workers(search, job, home, workers)
    try:
        while True:
            free = min(workers - len(pool.running), search.left(max_trials))
            for trial in search.ask(int(free)) if free > 0 and not search.broken else ():
                pool.train(trial)
            if not pool.running:
                break
            for trial in pool.ended():
                told = trial.reason or score_line(trial, job.objective.metric)
                print(f"{trial.id} {trial.origin.kind}: {told}  {format_cost(trial.cost)}", flush=True)
        if search.broken:
            print(f"nni-diffnas: the search ends: {search.broken}.", flush=True)
        if said := search.strategy.summary():
            print(said, flush=True)
    finally:
        pool.executor.shutdown(cancel_futures=True)
        if search.memory is not None:
            search.memory.close()
    return search.own
