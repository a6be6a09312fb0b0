"""What runs inside a trial: build the network, train and score it, report to NNI.

Imports only what training needs: it starts once per architecture.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DiffNASError
from .evaluation import TrialContext
from .family import Family
from .job import Job
from .space import Architecture, Value
from .trial import Metrics, Objective

if TYPE_CHECKING:
    import torch

__all__ = [
    "RESULT_FILE",
    "SETTING_PREFIX",
    "TRIAL_ID",
    "build_seeded",
    "claim_trial",
    "report_final",
    "report_intermediate",
    "run_trial",
    "split_parameters",
    "trial_output",
]

RESULT_FILE = "result.json"
"""In a trial's output folder: its id from the start, and in the end its metrics or the reason of its failure."""

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


def claim_trial(folder: Path, trial_id: str) -> None:
    """Write into a trial's output folder which trial runs there; `experiment.TrialJobs` tells why NNI cannot say."""
    (folder / RESULT_FILE).write_text(json.dumps({"trial": trial_id}))


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


def report_intermediate(metrics: Metrics, objective: Objective, *, maximize: bool) -> None:
    """Report intermediate metrics to NNI once they hold the objective: that is the curve NNI draws."""
    import nni

    if objective.metric in metrics:
        default = objective.default(metrics, maximize=maximize)
        nni.report_intermediate_result({"default": default, **_numbers(metrics)})


def report_final(metrics: Metrics, objective: Objective, *, maximize: bool) -> None:
    """Report the final dictionary to NNI, its ``default`` set here and nowhere else.

    Args:
        metrics: everything measured, by name.
        objective: what ``default`` is.
        maximize: the door always maximises (NNI's NAS engine), so that a minimised metric is negated.
    """
    import nni

    nni.report_final_result({"default": objective.default(metrics, maximize=maximize), **_numbers(metrics)})


def build_seeded(family: Family, architecture: Mapping[str, Value], seed: int) -> torch.nn.Module:
    """Build a network whose initial weights depend on the seed and the architecture alone."""
    import torch

    torch.manual_seed(seed)
    return family.build(architecture)


def run_trial(
    job: Job,
    architecture: Mapping[str, Value] | None = None,
    *,
    output: Path | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Run one trial, inside NNI or alone, and return its metrics.

    Of several processes that train together, only the first writes and reports; the others return nothing.

    Args:
        job: space, data, evaluator, objective.
        architecture: what to train; by default the parameters that NNI sends, or the default network when alone.
        output: folder for weights, samples and logs; by default `trial_output`.
        seed: of the training; by default the job's.

    Raises:
        DiffNASError: bad input or a failed trial. The reason is in ``result.json`` too.
    """
    started = time.monotonic()
    inside = "NNI_PLATFORM" in os.environ and os.environ["NNI_PLATFORM"] != "unittest"
    settings: dict[str, Value] = {}
    trial_id = ""
    if architecture is None and inside:
        import nni

        parameters = nni.get_next_parameter()
        trial_id = str(parameters.get(TRIAL_ID, ""))
        architecture, settings = split_parameters(parameters)
    folder = output or trial_output()
    folder.mkdir(parents=True, exist_ok=True)
    if _first():
        claim_trial(folder, trial_id)
    objective = job.make_objective()
    try:
        family, evaluation = job.make_family(), job.make_evaluation()
        chosen = family.space.validate(family.default if architecture is None else architecture)
        evaluation.prepare()
        evaluation.check(family)

        def report(metrics: Mapping[str, float]) -> None:
            if inside:
                report_intermediate(metrics, objective, maximize=False)

        context = TrialContext(chosen, folder, job.seed if seed is None else seed, report, settings)
        model = build_seeded(family, chosen, context.seed)
        metrics = {**evaluation.evaluate(model, context), **family.cost(chosen).as_metrics()}
        if not _first():
            return {}
    except Exception as error:  # whatever it is, its reason has to reach the strategy and the user
        reason = str(error) if isinstance(error, DiffNASError) else f"{type(error).__name__}: {error}"
        if _first():
            (folder / RESULT_FILE).write_text(json.dumps({"trial": trial_id, "failure": reason}))
        raise
    metrics["seconds"] = round(time.monotonic() - started, 3)
    result = {
        "trial": trial_id,
        "architecture": chosen,
        "metrics": metrics,
        "protocol": evaluation.protocol,
        "seed": context.seed,
    }
    (folder / RESULT_FILE).write_text(json.dumps(result, indent=1))
    if inside:
        report_final(metrics, objective, maximize=False)
    return metrics
