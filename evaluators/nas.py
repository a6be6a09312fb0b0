"""`DiffusionEvaluator`: `DiffusionEvaluation` for NNI's own `NasExperiment`. It imports NNI's NAS package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import nni
import torch
from nni.nas.evaluator import Evaluator

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.family import Family, traced_family
from nni_diffnas.api.space import Architecture, Value
from nni_diffnas.api.trial import Direction, Objective, standing
from nni_diffnas.job import overruled
from nni_diffnas.trial.result_file import TrialRecord
from nni_diffnas.trial.run import (
    TRIAL_ID,
    checked_metrics,
    report_final,
    report_intermediate,
    split_parameters,
    trial_output,
)

from .diffusion import DiffusionEvaluation

__all__ = ["DiffusionEvaluator"]


@nni.trace
class DiffusionEvaluator(Evaluator):
    """Trains and scores each network of a `NasExperiment`.

    It carries names, numbers and paths only, so that it stays far below NNI's 64 KB for a trial's parameters.

    Example:
        >>> evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": 16000})
        >>> evaluator.prepare()
        >>> NasExperiment(UNetSpace(...), evaluator, RegularizedEvolution(...)).run(8080)

    Args:
        data: fields of `DataSettings`, JSON values only.
        metric: the objective, one of the metrics of `DiffusionEvaluation.evaluate`.
        direction: of the objective. NNI's NAS ranking maximises: ``minimize`` is reported with its sign turned.
        seed: of weights, training and sampling; the same for every architecture.
        max_trial_seconds: wall-clock limit of a trial, which ends a hang as a failure; ``None`` is no limit.
        options: fields of `Settings`, JSON values only.

    Raises:
        JobError: an unknown option, or a value out of range.
    """

    plugin: ClassVar[str] = "diffusion"
    """The evaluator plug-in that takes the same arguments."""

    def __init__(
        self,
        data: Mapping[str, Any],
        metric: str = "rfid",
        direction: Direction = "minimize",
        seed: int = 0,
        max_trial_seconds: float | None = None,
        **options: Any,
    ) -> None:
        self.data = dict(data)
        self.objective = Objective(metric, direction)
        self.seed = seed
        self.max_trial_seconds = max_trial_seconds
        self.options = options
        self.evaluation()

    def evaluation(self) -> DiffusionEvaluation:
        """A new evaluation with these settings."""
        return DiffusionEvaluation(self.data, **self.options)

    @property
    def protocol(self) -> str:
        """What the scores mean; see `DiffusionEvaluation.protocol`."""
        return self.evaluation().protocol

    def prepare(self) -> None:
        """Make what all trials share; call it before the experiment, so that bad data is known at once."""
        self.evaluation().prepare()

    def evaluate(self, model: torch.nn.Module) -> dict[str, float]:
        """Train and score a network, inside NNI or alone; returns all metrics by name."""
        return self._evaluate(model, {}, {}, None)

    def _evaluate(
        self,
        model: torch.nn.Module,
        architecture: Architecture,
        settings: Mapping[str, Value],
        family: Family | None,
    ) -> dict[str, float]:
        evaluation = self.evaluation()
        evaluation.prepare()
        evaluation.family = family
        report = partial(report_intermediate, objective=self.objective, maximize=True)
        context = TrialContext(architecture, trial_output(), self.seed, report, settings)
        return evaluation.evaluate(model, context)

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

    def _execute(self, model: Any) -> Any:
        sample = model.sample or {}
        record = TrialRecord(trial_output(), str(sample.get(TRIAL_ID, "")))
        earlier = record.earlier()
        if earlier is not None:  # finished before a resume that NNI did not hear of
            report_final(earlier["metrics"], self.objective, maximize=True)
            return dict(earlier["metrics"])
        with record.attempt(self.max_trial_seconds):
            architecture, settings = split_parameters(sample)
            self.data = overruled(self.data, settings)
            family, known = traced_family(model), standing(settings)
            if family is not None:
                architecture = family.space.validate(architecture)  # NNI's sample names absent labels too
                known |= family.cost(architecture).as_metrics()
            # NNI builds the network here; seeding first gives equal architectures equal weights.
            torch.manual_seed(self.seed)
            measured = self._evaluate(model.executable_model(), architecture, settings, family)
            metrics = checked_metrics({**measured, **known}, self.objective)
            result = {"metrics": metrics, "protocol": self.protocol, "seed": self.seed}
            record.succeed({"architecture": architecture, **result})
        report_final(metrics, self.objective, maximize=True)
        return metrics
