"""`Driver`: runs one search for the tuner door: opens job, memory and strategy, asks, tells, reports, ends.

Apart from `tuner`, because NNI gives up on a tuner that has not connected within ten seconds, and importing NNI's NAS
package can take that long on a busy machine: the tuner connects first and imports this afterwards.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from .errors import DiffNASError, JobError
from .evaluation import Evaluation
from .experiment import ManagerInfo
from .family import Family
from .forecast import forecast_search
from .job import Job, load_job, refuse_secrets, resolve_paths
from .memory import SearchMemory
from .outcome import Outcome, format_cost
from .plugins import find_plugin
from .runner import RESULT_FILE, TRIAL_ID
from .space import Space, Value
from .strategy import AskTellStrategy
from .trial import Trial
from .winner import export_trial

__all__ = ["Driver", "make_strategy", "restrict_space"]

MAX_FAILURES_IN_A_ROW = 5
"""A job that is broken must not burn a night: after so many failures in a row the search ends."""

_STATE = "strategy"


def restrict_space(space: Space, search_space: Mapping[str, Any]) -> Space:
    """Narrow a space to the values that the experiment's NNI search space offers.

    Raises:
        SpaceError, JobError: another set of labels, or a value that the space does not have.
    """
    offered = Space.from_nni(search_space)
    if set(offered.labels) != set(space.labels):
        extra, missing = set(offered.labels) - set(space.labels), set(space.labels) - set(offered.labels)
        raise JobError(
            f"The config's search space does not fit the job's (unknown: {sorted(extra) or 'none'}, missing: "
            f"{sorted(missing) or 'none'}): write it anew with 'nni-diffnas space JOB --output FILE'."
        )
    kept = {
        label: tuple(values[i] for i in sorted(space.index_of(label, value) for value in offered.choices[label]))
        for label, values in space.choices.items()
    }
    if kept == space.choices:
        return space
    conditions = {
        label: tuple((parent, tuple(v for v in values if v in kept[parent])) for parent, values in listed)
        for label, listed in space.conditions.items()
    }
    return Space(kept, space.edges, conditions)


def make_strategy(name: str, job: Job, memory: SearchMemory | None, options: Mapping[str, Any]) -> AskTellStrategy:
    """Construct a strategy plug-in for a job.

    Raises:
        PluginError, JobError: no such strategy, or it refuses its options.
    """
    made = find_plugin("strategies", name)
    warm: list[Trial] = []
    for file in job.warm_start:
        with SearchMemory(Path(file), create=False) as earlier:
            warm += earlier.trials(space_key=job.make_family().space.key)
    try:
        strategy: AskTellStrategy = made(
            objective=job.make_objective(),
            budget=job.make_budget(),
            seed=job.seed,
            memory=memory,
            warm_start=warm,
            **options,
        )
    except TypeError as error:
        raise JobError(f"Strategy {name!r} does not take these classArgs: {error}.") from error
    return strategy


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
        self._send: Callable[[int, dict[str, Value]], None] | None = None
        self._silent_since: float | None = None
        self._unstarted: list[Trial] = []
        self._finished = False
        refuse_secrets(options, "classArgs of the tuner")
        job = self._job = load_job(manager.code_directory / job_path)
        self.strategy = self._open(job, strategy, optimize_mode, options, search_space)

    def _open(
        self, job: Job, name: str, optimize_mode: str, options: Mapping[str, Any], search_space: Mapping[str, Any]
    ) -> AskTellStrategy:
        wanted = job.make_objective().direction
        if optimize_mode != wanted:
            raise JobError(
                f"classArgs say optimize_mode: {optimize_mode}, the job's objective says {wanted}: set "
                f"optimize_mode: {wanted}, so that NNI's web UI sorts the right way."
            )
        family, evaluation = job.make_family(), job.make_evaluation()
        space = restrict_space(family.space, search_space)
        evaluation.prepare()
        evaluation.check(family)
        self._forecast(family, evaluation, job)
        folder = self._manager.folder
        memory_file = Path(job.memory) if job.memory else folder.path / "memory.sqlite"
        memory = SearchMemory(memory_file)
        folder.remember_memory(memory_file)
        strategy = make_strategy(name, job, memory, resolve_paths(options, self._manager.code_directory))
        strategy.experiment = folder.id
        strategy.bind(space, family, evaluation.protocol, task=job.task, folder=folder.path)
        if self._manager.resumed:
            snapshot = memory.load_state(folder.id, _STATE)
            strategy.restore(memory.trials(experiment=folder.id), snapshot if isinstance(snapshot, dict) else {})
            jobs = self._manager.jobs()
            ended, again = jobs.ended(), jobs.to_run_again()
            for trial in strategy.pending:
                if ended.get(trial.id):
                    strategy.tell_failed(trial.id, ended[trial.id])
                elif trial.id not in again:
                    self._unstarted.append(trial)
        strategy.check()
        if not self._manager.resumed:
            memory.log(
                "experiment",
                folder.id,
                {
                    "job": job.model_dump(mode="json"),
                    "strategy": name,
                    "options": dict(options),
                    "protocol": evaluation.protocol,
                    "space": space.key,
                    "max_trials": self._manager.max_trials,
                },
            )
        return strategy

    def _forecast(self, family: Family, evaluation: Evaluation, job: Job) -> None:
        if self._manager.max_trials and not self._manager.resumed:
            workers = self._manager.concurrency
            forecast = forecast_search(family, evaluation, job.make_budget(), self._manager.max_trials, workers)
            print(f"nni-diffnas: {forecast}", flush=True)

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
                if len(self.strategy.pending) > self._manager.concurrency:
                    self._settle()
            self._serve_owed()
            asked = self._next(len(parameter_ids))
            self._owed += parameter_ids[len(asked) :]
            if not asked and not self.strategy.pending:
                self._end("the strategy has nothing more to suggest")
            return [self.strategy.parameters(trial) for trial in asked]

    def _next(self, count: int) -> list[Trial]:
        """Trials that were suggested before a resume and never started, then new ones.

        The strategy prepares them before the memory is locked: it may ask a server, and other processes would wait.
        """
        if count > len(self._unstarted):
            self.strategy.prepare(count - len(self._unstarted))
        with self._recording():
            again, self._unstarted = self._unstarted[:count], self._unstarted[count:]
            return again + self.strategy.ask(count - len(again))

    def _serve_owed(self) -> None:
        """Serve the workers that were left without a trial."""
        if self._owed and self._send is not None:
            for trial in self._next(len(self._owed)):
                parameter_id = self._owed.pop(0)
                self._send(parameter_id, self.strategy.parameters(trial))

    # Telling ---------------------------------------------------------------------------------------------------------

    def tell(self, parameters: Mapping[str, Value], value: Any, job_id: str) -> None:
        """Hand a trial's complete metric dictionary to the strategy."""
        with self._lock:
            with self._recording():
                self._tell(str(parameters[TRIAL_ID]), value, job_id)
            self._serve_owed()

    def import_results(self, data: list[dict[str, Any]]) -> None:
        """Receive trials that finished before a resume, or while it was under way; known results are ignored."""
        with self._lock:
            with self._recording():
                known = {trial.id for trial in self.strategy.trials}
                for row in data:
                    parameter, job_id = row.get("parameter"), str(row.get("trialJobId") or "")
                    recorded = parameter.get(TRIAL_ID) if isinstance(parameter, Mapping) else None
                    # NNI's own record may be that of another trial: see `TrialJobs`.
                    trial_id = self._manager.folder.trial_result(job_id).get("trial") or recorded
                    if trial_id in known:
                        self._tell(str(trial_id), row["value"], job_id)
            self._serve_owed()

    def _tell(self, trial_id: str, value: Any, job_id: str) -> None:
        raw = value if isinstance(value, Mapping) else {self.strategy.objective.metric: value}
        before = Outcome.of(self.strategy.trials, self.strategy.objective).best
        trial = self.strategy.tell(trial_id, {k: v for k, v in raw.items() if k != "default"}, job_id)
        self._after(trial, before)

    def ended(self, success: bool) -> None:
        """Learn that some trial's process ended; which one, NNI does not know for sure (see `TrialJobs`)."""
        with self._lock:
            with self._recording():
                if success:  # its result comes through another queue, and may still be under way
                    self._silent_since = time.monotonic()
                else:
                    self._settle()
            self._serve_owed()

    def _settle(self, grace: float = 10.0) -> None:
        """Fail the trials whose process has ended without a result."""
        pending = {trial.id for trial in self.strategy.pending}
        silent = self._silent_since is not None and time.monotonic() - self._silent_since > grace
        for trial_id, reason in self._manager.jobs().ended().items():
            if trial_id in pending and (reason or silent):
                self._fail(trial_id, reason or "the trial ended without reporting a final result")

    def _recorded_failure(self, trial_id: str) -> str:
        """Reason that a trial wrote into its result file; empty where there is none here."""
        for file in self._manager.folder.path.glob(f"environments/*/trials/*/{RESULT_FILE}"):
            try:
                result = json.loads(file.read_text())
            except (OSError, ValueError):
                continue
            if result.get("trial") == trial_id and "failure" in result:
                return str(result["failure"])
        return ""

    def _fail(self, trial_id: str, reason: str) -> None:
        trial = self.strategy.tell_failed(trial_id, reason)
        ended = [t for t in self.strategy.trials if t.status != "pending"]
        self._after(trial, None)
        last = ended[-MAX_FAILURES_IN_A_ROW:]
        if len(last) == MAX_FAILURES_IN_A_ROW and all(t.status == "failed" for t in last):
            self._end(f"{MAX_FAILURES_IN_A_ROW} trials in a row failed, the last because: {reason}")

    def _after(self, trial: Trial, before: Trial | None) -> None:
        self._report(trial, before)
        ended = sum(t.status != "pending" for t in self._mine())
        if ended == self._manager.max_trials:
            self._finish()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """One event at a time; its trials and the state that follows from them are recorded together or not at all."""
        memory = self.strategy.memory
        with self._lock, memory.transaction() if memory is not None else nullcontext():
            yield
            if memory is not None:
                memory.save_state(self.strategy.experiment, _STATE, self.strategy.snapshot())

    def _mine(self) -> list[Trial]:
        """Trials of this experiment, without those of a warm start."""
        return [trial for trial in self.strategy.trials if trial.experiment == self.strategy.experiment]

    def _report(self, trial: Trial, before: Trial | None) -> None:
        ended = sum(t.status != "pending" for t in self._mine())
        of = f"/{self._manager.max_trials}" if self._manager.max_trials else ""
        if trial.status == "failed":
            what = f"failed: {trial.reason}"
        else:
            name = self.strategy.objective.metric
            best = Outcome.of(self.strategy.trials, self.strategy.objective).best
            mark = " (best so far)" if best is not None and best.id == trial.id and before is not best else ""
            scored = f"{name} {trial.metrics[name]:.4g}{mark}" if name in trial.metrics else "measured"
            what = f"{scored}  {format_cost(trial.cost)}"
        took = "" if trial.seconds is None else f"  {trial.seconds:.0f} s"
        print(f"[{ended}{of}] {trial.id} {trial.origin.kind}: {what}{took}", flush=True)

    # Ending ----------------------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        """Let NNI end the experiment once the running trials are through."""
        print(f"nni-diffnas: the search ends: {why}.", flush=True)
        self._manager.end_after(max(1, len(self._mine())))
        if not self.strategy.pending:
            self._finish()

    def _finish(self) -> None:
        """Print what was found and export the winner, once."""
        if self._finished:
            return
        self._finished = True
        outcome = Outcome.of(self._mine(), self.strategy.objective)
        print("\n" + outcome.describe(), flush=True)
        if summary := self.strategy.summary():
            print(summary, flush=True)
        if outcome.best is not None and self._job.make_evaluation().scheduler_config() is not None:
            try:
                folder = self._manager.folder
                print(f"pipeline: {export_trial(folder, self._job, outcome.best, folder.path / 'winner')}", flush=True)
            except DiffNASError as error:  # the search is over and recorded; the export can be repeated by hand
                print(f"nni-diffnas: the winner was not exported: {error}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Print what was found, if that has not been done, and close the memory."""
        with self._recording():
            # NNI may stop the tuner before it has told of the last endings.
            for trial in self.strategy.pending:
                if failure := self._recorded_failure(trial.id):
                    self._report(self.strategy.tell_failed(trial.id, failure), None)
        with self._lock:
            self._finish()
            if self.strategy.memory is not None:
                self.strategy.memory.close()
