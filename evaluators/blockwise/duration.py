"""How long the trials of a block-wise search will take, from a few timed steps of a retraining."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from torch import nn

from nni_diffnas.api.blocks import Block, BlockFamily

from ..training.recipe import Recipe
from .joint import JointLoss, Retraining, retrain
from .settings import BETAS, BlockwiseSettings, SupernetSettings
from .supernet import mean_macs
from .teacher_pipeline import NoisedImages, TeacherPipeline

__all__ = ["block_macs", "forecast_seconds"]


def block_macs(block: Block, teacher_macs: int, settings: SupernetSettings) -> float:
    """Multiply-accumulates of a block's trial: its supernet, the teacher's features for it, comparing its paths."""
    batch = min(settings.batch_size, settings.cached_images)
    training = 3.0 * batch * mean_macs(block) * settings.steps
    features = math.ceil(settings.steps * batch / (settings.cached_images * settings.cache_passes))
    return training * (1.0 + settings.choosing_share) + features * settings.cached_images * teacher_macs


def forecast_seconds(
    family: BlockFamily,
    teacher: TeacherPipeline,
    images: NoisedImages,
    settings: BlockwiseSettings,
    generate: Callable[[nn.Module, int], object],
) -> float:
    """Mean seconds over one trial of each kind: every block, and a student of the teacher's shape.

    Args:
        family: of the teacher.
        teacher: on its device.
        images: some, noised.
        settings: of the trials.
        generate: makes so many images with a network.
    """
    recipe, macs = settings.training, family.teacher_cost.macs
    student: Any = family.build(family.default).to(teacher.device)

    def timed(steps: int) -> Any:
        changed = {"images": None, "seconds": None, "steps": steps, "reports": 1}
        few: Recipe = recipe.model_copy(update=changed)
        joint = JointLoss(BETAS["half"], settings.soft_target, settings.features)
        return retrain(Retraining(student, macs, teacher, images, few, joint), 0, _silent)

    timed(1)
    measured = timed(4)
    steps = math.ceil((recipe.images or 0) / recipe.batch_size) or recipe.steps or 0
    training = recipe.seconds or steps * measured.seconds / measured.steps
    began = time.monotonic()
    count = min(settings.sampling_batch, settings.score_images)
    generate(student, count)
    an_image = (time.monotonic() - began) / count
    scored = settings.score_images + settings.curve_points * settings.curve_images
    blocks = sum(block_macs(block, macs, settings.supernet) for block in family.blocks)
    blocks *= measured.seconds / measured.macs
    return float(blocks + training + scored * an_image) / (len(family.blocks) + 1)


def _silent(progress: object) -> None:
    """Hear of the progress of a few timed steps."""
