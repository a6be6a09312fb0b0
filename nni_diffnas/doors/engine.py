"""The NAS door: a search over NNI's model space, and the loop that runs it in NNI's engine."""

from __future__ import annotations

import inspect
import math
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from nni.nas.execution import Middleware
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus
from pydantic import ValidationError

from ..api.cost import Budget
from ..api.ending import Ending
from ..api.errors import DiffNASError, StrategyError
from ..api.family import Family
from ..api.space import Space, Value
from ..api.trial import Trial
from ..job import Job, carried, data_resumed
from ..memory import SearchMemory
from ..memory.experiment_folder import ExperimentFolder
from ..searching.halving import check_halving
from ..searching.open import MEMORY_FILE, announce, check_unchanged, open_memory, read_start
from ..searching.options import ConfiguredStrategy
from ..searching.search import Search
from ..trial.parameters import TRIAL_ID
from .evaluator import EvaluationDoor
from .experiment import TrialJobs
from .model_space import traced_family, traced_space
from .nni_repairs import await_manager, hear_out_resumes

__all__ = ["EngineLoop", "open_search"]


# Here, since NNI starts the manager, and its thread that listens to it, before it calls the strategy.
await_manager()
hear_out_resumes()


def open_search(strategy: ConfiguredStrategy, model_space: ExecutableModelSpace, engine: Any) -> tuple[Search, bool]:
    """Open a search over NNI's model space, take up what is known of the experiment, and announce the search.

    Unless the strategy names a memory, trials are kept in the folder of the NNI experiment, where a resume finds them.

    Returns:
        The search, and whether a memory was opened for it, which is then the caller's to close.

    Raises:
        DiffNASError: strategy, evaluator and space do not go together.
    """
    family, evaluator = traced_family(model_space), model_space.evaluator
    options, objective = strategy.options, strategy.options.objective
    ranked_by = getattr(evaluator, "objective", objective)
    if ranked_by != objective:
        raise StrategyError(
            f"The strategy wants to {objective.direction} {objective.metric}, the evaluator to "
            f"{ranked_by.direction} {ranked_by.metric}: give both the same metric and direction."
        )
    experiment = _experiment_of(engine)
    opened: SearchMemory | None = None
    folder = None if experiment is None else _folder_of(experiment)
    evaluation = evaluator.evaluation() if isinstance(evaluator, EvaluationDoor) else None
    settings: dict[str, Value] = {}
    if evaluation is not None and folder is not None:
        memory = folder.path / MEMORY_FILE if options.memory is None else options.memory.path
        start, written = read_start(memory, folder.id), evaluator.data
        evaluator.data = data_resumed(type(evaluation), written, start)
        evaluation = evaluator.evaluation()
        check_unchanged(evaluation, start)
        settings = carried(evaluation, written, evaluator.data)
    check_halving(options.halving, objective, evaluation)
    job = _job_of(options.budget, model_space, family)
    if job is not None:
        job.make_evaluation()  # refuses an objective that is not measured
    if family is not None and evaluation is not None:
        evaluation.check(family)
    if folder is not None:
        if not (folder.path / "checkpoint" / "config.json").exists():
            experiment.save_checkpoint()  # NNI does so a little later: what has a memory can be resumed
        if options.memory is None:
            opened = open_memory(folder)
        else:
            folder.remember_memory(options.memory.path)
    search = Search(
        strategy,
        Space.from_mutables(model_space.simplify()) if family is None else family.space,
        family,
        "" if family is None or evaluation is None else evaluation.protocol,
        experiment="" if folder is None else folder.id,
        memory=opened,
        carried=settings,
    )
    if folder is not None:
        search.recall()
    strategy.check()
    config = getattr(experiment, "config", None)
    if config is not None and not search.own:
        announce(search, search.name, evaluation, job, None, config.max_trial_number, config.trial_concurrency)
    return search, opened is not None


def _job_of(budget: Budget, model_space: ExecutableModelSpace, family: Family | None) -> Job | None:
    """The job of a search from Python; ``None`` where its space or its evaluator is no plug-in that a job can name."""
    found, evaluator = traced_space(model_space), model_space.evaluator
    if found is None or family is None or not isinstance(evaluator, EvaluationDoor):
        return None
    space, positional, keywords = found
    plugin, positional = space.named(*positional)
    if not plugin:
        return None
    given = {**dict(zip(inspect.signature(type(family)).parameters, positional, strict=False)), **keywords}
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    windows = {name: {"min": window.min, "max": window.max} for name, window in budget.windows.items()}
    job = {"space": {"type": plugin, **arguments}, "budget": windows, **evaluator.job_fields()}
    try:
        made = Job.model_validate(job).located(Path.cwd())
        return made if made.make_family().space == family.space else None
    except (ValidationError, DiffNASError):
        return None


class EngineLoop:
    """Asks a search while NNI's engine has free workers, and tells it what comes back, until nothing is left.

    A trial counts as finished once its metrics have arrived. An ending says only that *some* trial's process ended (see
    `TrialJobs`): which ones failed is read from what the trials wrote.

    Args:
        search: opened by `open_search`.
        engine: NNI's, perhaps with middleware.
        model_space: whose frozen copies the engine trains.
        close_memory: close the search's memory at the end.
    """

    def __init__(
        self, search: Search, engine: Any, model_space: ExecutableModelSpace, *, close_memory: bool = False
    ) -> None:
        self.search, self.engine, self.model_space, self.close_memory = search, engine, model_space, close_memory
        self.experiment = _experiment_of(engine)
        # NNI's engine keeps weak references only, and ranks what it has to read back by its own records.
        self.models: dict[str, ExecutableModelSpace] = {}
        self._metrics: list[tuple[str, Any]] = []
        self._endings: list[tuple[str, ModelStatus]] = []
        self._arrival = threading.Condition()
        self._woken = False
        self._quiet_since: float | None = None
        self._invalid = 0
        self._jobs_before = 0
        self._exhausted = False
        self._again: set[str] = set()
        self._polled = 0.0
        search.on_end = self._ended

    def run(self) -> None:
        """Run the search."""
        self.engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        self.search.strategy.wake = self._wake
        try:
            if self.search.own:
                self._catch_up()
            while self._step():
                with self._arrival:
                    if not self._metrics and not self._endings and not self._woken:
                        self._arrival.wait(timeout=1.0)
            self._await_bookkeeping()
        finally:
            self.search.strategy.wake = None
            self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
            self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
            if self.close_memory and self.search.memory is not None:
                self.search.memory.close()

    def _catch_up(self) -> None:
        """After a resume, learn what has happened while no driver was there, and what NNI is going to run again."""
        if self.experiment is None:
            return
        jobs = self._jobs()
        self._jobs_before = len(jobs.jobs)
        again = self.search.catch_up(jobs, silent=False)
        self._again = again & {trial.id for trial in self.search.pending}

    def _ended(self, trial: Trial, given_up: bool) -> None:
        self._again.discard(trial.id)
        self._exhausted = False

    def _on_metric(self, event: FinalMetricEvent) -> None:
        trial_id = (event.model.sample or {}).get(TRIAL_ID)
        if trial_id in self.models and event.metric is not None:
            with self._arrival:
                self._metrics.append((trial_id, event.metric))
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
            with self.search.recording():
                if woken:
                    self._exhausted = False
                    self.search.strategy.update(())
                for trial_id, metrics in arrived:
                    self.search.tell(trial_id, metrics)
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
                with self.search.recording():
                    for trial in self.search.pending:
                        if trial not in self.search.unstarted:
                            self.search.tell_failed(trial.id, "the experiment ended before this trial did")
                return False
            return True
        why = self.search.broken
        allowed = not why and self._left > 0 and self.engine.budget_available()
        # After a resume NNI has workers to offer that are to run again what was interrupted.
        running = self.search.running
        crowded = self._jobs_before > 0 and running >= self.experiment.config.trial_concurrency
        idle = self.engine.idle_worker_available() and not crowded
        started = self._start(self._free(running)) if allowed and idle and not self._exhausted else 0
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

    def _start(self, count: int) -> int:
        """Submit as many trials as workers are free, and say how many these were."""
        asked, started = self.search.ask(count), 0
        self._exhausted = not asked  # until a result arrives
        while asked and self.engine.idle_worker_available():
            trial = asked.pop(0)
            self.models[trial.id] = self.model_space.freeze(self.search.parameters(trial))
            self.engine.submit_models(self.models[trial.id])
            started += 1
        self.search.unstarted = [*asked, *self.search.unstarted]
        return started

    def _end(self, trial_id: str, status: ModelStatus) -> None:
        if status == ModelStatus.Invalid:  # a filter stopped it: NNI has not run it
            self._invalid += 1
            self.search.tell_failed(trial_id, Ending.REFUSED)
        elif self.experiment is None and status != ModelStatus.Trained:
            self.search.tell_failed(trial_id, Ending.CRASHED)
        else:
            self._quiet_since = time.monotonic()

    def _jobs(self) -> TrialJobs:
        started = psutil.Process(self.experiment._proc.pid).create_time()
        return TrialJobs(_folder_of(self.experiment), self.experiment.list_trial_jobs(), started)

    def _settle(self, *, silent: bool) -> None:
        """Tell results that NNI's engine kept to itself; fail the trials whose process has ended without any."""
        self._quiet_since, self._polled = None, time.monotonic()
        if self.experiment is not None:
            jobs = self._jobs()
            with self.search.recording():
                self.search.settle(jobs, silent=silent)

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
