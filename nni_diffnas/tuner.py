"""`DiffNASTuner`: every strategy behind ``nnictl create``.

NNI's ``nnictl`` runs hyper-parameter tuners only, so this tuner hosts the strategies: NNI asks it for parameters, it
asks the strategy for architectures; results go the other way. One class serves all strategies: ``nni-diffnas register``
gives each its own name.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nni.tuner import Tuner

from .errors import DiffNASError, JobError
from .evaluation import Evaluation
from .experiment import ManagerInfo
from .family import Family
from .forecast import forecast_search
from .job import Job, load_job, refuse_secrets
from .memory import SearchMemory
from .outcome import Outcome, format_cost
from .plugins import find_plugin
from .runner import RESULT_FILE, TRIAL_ID
from .space import Space, Value
from .strategy import AskTellStrategy, parameters_of
from .trial import Trial
from .winner import export_trial

__all__ = ["DiffNASTuner", "make_strategy", "restrict_space"]

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


class DiffNASTuner(Tuner):
    """NNI tuner that runs a strategy of nni-diffnas.

    Args:
        job: path of the job file; a relative one starts at the experiment's ``trialCodeDirectory``.
        strategy: name of the strategy plug-in.
        optimize_mode: NNI's own argument, by which the web UI sorts; must agree with the job's objective.
        **options: of the strategy.
    """

    def __init__(self, job: str, strategy: str, optimize_mode: str = "maximize", **options: Any) -> None:
        super().__init__()
        # Nothing is opened here: an exception in a tuner's constructor kills the dispatcher before it can tell NNI.
        self._job_path, self._strategy_name = job, strategy
        self._optimize_mode, self._options = optimize_mode, options
        self._manager = ManagerInfo.read()
        self._lock = threading.RLock()
        self._strategy: AskTellStrategy | None = None
        self._ids: dict[int, str] = {}
        self._owed: list[int] = []
        self._send: Callable[[int, dict[str, Value]], None] | None = None
        self._unreported: dict[str, float] = {}
        self._finished = False
        self._error: DiffNASError | None = None

    # Opening ---------------------------------------------------------------------------------------------------------

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """Open the job, the memory and the strategy; NNI calls this first.

        Raises:
            DiffNASError: bad input; the sentence is printed to the terminal and the experiment ends as ERROR.
        """
        with self._lock:
            try:
                if self._strategy is not None:
                    raise JobError("The search space of a running search cannot be changed: start a new experiment.")
                self._strategy = self._open(search_space)
            except DiffNASError as error:
                self._error = error
                print(f"nni-diffnas: {error}", file=sys.stderr, flush=True)
                self._manager.fail(str(error))
                raise

    def _open(self, search_space: dict[str, Any]) -> AskTellStrategy:
        refuse_secrets(self._options, "classArgs of the tuner")
        job = self._job = load_job(self._manager.code_directory / self._job_path)
        wanted = job.make_objective().direction
        if self._optimize_mode != wanted:
            raise JobError(
                f"classArgs say optimize_mode: {self._optimize_mode}, the job's objective says {wanted}: set "
                f"optimize_mode: {wanted}, so that NNI's web UI sorts the right way."
            )
        family, evaluation = job.make_family(), job.make_evaluation()
        space = restrict_space(family.space, search_space)
        evaluation.prepare()
        self._forecast(family, evaluation, job)
        folder = self._manager.folder
        memory_file = Path(job.memory) if job.memory else folder.path / "memory.sqlite"
        memory = SearchMemory(memory_file)
        folder.remember_memory(memory_file)
        strategy = make_strategy(self._strategy_name, job, memory, self._options)
        strategy.experiment = folder.id
        strategy.bind(space, family, evaluation.protocol, task=job.task, folder=folder.path)
        if self._manager.resumed:
            snapshot = memory.load_state(folder.id, _STATE)
            strategy.restore(memory.trials(experiment=folder.id), snapshot if isinstance(snapshot, dict) else {})
        else:
            memory.log(
                "experiment",
                folder.id,
                {
                    "job": job.model_dump(mode="json"),
                    "strategy": self._strategy_name,
                    "options": self._options,
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

    @property
    def strategy(self) -> AskTellStrategy:
        """The strategy, once NNI has sent the search space."""
        if self._strategy is None:
            raise JobError("The tuner has not received its search space.")
        return self._strategy

    # Asking ----------------------------------------------------------------------------------------------------------

    def generate_multiple_parameters(self, parameter_id_list: list[int], **kwargs: Any) -> list[dict[str, Value]]:
        """Ask the strategy for as many architectures as NNI has free workers.

        Where it has fewer for now (it waits for results), the remaining ids are served when results arrive; where it
        has none and nothing is pending, the experiment ends.
        """
        with self._lock:
            self._send = kwargs.get("st_callback")
            self._settle()
            self._serve_owed()
            asked = self.strategy.ask(len(parameter_id_list))
            self._owed += parameter_id_list[len(asked) :]
            parameters = [self._start(i, t) for i, t in zip(parameter_id_list, asked, strict=False)]
            self._save()
            if not asked and not self.strategy.pending:
                self._end("the strategy has nothing more to suggest")
            return parameters

    def _start(self, parameter_id: int, trial: Trial) -> dict[str, Value]:
        self._ids[parameter_id] = trial.id
        return parameters_of(trial, self.strategy.space)

    def _serve_owed(self) -> None:
        if self._owed and self._send is not None:
            for trial in self.strategy.ask(len(self._owed)):
                parameter_id = self._owed.pop(0)
                self._send(parameter_id, self._start(parameter_id, trial))

    # Telling ---------------------------------------------------------------------------------------------------------

    def receive_trial_result(self, parameter_id: int, parameters: dict[str, Value], value: Any, **kwargs: Any) -> None:
        """Hand a trial's complete metric dictionary to the strategy."""
        with self._lock:
            self._tell(str(parameters[TRIAL_ID]), value, str(kwargs.get("trial_job_id") or ""))

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Receive trials that finished before a resume, or while it was under way; known results are ignored."""
        with self._lock:
            for row in data:
                parameter = row.get("parameter")
                if isinstance(parameter, Mapping) and parameter.get(TRIAL_ID) in {t.id for t in self.strategy.trials}:
                    self._tell(str(parameter[TRIAL_ID]), row["value"], str(row.get("trialJobId") or ""))

    def _tell(self, trial_id: str, value: Any, job_id: str) -> None:
        self._unreported.pop(trial_id, None)
        raw = value if isinstance(value, Mapping) else {self.strategy.objective.metric: value}
        before = Outcome.of(self.strategy.trials, self.strategy.objective).best
        trial = self.strategy.tell(trial_id, {k: v for k, v in raw.items() if k != "default"}, job_id)
        self._after(trial, before)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Learn that a trial's process ended; a success without a result counts as failed after a grace time."""
        with self._lock:
            trial_id = self._ids.get(parameter_id)
            if trial_id is None or self._strategy is None:
                return
            if trial_id not in {trial.id for trial in self.strategy.pending}:
                return
            if success:  # NNI sends results and endings through two queues: the result may still be under way
                self._unreported[trial_id] = time.monotonic()
            else:
                self._fail(trial_id, *self._failure(trial_id))

    def _settle(self, grace: float = 10.0) -> None:
        for trial_id, since in list(self._unreported.items()):
            if time.monotonic() - since > grace:
                del self._unreported[trial_id]
                self._fail(trial_id, "the trial ended without reporting a final result", "")

    def _failure(self, trial_id: str) -> tuple[str, str]:
        """Reason that the trial wrote into its result file, and its job id, as far as they can be found here."""
        for file in self._manager.folder.path.glob(f"environments/*/trials/*/{RESULT_FILE}"):
            try:
                result = json.loads(file.read_text())
            except (OSError, ValueError):
                continue
            if result.get("trial") == trial_id and "failure" in result:
                return str(result["failure"]), file.parent.name
        return "the trial's process ended with an error before it could say why: see its stderr in the web UI", ""

    def _fail(self, trial_id: str, reason: str, job_id: str) -> None:
        trial = self.strategy.tell_failed(trial_id, reason, job_id)
        ended = [t for t in self.strategy.trials if t.status != "pending"]
        self._after(trial, None)
        last = ended[-MAX_FAILURES_IN_A_ROW:]
        if len(last) == MAX_FAILURES_IN_A_ROW and all(t.status == "failed" for t in last):
            self._end(f"{MAX_FAILURES_IN_A_ROW} trials in a row failed, the last because: {reason}")

    def _after(self, trial: Trial, before: Trial | None) -> None:
        self._report(trial, before)
        self._serve_owed()
        self._save()
        ended = sum(t.status != "pending" for t in self._mine())
        if ended == self._manager.max_trials:
            self._finish()

    def _mine(self) -> list[Trial]:
        """Trials of this experiment, without those of a warm start."""
        return [trial for trial in self.strategy.trials if trial.experiment == self.strategy.experiment]

    def _save(self) -> None:
        memory = self.strategy.memory
        if memory is not None:
            memory.save_state(self.strategy.experiment, _STATE, self.strategy.snapshot())

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
        if self._finished or self._strategy is None:
            return
        self._finished = True
        outcome = Outcome.of(self._mine(), self.strategy.objective)
        print("\n" + outcome.describe(), flush=True)
        if outcome.best is not None and self._job.make_evaluation().scheduler_config() is not None:
            try:
                folder = self._manager.folder
                print(f"pipeline: {export_trial(folder, self._job, outcome.best, folder.path / 'winner')}", flush=True)
            except DiffNASError as error:  # the search is over and recorded; the export can be repeated by hand
                print(f"nni-diffnas: the winner was not exported: {error}", file=sys.stderr, flush=True)

    def _on_exit(self) -> None:
        with self._lock:
            self._finish()
            if self._strategy is not None and self._strategy.memory is not None:
                self._strategy.memory.close()

    def _on_error(self) -> None:
        self._on_exit()
