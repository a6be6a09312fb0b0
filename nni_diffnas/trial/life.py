"""The one life of a trial, whatever door has started it: claim, build, train and score, write down, report to NNI."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.errors import TrialFailure
from ..api.evaluation import Evaluation, TrialContext
from ..api.family import Family
from ..api.space import Architecture, Value
from ..api.trial import Metrics, Objective, standing
from ..job import check_carried
from .result_file import TrialRecord, finite
from .watchdog import watched

if TYPE_CHECKING:
    import torch

__all__ = ["Life", "Reports", "checked_metrics", "first_process", "inside_nni", "trial_output"]


def inside_nni() -> bool:
    """Whether NNI has started this process."""
    return os.environ.get("NNI_PLATFORM", "unittest") != "unittest"


def first_process() -> bool:
    """Whether this is the only process of the trial, or the first of those that ``accelerate launch`` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


def trial_output() -> Path:
    """The trial's output folder: NNI's inside NNI, ``./trial-output`` when a trial runs alone."""
    folder = Path(os.environ.get("NNI_OUTPUT_DIR") or "trial-output")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plain(value: Any) -> Any:
    """Numbers as Python's own, also within lists: NNI's JSON knows no NumPy."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, int) else float(value)


def _numbers(metrics: Metrics) -> dict[str, Any]:
    return {name: _plain(value) for name, value in metrics.items()}


def checked_metrics(metrics: Metrics, objective: Objective) -> dict[str, Any]:
    """What a trial has measured, as Python's own numbers; called before any of it counts as a result.

    Raises:
        JobError: the objective is not among them.
        TrialFailure: one is no number, or the objective is nan or infinite: it must not be ranked, and the strategy has
            to learn of it.
    """
    try:
        numbers = _numbers(metrics)
    except (TypeError, ValueError) as error:
        raise TrialFailure(f"The evaluator must report numbers only: {error}.") from error
    objective.default(numbers, maximize=False)
    value = numbers.get(objective.metric)
    if isinstance(value, float) and not math.isfinite(value):
        raise TrialFailure(f"{objective.metric} is {value}: the training diverged.")
    return numbers


@dataclass(frozen=True)
class Reports:
    """How the metrics of a trial reach NNI; its ``default`` is set here and nowhere else.

    Args:
        objective: what ``default`` is.
        maximize: the door always maximises (NNI's NAS engine), so that a minimised metric is negated.
        heard: whether NNI listens.
    """

    objective: Objective
    maximize: bool
    heard: bool = True

    def intermediate(self, metrics: Metrics) -> None:
        """Report metrics on the way once they hold the objective: that is the curve NNI draws."""
        if self.heard and self.objective.metric in finite(metrics):
            import nni

            nni.report_intermediate_result(self._told(metrics))

    def final(self, metrics: Metrics) -> None:
        """Report everything measured."""
        if self.heard:
            import nni

            nni.report_final_result(self._told(metrics))

    def _told(self, metrics: Metrics) -> dict[str, Any]:
        default = self.objective.default(metrics, maximize=self.maximize)
        return {"default": default, **finite(_numbers(metrics))}


@dataclass(frozen=True)
class Life:
    """One trial from its parameters to its report.

    Args:
        folder: of its output; exists.
        trial_id: empty for a trial that runs alone.
        seed: of weights, training and sampling.
        max_seconds: wall-clock limit; ``None`` is none.
        reports: to NNI.
    """

    folder: Path
    trial_id: str
    seed: int
    max_seconds: float | None
    reports: Reports

    def run(
        self,
        make: Callable[[], tuple[Family | None, Evaluation]],
        architecture: Architecture | None,
        settings: dict[str, Value],
        build: Callable[[Family | None, Architecture], torch.nn.Module],
    ) -> dict[str, Any]:
        """Run it and return its metrics; ``seconds`` is its whole wall-clock time.

        Of several processes that train together, only the first writes and reports; the others return nothing.

        Args:
            make: what trains and, where it is known, what prices the network; whatever it refuses is the trial's
                reason.
            architecture: all labels, absent ones perhaps too; ``None`` for the family's default.
            settings: further scalars of the strategy and of the door, whose own leave it.
            build: the network, called after seeding, so that equal architectures get equal weights.

        Raises:
            DiffNASError: bad input or a failed trial. The reason is in `RESULT_FILE <result_file>` too.
        """
        started = time.monotonic()
        record = TrialRecord(self.folder, self.trial_id)
        earlier = record.earlier()
        if earlier is not None:  # finished before a resume that NNI did not hear of
            if first_process():
                self.reports.final(earlier["metrics"])
            return dict(earlier["metrics"])
        with watched(record, self.max_seconds) if first_process() else nullcontext():
            family, evaluation = make()
            chosen, known = dict(architecture or {}), standing(settings)
            if family is not None:
                chosen = family.space.validate(family.default if architecture is None else architecture)
            evaluation.prepare()
            check_carried(evaluation, settings)
            if family is not None:
                known |= family.cost(chosen).as_metrics()
            evaluation.check_objective(self.reports.objective, known)
            context = TrialContext(chosen, self.folder, self.seed, self.reports.intermediate, settings, family)
            measured = evaluation.evaluate(self._seeded(build, family, chosen), context)
            if not first_process():
                return {}
            seconds = {"seconds": round(time.monotonic() - started, 3)}
            metrics = checked_metrics({**measured, **known, **seconds}, self.reports.objective)
            result = {"metrics": metrics, "protocol": evaluation.protocol, "seed": self.seed}
            record.succeed({"architecture": chosen, **result})
        self.reports.final(metrics)
        return metrics

    def _seeded(
        self,
        build: Callable[[Family | None, Architecture], torch.nn.Module],
        family: Family | None,
        architecture: Architecture,
    ) -> torch.nn.Module:
        import torch

        torch.manual_seed(self.seed)
        return build(family, architecture)
