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
from ..api.paths import absolute_paths
from ..api.space import Value
from ..api.trial import Trial
from ..job import Job, load_job, refuse_secrets
from ..plugins import find_plugin
from ..results.read import conclude
from ..searching.open import announce, job_meant, open_job
from ..searching.search import Search
from ..trial.parameters import TRIAL_ID
from ..trial.result_file import failure_in, reason_of
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
        self._granted = self._done = 0
        self._limit = manager.max_trials
        self._over = self._finished = self._closed = False
        refuse_secrets(options, "classArgs of the tuner")
        job = load_job(manager.code_directory / job_path)
        self.search = self._open(job, strategy, optimize_mode, options, search_space)
        self.search.strategy.wake = self._wake
        self._job = job_meant(job, manager.folder)
        self.search.on_end = self._after
        if manager.resumed:
            with self._recording():
                self._catch_up()

    def _open(
        self, job: Job, name: str, optimize_mode: str, options: Mapping[str, Any], search_space: Mapping[str, Any]
    ) -> Search:
        manager = self._manager
        if manager.gpus is not None and (problem := manager.gpus.problem(gpu_count())):
            raise JobError(problem)
        given = absolute_paths(find_plugin("strategies", name), options, manager.code_directory)
        search, evaluation = open_job(
            job, name, optimize_mode, given, search_space, manager.folder, resumed=manager.resumed
        )
        if not manager.resumed:
            announce(search, name, evaluation, job, options, manager.max_trials, manager.concurrency)
        return search

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
                if self.search.running + len(parameter_ids) > self._manager.concurrency:
                    # A worker is free because a trial has ended that we have not heard of.
                    self._settle(self._manager.jobs())
            self._serve_owed()
            room = min(len(parameter_ids), self._room)
            asked = self.search.ask(room)
            self._owed += parameter_ids[len(asked) :]
            self._served |= {number: trial.id for number, trial in zip(parameter_ids, asked, strict=False)}
            if room > 0 and not asked and not self.search.pending:
                with self._recording():
                    self._end("the strategy has nothing more to suggest")
            return [self.search.parameters(trial) for trial in asked]

    @property
    def _room(self) -> int:
        """Trials that NNI has workers for.

        After a resume NNI asks for as many trials as it has workers, although it also runs again those that were
        interrupted. Served at once, the strategy would suggest before their results are known, and otherwise than
        without the interruption.
        """
        active = self.search.running
        room, left = self._granted - self._done - active, self.search.left(self._limit)
        if room > min(self._manager.concurrency - active, left):
            self._manager = self._manager.refreshed()
            self._limit = self._manager.max_trials
            left = self.search.left(self._limit)
        return int(max(0, min(room, self._manager.concurrency - active, left)))

    def _serve_owed(self) -> None:
        """Serve the workers that were left without a trial."""
        if self._owed and self._send is not None:
            for trial in self.search.ask(min(len(self._owed), self._room)):
                parameter_id = self._owed.pop(0)
                self._served[parameter_id] = trial.id
                self._send(parameter_id, self.search.parameters(trial))

    def _wake(self) -> None:
        # In a thread of its own: whoever calls may hold the lock already, in the middle of an `ask`.
        threading.Thread(target=self._woken, name="woken", daemon=True).start()

    def _woken(self) -> None:
        """The strategy has more to suggest for workers that wait."""
        with self._manager.telling(), self._lock:
            if not self._closed:
                with self._event():
                    self.search.strategy.update(())

    def _catch_up(self) -> None:
        """After a resume, learn what has happened while no tuner was there, and what NNI is going to run again."""
        jobs = self._manager.jobs()
        number_after(jobs.highest_number)
        again = self.search.catch_up(jobs, silent=True, assessed=self._manager.assessed)
        self._done = len(again - {trial.id for trial in self.search.pending})

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
        if self.search.awaits(trial_id):  # else reported twice, or run again after a resume although it was known
            self.search.tell(trial_id, value, job_id)

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
            if not self._closed and self.search.pending:
                with self._event():
                    self._settle(self._manager.jobs())

    def _settle(self, jobs: TrialJobs) -> None:
        """Tell results that have not come through, and fail the trials whose process has ended without one."""
        silent = self._silent_since is not None and time.monotonic() - self._silent_since >= _GRACE
        failed = self.search.settle(jobs, silent=silent, assessed=self._manager.assessed)
        if failed and (why := self.search.broken):
            self._end(why)

    def _after(self, trial: Trial, given_up: bool) -> None:
        """Hear from the search that a trial has ended; one that was given up has been counted then."""
        self._done += not given_up
        print(self.search.progress(trial, self._limit, self._manager.concurrency), flush=True)
        if self.search.done == self._limit and not self._closed:
            self._manager = self._manager.refreshed()
            self._limit = self._manager.max_trials
            if self.search.done == self._limit:
                self._over = True
                threading.Thread(target=self._await_more, daemon=True).start()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """One event at a time; the search is concluded only once the event that ends it is safe in the memory."""
        with self._lock:
            with self.search.recording():
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

    # Ending ----------------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        """Let NNI end the experiment once the running trials are through."""
        if self._closed:
            return
        print(f"nni-diffnas: the search ends: {why}.", flush=True)
        self._manager.end_after(max(1, len(self.search.own)))
        self._over |= not self.search.pending

    def _finish(self) -> None:
        """Print what was found and export the winner, once; the search is recorded, and no error can harm it."""
        if self._finished:
            return
        self._finished = True
        try:
            conclude(self.search, self._job, self._manager.folder)
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
            more = self._manager.concurrency if limit is None else limit - self.search.done
            ids = [_create_parameter_id() for _ in range(min(more, self._manager.concurrency))]
            for parameter_id, parameters in zip(ids, self.ask(ids, self._send), strict=False):
                if self._send is not None:
                    self._send(parameter_id, parameters)

    def close(self) -> None:
        """Print what was found, if that has not been done, and close the memory."""
        with self._recording():
            self._closed = True
            # NNI may stop the tuner before it has told of the last endings, and no longer answers.
            for trial in self.search.pending:
                for output, result in self._manager.folder.records(trial.id):
                    if "metrics" in result:
                        self._tell(trial.id, result["metrics"], output.name)
                    elif failure := failure_in(result):
                        self.search.tell_failed(trial.id, failure)
        with self._lock:
            self._finish()
            if self.search.memory is not None:
                self.search.memory.close()
