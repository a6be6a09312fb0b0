"""Students of the teachers in `teachers`: what studies of them ask for, make, train at equal compute, and measure."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from teachers import Case, budget_of, case_in, cases, evaluation, trained

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.space import Architecture
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.joint import JointLoss
from nni_diffnas.evaluators.blockwise.settings import BETAS, BlockwiseSettings
from nni_diffnas.evaluators.scores.held_out_loss import HeldOutLoss, mean_loss
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.trial.run import build_seeded

__all__ = ["COLUMNS", "Studied", "images_for", "measured", "opened", "options", "retrained", "shown", "uniform"]

COLUMNS = {"held_out_loss": "loss", "gap": "gap to the teacher", "rfid": "rFID", "train_macs": "training"}


@dataclass(frozen=True)
class Studied:
    """A trained teacher.

    Args:
        case: its own.
        pipeline: its folder.
        family: of its students.
        network: with its weights.
        metrics: its own, those of `COLUMNS` among them.
    """

    case: Case
    pipeline: Path
    family: BlockwiseUNetFamily
    network: torch.nn.Module
    metrics: Mapping[str, float]


def options(description: str | None, journal: Path | None = None) -> argparse.ArgumentParser:
    """Options of a study of one teacher's students; one that retrains them has a journal."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--case", choices=[name for name, case in cases().items() if not case.latent], default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-images", type=int, help="that a teacher is trained on; the case's without it")
    parser.add_argument("--samples", type=int, default=1000, help="of the distance")
    parser.add_argument("--folder", type=Path, default=Path("runs/retraining"), help="keeps the teacher")
    if journal is not None:
        parser.add_argument("--share", type=float, default=0.13, help="of the teacher's training, in MACs")
        parser.add_argument("--journal", type=Path, default=journal, help="keeps the results")
    return parser


def opened(given: argparse.Namespace) -> Studied:
    """The teacher that is asked for; trained where it is not in the folder."""
    changes = {"score_images": given.samples, "teacher_images": given.teacher_images}
    case = case_in(given.folder, given.case, **changes, student_share=getattr(given, "share", None))
    widths = tuple(case.unet["block_out_channels"])
    pipeline, metrics = trained(case, "teacher", widths, 0, given.folder / given.case)
    family = BlockwiseUNetFamily(pipeline)
    network = family.teacher()
    own = {**metrics, **measured(evaluation(case, 1), network, network), **family.teacher_cost.as_metrics()}
    return Studied(case, pipeline, family, network, own)


def uniform(family: BlockwiseUNetFamily) -> Architecture:
    """The dearest student within the budget that makes the same choice in every residual block."""
    budget, found = budget_of(family), []
    for kernel1, kernel2, width in product(family.kernels, family.kernels, family.widths):
        wanted = {"kernel1": kernel1, "kernel2": kernel2, "width": width}
        chosen = {label: wanted.get(label.rpartition(".")[2], value) for label, value in family.default.items()}
        if all(value in family.space.choices[label] for label, value in chosen.items()):
            architecture = family.space.validate(chosen)
            if budget.admits(cost := family.cost(architecture)):
                found.append((cost.macs, architecture))
    return max(found, key=lambda pair: pair[0])[1]


def images_for(
    case: Case, family: BlockwiseUNetFamily, architecture: Mapping[str, Any], beta: str, settings: BlockwiseSettings
) -> int:
    """Images of a retraining that takes the case's share of the teacher's training, counted in MACs."""
    student, joint = family.cost(architecture).macs, JointLoss(BETAS[beta], settings.soft_target, settings.features)
    passes = settings.bank_passes if settings.bank else 1
    an_image = statistics.fmean(
        joint.macs_per_image(family, student, joint.beta((step + 0.5) / 1000), passes) for step in range(1000)
    )
    return round(case.student_share * case.teacher_images * 3.0 * family.teacher_cost.macs / an_image)


def measured(judge: BlockwiseEvaluation, model: torch.nn.Module, teacher: torch.nn.Module) -> dict[str, float]:
    """Loss of a network on images that no training has seen, and how far its predictions are from the teacher's."""
    recipe, images = Recipe(images=1), judge.images
    loss, gap = (HeldOutLoss(images, images.validation, recipe, 512, 256, other) for other in (None, teacher))
    return {"held_out_loss": mean_loss(loss.levels(model)), "gap": mean_loss(gap.levels(model))}


def retrained(
    studied: Studied,
    way: Mapping[str, Any],
    seed: int,
    architecture: Architecture,
    task: Mapping[str, Any] = MappingProxyType({"task": "retrain"}),
) -> dict[str, Any]:
    """Retrain a student for the case's share by these options of the evaluation, and measure it; or do another task."""
    case, family = studied.case, studied.family
    named = {name: value for name, value in way.items() if name != "training"}
    training = {**case.student, **way.get("training", {})}
    settings = evaluation(case, 1, training, **named).settings
    judge = evaluation(case, images_for(case, family, architecture, settings.beta, settings), training, **named)
    judge.prepare()
    model = build_seeded(family, architecture, seed)
    with tempfile.TemporaryDirectory() as folder:
        metrics = judge.evaluate(model, TrialContext(architecture, Path(folder), seed, settings=task, family=family))
    if task["task"] != "retrain":
        return metrics
    return {**metrics, **measured(judge, model, studied.network), **family.cost(architecture).as_metrics()}


def shown(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread}"
