"""What runs inside a trial: build the network, train and score it, report to NNI.

Imports only what training needs: it starts once per architecture.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.errors import TrialFailure
from ..api.evaluation import TrialContext
from ..api.family import Family
from ..api.space import Architecture, Space, Value
from ..api.trial import Metrics, Objective, Trial, standing
from ..job import Job, overruled
from .result_file import TrialRecord, finite

if TYPE_CHECKING:
    import torch

__all__ = [
    "SETTING_PREFIX",
    "TRIAL_ID",
    "build_seeded",
    "checked_metrics",
    "parameters_of",
    "report_final",
    "report_intermediate",
    "run_trial",
    "split_parameters",
    "trial_output",
]

SETTING_PREFIX = "run."
"""Parameters under this prefix are settings of the run, not labels of the architecture."""

TRIAL_ID = "run.trial"
"""The parameter that carries a trial's id through NNI, so that results find it again after a resume."""


def split_parameters(parameters: Mapping[str, Value]) -> tuple[Architecture, dict[str, Value]]:
    """Separate the architecture (all its labels) from the settings of the run."""
    architecture = {label: value for label, value in parameters.items() if not label.startswith(SETTING_PREFIX)}
    settings = {
        label.removeprefix(SETTING_PREFIX): value
        for label, value in parameters.items()
        if label.startswith(SETTING_PREFIX) and label != TRIAL_ID
    }
    return architecture, settings


def parameters_of(trial: Trial, space: Space) -> dict[str, Value]:
    """Flat parameters of a trial as NNI shows and ships them: every label, then the settings."""
    settings = {f"{SETTING_PREFIX}{name}": value for name, value in trial.settings.items()}
    return {**space.complete(trial.architecture), **settings, TRIAL_ID: trial.id}


def trial_output() -> Path:
    """The trial's output folder: NNI's inside NNI, ``./trial-output`` when a trial runs alone."""
    folder = Path(os.environ.get("NNI_OUTPUT_DIR") or "trial-output")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _first() -> bool:
    """Whether this is the only process of the trial, or the first of those that ``accelerate launch`` started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


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


def report_intermediate(metrics: Metrics, objective: Objective, *, maximize: bool) -> None:
    """Report intermediate metrics to NNI once they hold the objective: that is the curve NNI draws."""
    import nni

    if objective.metric in finite(metrics):
        default = objective.default(metrics, maximize=maximize)
        nni.report_intermediate_result({"default": default, **finite(_numbers(metrics))})


def report_final(metrics: Metrics, objective: Objective, *, maximize: bool) -> None:
    """Report the final dictionary to NNI, its ``default`` set here and nowhere else.

    Args:
        metrics: everything measured, by name.
        objective: what ``default`` is.
        maximize: the door always maximises (NNI's NAS engine), so that a minimised metric is negated.
    """
    import nni

    nni.report_final_result({"default": objective.default(metrics, maximize=maximize), **finite(_numbers(metrics))})


def build_seeded(family: Family, architecture: Mapping[str, Value], seed: int) -> torch.nn.Module:
    """Build a network whose initial weights depend on the seed and the architecture alone."""
    import torch

    torch.manual_seed(seed)
    return family.build(architecture)


def run_trial(
    job: Job,
    parameters: Mapping[str, Value] | None = None,
    *,
    output: Path | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Run one trial, inside NNI or alone, and return its metrics.

    Of several processes that train together, only the first writes and reports; the others return nothing.

    Args:
        job: space, data, evaluator, objective.
        parameters: an architecture, or all that travels to a trial (`parameters_of`); by default what NNI sends, or the
            default network when alone.
        output: folder for weights, samples and logs; by default `trial_output`.
        seed: of the training; by default the job's.

    Raises:
        DiffNASError: bad input or a failed trial. The reason is in `RESULT_FILE <result_file>` too.
    """
    started = time.monotonic()
    inside = "NNI_PLATFORM" in os.environ and os.environ["NNI_PLATFORM"] != "unittest"
    if parameters is None and inside:
        import nni

        parameters = nni.get_next_parameter()
    architecture, settings = split_parameters(parameters or {})
    folder = output or trial_output()
    folder.mkdir(parents=True, exist_ok=True)
    objective = job.make_objective()
    record = TrialRecord(folder, str((parameters or {}).get(TRIAL_ID, "")))
    earlier = record.earlier()
    if earlier is not None:  # finished before a resume that NNI did not hear of
        if inside and _first():
            report_final(earlier["metrics"], objective, maximize=False)
        return dict(earlier["metrics"])
    job = job.model_copy(update={"data": overruled(job.data, settings)})
    with record.attempt(job.max_trial_seconds) if _first() else nullcontext():
        family, evaluation = job.make_family(), job.make_evaluation()
        chosen = family.space.validate(family.default if parameters is None else architecture)
        evaluation.prepare()
        evaluation.check(family)

        def report(metrics: Mapping[str, float]) -> None:
            if inside:
                report_intermediate(metrics, objective, maximize=False)

        context = TrialContext(chosen, folder, job.seed if seed is None else seed, report, settings)
        model = build_seeded(family, chosen, context.seed)
        measured = evaluation.evaluate(model, context)
        if not _first():
            return {}
        known = {**family.cost(chosen).as_metrics(), **standing(settings)}
        metrics = checked_metrics({**measured, **known, "seconds": round(time.monotonic() - started, 3)}, objective)
        result = {"metrics": metrics, "protocol": evaluation.protocol, "seed": context.seed}
        record.succeed({"architecture": chosen, **result})
    if inside:
        report_final(metrics, objective, maximize=False)
    return metrics
