"""Runs the trial of a job: inside NNI's tuner door, or alone.

Imports only what training needs: it starts once per architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.evaluation import Evaluation
from ..api.family import Family
from ..api.space import Architecture, Value
from ..job import Job, take_up
from .life import Life, Reports, inside_nni, trial_output
from .parameters import TRIAL_ID, split_parameters

if TYPE_CHECKING:
    import torch

__all__ = ["build_seeded", "run_trial"]


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
    inside = inside_nni()
    if parameters is None and inside:
        import nni

        parameters = nni.get_next_parameter()
    architecture, settings = split_parameters(parameters or {})
    job = job.model_copy(update={"data": take_up(job.data, settings)})
    folder = output or trial_output()
    folder.mkdir(parents=True, exist_ok=True)
    life = Life(
        folder,
        str((parameters or {}).get(TRIAL_ID, "")),
        job.seed if seed is None else seed,
        job.max_trial_seconds,
        Reports(job.make_objective(), maximize=False, heard=inside),
    )

    def make() -> tuple[Family, Evaluation]:
        return job.make_family(), job.make_evaluation()

    def build(family: Family | None, chosen: Architecture) -> torch.nn.Module:
        assert family is not None
        return build_seeded(family, chosen, life.seed)

    return life.run(make, None if parameters is None else architecture, settings, build)
