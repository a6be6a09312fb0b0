"""NNI's event loop for a strategy behind the NAS door: the counterpart of `doors.tuner`."""

from __future__ import annotations

import inspect
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from nni.nas.execution import Middleware
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from pydantic import ValidationError

from ..api.errors import DiffNASError, StrategyError
from ..api.evaluation import Evaluation
from ..api.family import Family, traced_family
from ..api.space import Space
from ..api.trial import NO_REASON, REFUSED, SILENT, Trial
from ..job import Job, carried, data_resumed, resolve_paths
from ..searching.halving import check_halving
from ..searching.open import MEMORY_FILE, announce, open_memory, read_start
from ..searching.ranking import why_broken
from ..trial.run import TRIAL_ID
from .experiment import ExperimentFolder, TrialJobs
from .nni_repairs import await_manager, hear_out_resumes

if TYPE_CHECKING:
    from ..api.strategy import AskTellStrategy

__all__ = ["EngineLoop", "open_search"]


# Here, since NNI starts the manager, and its thread that listens to it, before it calls the strategy.
await_manager()
hear_out_resumes()


def open_search(strategy: AskTellStrategy, model_space: ExecutableModelSpace, engine: Any) -> bool:
    """Bind a strategy to NNI's model space, take up what is known of the experiment, and announce the search.

    Unless the strategy has a memory, trials are kept in the folder of the NNI experiment, where a resume finds them.

    Returns:
        Whether a memory was opened, which is then the caller's to close.

    Raises:
        DiffNASError: strategy, evaluator and space do not go together.
    """
    family, evaluator = traced_family(model_space), model_space.evaluator
    ranked_by = getattr(evaluator, "objective", strategy.objective)
    if ranked_by != strategy.objective:
        raise StrategyError(
            f"The strategy wants to {strategy.objective.direction} {strategy.objective.metric}, the evaluator to "
            f"{ranked_by.direction} {ranked_by.metric}: give both the same metric and direction."
        )
    experiment, opened = _experiment_of(engine), False
    folder = None if experiment is None else _folder_of(experiment)
    make = getattr(evaluator, "evaluation", None)
    evaluation: Evaluation | None = make() if callable(make) else None
    if evaluation is not None and folder is not None and hasattr(evaluator, "data"):
        memory = folder.path / MEMORY_FILE if strategy.memory is None else strategy.memory.path
        data = data_resumed(type(evaluation), evaluator.data, read_start(memory, folder.id))
        strategy.carried = carried(type(evaluation), evaluator.data, data)
        evaluator.data = data
        evaluation = evaluator.evaluation()
    check_halving(strategy.halving, strategy.objective, evaluation)
    job = _job_of(strategy, model_space, family)
    if job is not None:
        job.make_evaluation()  # refuses an objective that is not measured
    if family is None:
        strategy.bind(Space.from_mutables(model_space.simplify()))
    else:
        if evaluation is not None:
            evaluation.check(family)
        strategy.bind(family.space, family, getattr(evaluator, "protocol", ""))
    if folder is not None:
        strategy.experiment = folder.id
        if not (folder.path / "checkpoint" / "config.json").exists():
            experiment.save_checkpoint()  # NNI does so a little later: what has a memory can be resumed
        if strategy.memory is None:
            strategy.memory, opened = open_memory(folder), True
        folder.remember_memory(strategy.memory.path)
        strategy.recall()
    strategy.check()
    config = getattr(experiment, "config", None)
    begun = any(trial.experiment == strategy.experiment for trial in strategy.trials)
    if config is not None and not begun:
        name = type(strategy).__name__
        announce(strategy, name, evaluation, job, None, config.max_trial_number, config.trial_concurrency)
    return opened


def _job_of(strategy: AskTellStrategy, model_space: ExecutableModelSpace, family: Family | None) -> Job | None:
    """The job of a search from Python; ``None`` where its space or its evaluator is no plug-in that a job can name."""
    traced, fields_of = getattr(model_space, "model", None), getattr(model_space.evaluator, "job_fields", None)
    plugin = getattr(getattr(traced, "trace_symbol", None), "plugin", "")
    if traced is None or family is None or not plugin or not callable(fields_of):
        return None
    names = inspect.signature(type(family)).parameters
    given = {**dict(zip(names, traced.trace_args, strict=False)), **traced.trace_kwargs}
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    budget = {name: {"min": window.min, "max": window.max} for name, window in strategy.budget.windows.items()}
    job = {"space": {"type": plugin, **arguments}, "budget": budget, **fields_of()}
    try:
        made = Job.model_validate(resolve_paths(job, Path.cwd()))
        return made if made.make_family().space == family.space else None
    except (ValidationError, DiffNASError):
        return None


class EngineLoop:
    """Asks a strategy while NNI's engine has free workers, and tells it what comes back, until nothing is left.

    A trial counts as finished once its metrics have arrived. An ending says only that *some* trial's process ended (see
    `TrialJobs`): which ones failed is read from what the trials wrote.

    Args:
        strategy: bound by `open_search`.
        close_memory: close the strategy's memory at the end.
    """

    def __init__(self, strategy: AskTellStrategy, close_memory: bool = False) -> None:
        self.strategy, self.close_memory = strategy, close_memory
        self.engine: Any = strategy.engine
        self.experiment = _experiment_of(self.engine)
        # NNI's engine keeps weak references only, and ranks what it has to read back by its own records.
        self.models: dict[str, ExecutableModelSpace] = {}
        self._metrics: list[tuple[str, Mapping[str, Any]]] = []
        self._endings: list[tuple[str, ModelStatus]] = []
        self._arrival = threading.Condition()
        self._woken = False
        self._quiet_since: float | None = None
        self._invalid = 0
        self._jobs_before = 0
        self._unstarted: list[Trial] = []
        self._exhausted = False
        self._again: set[str] = set()
        self._polled = 0.0

    def run(self) -> None:
        """Run the search."""
        self.engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        self.strategy.wake = self._wake
        try:
            if self.strategy.pending or any(t.experiment == self.strategy.experiment for t in self.strategy.trials):
                self._catch_up()
            while self._step():
                with self._arrival:
                    if not self._metrics and not self._endings and not self._woken:
                        self._arrival.wait(timeout=1.0)
            self._await_bookkeeping()
        finally:
            self.strategy.wake = None
            self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
            self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
            if self.close_memory and self.strategy.memory is not None:
                self.strategy.memory.close()

    def _catch_up(self) -> None:
        """After a resume, learn what has happened while no driver was there, and what NNI is going to run again."""
        if self.experiment is None:
            return
        jobs = self._jobs()
        self._jobs_before = len(jobs.jobs)
        ended, again = jobs.ended(), jobs.to_run_again()
        with self.strategy.recording():
            self._tell_results(jobs)
            for trial in self.strategy.pending:
                if ended.get(trial.id):
                    self.strategy.tell_failed(trial.id, ended[trial.id])
                elif trial.id in again:
                    self._again.add(trial.id)
                else:
                    self._unstarted.append(trial)
        self.strategy.history.ended.clear()  # these have ended before this process opened the search

    def _tell_results(self, jobs: TrialJobs) -> None:
        results = jobs.results()
        for trial in self.strategy.trials:
            if trial.id in results and trial.open:
                job_id, value = results[trial.id]
                self._tell(trial.id, self._as_metrics(value), job_id)

    def _tell(self, trial_id: str, metrics: Mapping[str, Any], job_id: str = "") -> None:
        self._again.discard(trial_id)
        self._exhausted = False
        named = {name: value for name, value in metrics.items() if name != "default"}
        self.strategy.tell(trial_id, named, job_id)

    def _fail(self, trial_id: str, reason: str) -> None:
        self._again.discard(trial_id)
        self._exhausted = False
        self.strategy.tell_failed(trial_id, reason)

    def _as_metrics(self, raw: Any) -> Mapping[str, Any]:
        return raw if isinstance(raw, Mapping) else {self.strategy.objective.metric: float(raw)}

    def _on_metric(self, event: FinalMetricEvent) -> None:
        trial_id = (event.model.sample or {}).get(TRIAL_ID)
        if trial_id in self.models and event.metric is not None:
            with self._arrival:
                self._metrics.append((trial_id, self._as_metrics(event.metric)))
                self._arrival.notify()

    def _on_end(self, event: TrainingEndEvent) -> None:
        trial_id = (event.model.sample or {}).get(TRIAL_ID)
        if trial_id in self.models:
            with self._arrival:
                self._endings.append((trial_id, event.status))
                self._arrival.notify()

    def _wake(self) -> None:
        with self._arrival:
            self._woken = True
            self._arrival.notify()

    def _step(self) -> bool:
        """Tell what has arrived, ask where a worker is free; whether there is anything left to wait for."""
        with self._arrival:
            arrived, self._metrics = self._metrics, []
            endings, self._endings = self._endings, []
            woken, self._woken = self._woken, False
        if arrived or endings or woken:
            with self.strategy.recording():
                if woken:
                    self._exhausted = False
                    self.strategy.update(())
                for trial_id, metrics in arrived:
                    self._tell(trial_id, metrics)
                for trial_id, status in endings:
                    self._end(trial_id, status)
        failed = any(status not in (ModelStatus.Trained, ModelStatus.Invalid) for _, status in endings)
        if failed or (self._quiet_since is not None and time.monotonic() - self._quiet_since > 10):
            self._settle(silent=not failed)
        elif self._again and time.monotonic() - self._polled > 2:
            self._settle(silent=False)  # NNI's engine does not know these models, and keeps what it hears to itself
        if self.experiment is not None and self.experiment.get_status() in ("DONE", "STOPPED", "ERROR"):
            if not self._metrics and not self._endings:
                self._settle(silent=True)
                with self.strategy.recording():
                    for trial in self.strategy.pending:
                        if trial not in self._unstarted:
                            self._fail(trial.id, "the experiment ended before this trial did")
                return False
            return True
        why = why_broken(self.strategy.ended)
        allowed = not why and self._left > 0 and self.engine.budget_available()
        # After a resume NNI has workers to offer that are to run again what was interrupted.
        running = len(self.strategy.pending) - len(self._unstarted)
        crowded = self._jobs_before > 0 and running >= self.experiment.config.trial_concurrency
        idle = self.engine.idle_worker_available() and not crowded
        started = self._start(self._free(running)) if allowed and idle and not self._exhausted else []
        if not started and not running and why:
            print(f"nni-diffnas: the search ends: {why}.", flush=True)
        return bool(started or running or (allowed and not idle))

    @property
    def _left(self) -> float:
        """Trials up to the limit: NNI's engine admits models beyond it for a while, and never runs them."""
        limit = None if self.experiment is None else self.experiment.config.max_trial_number
        return math.inf if limit is None else limit - self._jobs_before - len(self.models) + self._invalid

    def _free(self, running: int) -> int:
        """Workers that want a trial; NNI's engine says only whether there is one."""
        concurrency = 1 if self.experiment is None else self.experiment.config.trial_concurrency
        return int(min(max(1, concurrency - running), self._left))

    def _start(self, count: int) -> list[Trial]:
        """Submit what was suggested before a resume; where that is nothing, as many new trials as workers are free."""
        if not self._unstarted:
            self._unstarted = self.strategy.ask(count)
            self._exhausted = not self._unstarted  # until a result arrives
        started: list[Trial] = []
        while self._unstarted and len(started) < count and self.engine.idle_worker_available():
            trial = self._unstarted.pop(0)
            self.models[trial.id] = self.strategy.freeze(trial)
            self.engine.submit_models(self.models[trial.id])
            started.append(trial)
        return started

    def _end(self, trial_id: str, status: ModelStatus) -> None:
        if status == ModelStatus.Invalid:  # a filter stopped it: NNI has not run it
            self._invalid += 1
            self._fail(trial_id, REFUSED)
        elif self.experiment is None and status != ModelStatus.Trained:
            self._fail(trial_id, NO_REASON)
        else:
            self._quiet_since = time.monotonic()

    def _jobs(self) -> TrialJobs:
        started = psutil.Process(self.experiment._proc.pid).create_time()
        return TrialJobs(_folder_of(self.experiment), self.experiment.list_trial_jobs(), started)

    def _settle(self, *, silent: bool) -> None:
        """Tell results that NNI's engine kept to itself; fail the trials whose process has ended without any."""
        self._quiet_since, self._polled = None, time.monotonic()
        if self.experiment is None:
            return
        jobs = self._jobs()
        with self.strategy.recording():
            self._tell_results(jobs)
            pending = {trial.id for trial in self.strategy.pending}
            for trial_id, reason in jobs.ended().items():
                if trial_id in pending and (reason or silent):
                    self._fail(trial_id, reason or SILENT)

    def _await_bookkeeping(self, seconds: float = 5.0) -> None:
        """Wait until NNI's engine has written down that the models ended: it tells its listeners first."""
        until = time.monotonic() + seconds
        while not all(model.status.completed() for model in self.models.values()) and time.monotonic() < until:
            time.sleep(0.05)


def _experiment_of(engine: Any) -> Any:
    """The NNI experiment below an engine and its middleware; ``None`` for an engine that runs without one."""
    while isinstance(engine, Middleware):
        engine = engine.engine
    return getattr(engine, "nodejs_binding", None)


def _folder_of(experiment: Any) -> ExperimentFolder:
    working_directory: str = experiment.config.canonical_copy().experiment_working_directory
    return ExperimentFolder(Path(working_directory) / experiment.id)
