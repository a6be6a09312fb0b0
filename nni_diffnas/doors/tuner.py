"""`Driver`: runs one search for the tuner door: opens job, memory and strategy, asks, tells, reports, ends.

Apart from `tuner`, because NNI gives up on a tuner that has not connected within ten seconds, and importing NNI's NAS
package can take that long on a busy machine: the tuner connects first and imports this afterwards.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..api.errors import JobError
from ..api.space import Value
from ..api.strategy import AskTellStrategy
from ..api.trial import KILLED, SILENT, STOPPED_EARLY, Trial
from ..job import Job, load_job, refuse_secrets, resolve_paths
from ..results.read import conclude
from ..searching.open import announce, job_meant, open_job
from ..searching.progress import Pace, trial_line
from ..searching.ranking import Outcome, why_broken
from ..trial.result_file import reason_of
from ..trial.run import TRIAL_ID
from .experiment import ManagerInfo, TrialJobs
from .gpus import gpu_count
from .nni_repairs import number_after

__all__ = ["Driver"]

# BoTorch's linear_operator compiles with it on import, in the middle of the search's lines.
warnings.filterwarnings("ignore", message=".*torch.jit.script.* is deprecated")

_GRACE = 10.0
"""Seconds that the result of a trial may take after its process has ended well."""


class Driver:
    """One running search behind the tuner door.

    Args:
        manager: what NNI's manager said of the experiment.
        job_path: of the job file; a relative one starts at the experiment's ``trialCodeDirectory``.
        strategy: name of the strategy plug-in.
        optimize_mode: of the tuner; must agree with the job's objective.
        options: of the strategy.
        search_space: NNI's, of the config.

    Raises:
        DiffNASError: bad input.
    """

    def __init__(
        self,
        manager: ManagerInfo,
        job_path: str,
        strategy: str,
        optimize_mode: str,
        options: Mapping[str, Any],
        search_space: Mapping[str, Any],
    ) -> None:
        self._manager = manager
        self._lock = threading.RLock()
        self._owed: list[int] = []
        self._served: dict[int, str] = {}
        self._send: Callable[[int, dict[str, Value]], None] | None = None
        self._silent_since: float | None = None
        self._unstarted: list[Trial] = []
        self._granted = self._done = 0
        self._pace = Pace()
        self._limit = manager.max_trials
        self._over = self._finished = self._closed = False
        refuse_secrets(options, "classArgs of the tuner")
        job = load_job(manager.code_directory / job_path)
        self.strategy = self._open(job, strategy, optimize_mode, options, search_space)
        self.strategy.wake = self._wake
        self._job = job_meant(job, manager.folder)
        if manager.resumed:
            with self._recording():
                self._catch_up()

    def _open(
        self, job: Job, name: str, optimize_mode: str, options: Mapping[str, Any], search_space: Mapping[str, Any]
    ) -> AskTellStrategy:
        manager = self._manager
        if manager.gpus is not None and (problem := manager.gpus.problem(gpu_count())):
            raise JobError(problem)
        given = resolve_paths(options, manager.code_directory)
        strategy, evaluation = open_job(
            job, name, optimize_mode, given, search_space, manager.folder, resumed=manager.resumed
        )
        if not manager.resumed:
            announce(strategy, name, evaluation, job, options, manager.max_trials, manager.concurrency)
        return strategy

    # Asking ----------------------------------------------------------------------------------------------------------

    def ask(
        self, parameter_ids: list[int], send: Callable[[int, dict[str, Value]], None] | None
    ) -> list[dict[str, Value]]:
        """Ask the strategy for as many architectures as NNI has free workers.

        Where it has fewer for now (it waits for results), the remaining ids are served when results arrive; where it
        has none and nothing is pending, the experiment ends.
        """
        with self._lock:
            with self._recording():
                self._send = send
                self._granted += len(parameter_ids)
                if self._active + len(parameter_ids) > self._manager.concurrency:
                    # A worker is free because a trial has ended that we have not heard of.
                    self._settle(self._manager.jobs())
            self._serve_owed()
            room = min(len(parameter_ids), self._room)
            asked = self._next(room)
            self._owed += parameter_ids[len(asked) :]
            self._served |= {number: trial.id for number, trial in zip(parameter_ids, asked, strict=False)}
            if room > 0 and not asked and not self.strategy.pending:
                with self._recording():
                    self._end("the strategy has nothing more to suggest")
            return [self.strategy.parameters(trial) for trial in asked]

    @property
    def _active(self) -> int:
        """Trials that NNI runs or is about to run."""
        return len(self.strategy.pending) - len(self._unstarted)

    @property
    def _room(self) -> int:
        """Trials that NNI has workers for.

        After a resume NNI asks for as many trials as it has workers, although it also runs again those that were
        interrupted. Served at once, the strategy would suggest before their results are known, and otherwise than
        without the interruption.
        """
        room = self._granted - self._done - self._active
        left = self._left
        if room > min(self._manager.concurrency - self._active, left):
            self._manager = self._manager.refreshed()
            self._limit = self._manager.max_trials
            left = self._left
        return int(max(0, min(room, self._manager.concurrency - self._active, left)))

    @property
    def _left(self) -> float:
        """Trials up to the limit: NNI asks for more sometimes, and starts what it does not need after a resume."""
        if self._limit is None:
            return float("inf")
        return self._limit - len(self._mine()) + len(self._unstarted)

    def _next(self, count: int) -> list[Trial]:
        """Trials that were suggested before a resume and never started, then new ones."""
        again, self._unstarted = self._unstarted[:count], self._unstarted[count:]
        return again + self.strategy.ask(count - len(again))

    def _serve_owed(self) -> None:
        """Serve the workers that were left without a trial."""
        if self._owed and self._send is not None:
            for trial in self._next(min(len(self._owed), self._room)):
                parameter_id = self._owed.pop(0)
                self._served[parameter_id] = trial.id
                self._send(parameter_id, self.strategy.parameters(trial))

    def _wake(self) -> None:
        # In a thread of its own: whoever calls may hold the lock already, in the middle of an `ask`.
        threading.Thread(target=self._woken, name="woken", daemon=True).start()

    def _woken(self) -> None:
        """The strategy has more to suggest for workers that wait."""
        with self._manager.telling(), self._lock:
            if not self._closed:
                with self._event():
                    self.strategy.update(())

    def _catch_up(self) -> None:
        """After a resume, learn what has happened while no tuner was there, and what NNI is going to run again."""
        jobs = self._manager.jobs()
        self._settle(jobs, grace=0)
        number_after(jobs.highest_number)
        again = jobs.to_run_again()
        self._unstarted = [trial for trial in self.strategy.pending if trial.id not in again]
        self._done = len(again - {trial.id for trial in self.strategy.pending})
        self.strategy.history.ended.clear()  # these have ended before this process opened the search

    # Telling ---------------------------------------------------------------------------------------------------------

    def trial_of(self, parameter_id: int) -> dict[str, Value]:
        """Parameters, as far as `tell` needs them: NNI forgets those of the first of several that it asked for at once
        and did not all get.
        """
        return {TRIAL_ID: self._served[parameter_id]}

    def tell(self, parameters: Mapping[str, Value], value: Any, job_id: str) -> None:
        """Hand a trial's complete metric dictionary to the strategy."""
        with self._event():
            self._tell(str(parameters[TRIAL_ID]), value, job_id)

    def import_results(self, data: list[dict[str, Any]]) -> None:
        """Receive trials that were run again after a resume; those from before it have been read by `_catch_up`."""
        with self._event():
            for row in data:
                parameter = row.get("parameter")
                if not row.get("trialJobId") and isinstance(parameter, Mapping):
                    self._tell(str(parameter.get(TRIAL_ID)), row["value"], "")

    def _tell(self, trial_id: str, value: Any, job_id: str) -> None:
        if trial_id not in {trial.id for trial in self.strategy.trials if trial.open}:
            return  # reported twice, or run again after a resume although its result was known
        given_up = trial_id not in {trial.id for trial in self.strategy.pending}
        raw = value if isinstance(value, Mapping) else {self.strategy.objective.metric: value}
        before = Outcome.of(self.strategy.trials, self.strategy.objective).best
        trial = self.strategy.tell(trial_id, {k: v for k, v in raw.items() if k != "default"}, job_id)
        self._done -= given_up  # counted when it was given up
        self._after(trial, before)

    def ended(self, success: bool) -> None:
        """Learn that some trial's process ended; which one, NNI does not know for sure (see `TrialJobs`)."""
        with self._event():
            if success:  # its result comes through another queue, and may still be under way
                self._silent_since = time.monotonic()
                timer = threading.Timer(_GRACE, self._look_for_silent)
                timer.daemon = True
                timer.start()
            else:
                self._settle(self._manager.jobs())

    def _look_for_silent(self) -> None:
        with self._manager.telling(), self._lock:
            if not self._closed and self.strategy.pending:
                with self._event():
                    self._settle(self._manager.jobs())

    def _settle(self, jobs: TrialJobs, grace: float = _GRACE) -> None:
        """Tell results that have not come through, and fail the trials whose process has ended without one."""
        for trial_id, (job_id, value) in jobs.results().items():
            self._tell(trial_id, value, job_id)
        pending = {trial.id for trial in self.strategy.pending}
        silent = not grace or (self._silent_since is not None and time.monotonic() - self._silent_since >= grace)
        failed = [(trial_id, why) for trial_id, why in jobs.ended().items() if trial_id in pending and (why or silent)]
        for trial_id, reason in failed:
            stopped = self._manager.assessed and reason == KILLED
            self._fail(trial_id, STOPPED_EARLY if stopped else reason or SILENT)
        if failed and grace and (why := why_broken(self.strategy.ended)):
            self._end(why)

    def _fail(self, trial_id: str, reason: str) -> None:
        self._after(self.strategy.tell_failed(trial_id, reason), None)

    def _after(self, trial: Trial, before: Trial | None) -> None:
        self._done += 1
        self._report(trial, before)
        if self._ended == self._limit and not self._closed:
            self._manager = self._manager.refreshed()
            self._limit = self._manager.max_trials
            if self._ended == self._limit:
                self._over = True
                threading.Thread(target=self._await_more, daemon=True).start()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """One event at a time; the search is concluded only once the event that ends it is safe in the memory."""
        with self._lock:
            with self.strategy.recording():
                yield
            if self._over:
                self._finish()

    @contextmanager
    def _event(self) -> Iterator[None]:
        """Record what has happened; then, with the memory unlocked again, serve the workers that waited for it."""
        with self._lock:
            with self._recording():
                yield
            self._serve_owed()

    def _mine(self) -> list[Trial]:
        """Trials of this experiment, without those of a warm start."""
        return [trial for trial in self.strategy.trials if trial.experiment == self.strategy.experiment]

    @property
    def _ended(self) -> int:
        return sum(trial.status != "pending" for trial in self._mine())

    def _report(self, trial: Trial, before: Trial | None) -> None:
        best = Outcome.of(self.strategy.trials, self.strategy.objective).best
        is_best = best is not None and best.id == trial.id and before is not best
        planned = self._limit and max(self.strategy.planned(self._limit), len(self._mine()))
        of = f"/{planned}" if planned else ""
        line = f"[{self._ended}{of}] {trial_line(trial, self.strategy.objective.metric, best=is_best)}"
        left = self._pace.step(planned and planned - self._ended, self._manager.concurrency)
        print(f"{line}, {left}" if left else line, flush=True)

    # Ending ----------------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        """Let NNI end the experiment once the running trials are through."""
        if self._closed:
            return
        print(f"nni-diffnas: the search ends: {why}.", flush=True)
        self._manager.end_after(max(1, len(self._mine())))
        self._over |= not self.strategy.pending

    def _finish(self) -> None:
        """Print what was found and export the winner, once; the search is recorded, and no error can harm it."""
        if self._finished:
            return
        self._finished = True
        try:
            conclude(self.strategy, self._mine(), self._job, self._manager.folder)
        except Exception as error:  # of a plug-in, of the disk: all that is done here can be done again by hand
            print(f"nni-diffnas: the search is over, but {reason_of(error)}", file=sys.stderr, flush=True)

    def _await_more(self) -> None:
        """Go on when the user raises the limit of a finished experiment: NNI itself does not ask again."""
        while True:
            time.sleep(2)
            try:
                limit = self._manager.refreshed().max_trials
            except Exception:  # the manager is ending, and says so by errors of several kinds
                return
            with self._lock:
                if self._closed:
                    return
                if limit is None or self._limit is None or limit > self._limit:
                    break
        with self._manager.telling(), self._lock:
            if self._closed:
                return
            from nni.runtime.msg_dispatcher import _create_parameter_id

            self._limit, self._finished, self._over = limit, False, False
            more = self._manager.concurrency if limit is None else limit - self._ended
            ids = [_create_parameter_id() for _ in range(min(more, self._manager.concurrency))]
            for parameter_id, parameters in zip(ids, self.ask(ids, self._send), strict=False):
                if self._send is not None:
                    self._send(parameter_id, parameters)

    def close(self) -> None:
        """Print what was found, if that has not been done, and close the memory."""
        with self._recording():
            self._closed = True
            # NNI may stop the tuner before it has told of the last endings, and no longer answers.
            for trial in self.strategy.pending:
                for output, result in self._manager.folder.records(trial.id):
                    if "metrics" in result:
                        self._tell(trial.id, result["metrics"], output.name)
                    elif "failure" in result:
                        self._fail(trial.id, str(result["failure"]))
        with self._lock:
            self._finish()
            if self.strategy.memory is not None:
                self.strategy.memory.close()
