"""How near a student comes to its teacher within a short retraining: what candidates for a long one are judged by."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..training.compute import autocast, in_batches
from ..training.recipe import Recipe
from .teacher_pipeline import NoisedImages

__all__ = ["gap_to_teacher", "shortened"]

SEED = 0x9A9
"""Keeps the noise that students are judged on apart from that which they were trained on."""
IMAGES = 512


def shortened(recipe: Recipe, share: float) -> Recipe:
    """The same recipe with a part of its budget, 0 to 1: at least one step."""
    if recipe.seconds is not None:
        return recipe.model_copy(update={"seconds": share * recipe.seconds})
    if recipe.steps is not None:
        return recipe.model_copy(update={"steps": math.ceil(share * recipe.steps)})
    return recipe.model_copy(update={"images": math.ceil(share * (recipe.images or 0))})


@torch.no_grad()
def gap_to_teacher(images: NoisedImages, student: nn.Module) -> float:
    """Mean squared distance of a student's predictions to the teacher's, divided by the variance of these.

    The same `IMAGES` noised images for all students of one teacher.

    Args:
        images: what both are asked about; with their teacher on its device.
        student: on the same device, in evaluation mode.
    """
    teacher = images.teacher
    batch = NoisedImages(teacher, images.clean, images.labels, SEED).draw(IMAGES)

    def ask(start: int, stop: int) -> torch.Tensor:
        part = batch.part(start, stop)
        with autocast(teacher.device):
            both = [teacher.predict(n, part.noised, part.times, part.condition) for n in (teacher.network, student)]
        return torch.stack([prediction.float() for prediction in both], dim=1)

    wanted, made = torch.cat(list(in_batches(IMAGES, 64, ask))).unbind(1)
    return float((made - wanted).square().mean() / wanted.var().clamp(min=1e-12))
