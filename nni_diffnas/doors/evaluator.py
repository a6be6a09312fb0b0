"""`PluginEvaluator`: any evaluator plug-in for NNI's own `NasExperiment`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import nni
import torch
from nni.nas.evaluator import Evaluator

from ..api.errors import JobError
from ..api.evaluation import Evaluation, TrialContext
from ..api.family import Family
from ..api.space import Architecture
from ..api.trial import Direction, Objective
from ..job import LONGEST_TRIAL, take_up
from ..plugins import find_plugin
from ..trial.life import Life, Reports, trial_output
from ..trial.parameters import TRIAL_ID, split_parameters
from .model_space import traced_family

__all__ = ["EvaluationDoor", "PluginEvaluator"]


class EvaluationDoor(Evaluator):
    """Trains and scores each network of a `NasExperiment`.

    It carries names, numbers and paths only, so that it stays far below NNI's 64 KB for a trial's parameters.

    Args:
        plugin: name of the evaluator plug-in.
        data: what to learn, JSON values only, as the ``data`` section of a job.
        metric: the objective, one of the metrics that the evaluation returns.
        direction: of the objective. NNI's NAS ranking maximises: ``minimize`` is reported with its sign turned.
        seed: of weights, training and sampling; the same for every architecture.
        max_trial_seconds: wall-clock limit of a trial, which ends a hang as a failure; ``None`` is no limit.
        options: of the plug-in, JSON values only.

    Raises:
        PluginError, JobError: no such plug-in, it refuses its options, or seed or limit are out of range.
    """

    def __init__(
        self,
        plugin: str,
        data: Mapping[str, Any] | None = None,
        metric: str = "rfid",
        direction: Direction = "minimize",
        seed: int = 0,
        max_trial_seconds: float | None = None,
        **options: Any,
    ) -> None:
        if max_trial_seconds is not None and not 0 < max_trial_seconds <= LONGEST_TRIAL:
            raise JobError(f"max_trial_seconds is {max_trial_seconds}: give seconds above 0, up to {LONGEST_TRIAL:g}.")
        if not 0 <= seed < 2**31:
            raise JobError(f"seed is {seed}: give a number from 0 to {2**31 - 1}.")
        self.plugin = plugin
        self.data = dict(data or {})
        self.objective = Objective(metric, direction)
        self.seed = seed
        self.max_trial_seconds = max_trial_seconds
        self.options = options
        self.evaluation()

    def evaluation(self) -> Evaluation:
        """A new evaluation with these settings."""
        return cast(Evaluation, find_plugin("evaluators", self.plugin)(self.data, **self.options))

    @property
    def protocol(self) -> str:
        """What the scores mean; see `Evaluation.protocol`."""
        return self.evaluation().protocol

    def prepare(self) -> None:
        """Make what all trials share; call it before the experiment, so that bad data is known at once."""
        self.evaluation().prepare()

    def check(self, family: Family) -> None:
        """Refuse a space that does not fit the data; call it before the experiment, so that it is known at once."""
        self.evaluation().check(family)

    def evaluate(self, model: torch.nn.Module) -> dict[str, Any]:
        """Train and score a network by hand; returns all metrics by name."""
        evaluation = self.evaluation()
        evaluation.prepare()
        report = Reports(self.objective, maximize=True).intermediate
        return evaluation.evaluate(model, TrialContext({}, trial_output(), self.seed, report))

    def job_fields(self) -> dict[str, Any]:
        """What a job file says of this evaluator."""
        return {
            "data": self.data,
            "evaluator": {"type": self.plugin, **self.options},
            "objective": {"metric": self.objective.metric, "direction": self.objective.direction},
            "seed": self.seed,
            "max_trial_seconds": self.max_trial_seconds,
        }

    def extra_repr(self) -> str:
        """What NNI prints of it."""
        return f"data={self.data!r}, objective={self.objective!r}, options={self.options!r}"

    def _life(self, trial_id: str) -> Life:
        reports = Reports(self.objective, maximize=True)
        return Life(trial_output(), trial_id, self.seed, self.max_trial_seconds, reports)

    def _execute(self, model: Any) -> Any:
        parameters = model.sample or {}
        architecture, settings = split_parameters(parameters)
        self.data = take_up(self.data, settings)

        def build(family: Family | None, chosen: Architecture) -> torch.nn.Module:
            return cast(torch.nn.Module, model.executable_model())

        life = self._life(str(parameters.get(TRIAL_ID, "")))
        return life.run(lambda: (traced_family(model), self.evaluation()), architecture, settings, build)


@nni.trace
class PluginEvaluator(EvaluationDoor):
    """An evaluator plug-in by its name.

    Example:
        >>> evaluator = PluginEvaluator("tabular", {"path": "table.npz"}, metric="error")
        >>> NasExperiment(FamilySpace("table", path="table.npz"), evaluator, RandomSearch(objective="error")).run(8080)
    """
