"""NNI's event loop for a strategy behind the NAS door: the counterpart of `driver`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni.nas.execution import Middleware
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.space import ExecutableModelSpace, ModelStatus

from .experiment import NO_REASON, ExperimentFolder, TrialJobs
from .runner import TRIAL_ID

if TYPE_CHECKING:
    from .strategy import AskTellStrategy

__all__ = ["EngineLoop"]


class EngineLoop:
    """Asks a strategy while NNI's engine has free workers, and tells it what comes back, until nothing is left.

    A trial counts as finished once its metrics have arrived. An ending says only that *some* trial's process ended (see
    `TrialJobs`): which ones failed is read from what the trials wrote.
    """

    def __init__(self, strategy: AskTellStrategy) -> None:
        self.strategy = strategy
        self.engine: Any = strategy.engine
        self.experiment = _experiment_of(self.engine)
        # NNI's engine keeps weak references only, and ranks what it has to read back by its own records.
        self.models: dict[str, ExecutableModelSpace] = {}
        self._metrics: list[tuple[str, Mapping[str, Any]]] = []
        self._endings: list[tuple[str, ModelStatus]] = []
        self._arrival = threading.Condition()
        self._quiet_since: float | None = None
        self._invalid = 0

    def run(self) -> None:
        """Run the search."""
        self.engine.register_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
        self.engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        try:
            while self._step():
                with self._arrival:
                    if not self._metrics and not self._endings:
                        self._arrival.wait(timeout=1.0)
            self._await_bookkeeping()
        finally:
            self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._on_metric)
            self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)

    def _on_metric(self, event: FinalMetricEvent) -> None:
        trial_id = (event.model.sample or {}).get(TRIAL_ID)
        if trial_id in self.models and event.metric is not None:
            raw: Any = event.metric
            metrics = raw if isinstance(raw, Mapping) else {self.strategy.objective.metric: float(raw)}
            with self._arrival:
                self._metrics.append((trial_id, metrics))
                self._arrival.notify()

    def _on_end(self, event: TrainingEndEvent) -> None:
        trial_id = (event.model.sample or {}).get(TRIAL_ID)
        if trial_id in self.models:
            with self._arrival:
                self._endings.append((trial_id, event.status))
                self._arrival.notify()

    def _step(self) -> bool:
        """Tell what has arrived, ask where a worker is free; whether there is anything left to wait for."""
        with self._arrival:
            arrived, self._metrics = self._metrics, []
            endings, self._endings = self._endings, []
        for trial_id, metrics in arrived:
            self.strategy.tell(trial_id, {name: value for name, value in metrics.items() if name != "default"})
        for trial_id, status in endings:
            if status == ModelStatus.Invalid:  # a filter stopped it: NNI has not run it
                self._invalid += 1
                self.strategy.tell_failed(trial_id, "refused by a filter before it was trained")
            elif self.experiment is None and status != ModelStatus.Trained:
                self.strategy.tell_failed(trial_id, NO_REASON)
            else:
                self._quiet_since = time.monotonic()
        failed = any(status not in (ModelStatus.Trained, ModelStatus.Invalid) for _, status in endings)
        if failed or (self._quiet_since is not None and time.monotonic() - self._quiet_since > 10):
            self._settle(silent=not failed)
        limit = None if self.experiment is None else self.experiment.config.max_trial_number
        # NNI's engine admits models beyond the trial limit for a while, and never runs them.
        allowed = (limit is None or len(self.models) - self._invalid < limit) and self.engine.budget_available()
        idle = self.engine.idle_worker_available()
        asked = self.strategy.ask(1) if allowed and idle else []
        for trial in asked:
            self.models[trial.id] = self.strategy.freeze(trial)
            self.engine.submit_models(self.models[trial.id])
        pending = [trial.id for trial in self.strategy.pending if trial.id in self.models]
        if self.experiment is not None and self.experiment.get_status() in ("DONE", "STOPPED", "ERROR"):
            if not self._metrics and not self._endings:
                self._settle(silent=True)
                for trial_id in pending:
                    self.strategy.tell_failed(trial_id, "the experiment ended before this trial did")
                return False
            return True
        return bool(asked or pending or (allowed and not idle))

    def _settle(self, *, silent: bool) -> None:
        """Fail the trials whose process has ended without a result."""
        self._quiet_since = None
        if self.experiment is None:
            return
        folder = Path(self.experiment.config.canonical_copy().experiment_working_directory) / self.experiment.id
        pending = {trial.id for trial in self.strategy.pending}
        for trial_id, reason in TrialJobs(ExperimentFolder(folder), self.experiment.list_trial_jobs()).ended().items():
            if trial_id in pending and (reason or silent):
                self.strategy.tell_failed(trial_id, reason or "the trial ended without reporting a final result")

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
