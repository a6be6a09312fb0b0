"""What replacing one block does to the whole network: the block is swapped into the teacher, path by path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .teacher_pipeline import Noised, TeacherPipeline

__all__ = ["swapped_losses"]


@torch.no_grad()
def swapped_losses(
    teacher: TeacherPipeline, path: str, supernet: Any, candidates: Sequence[Sequence[int]], batch: Noised
) -> list[float]:
    """How far the teacher's predictions move when a path takes the place of one of its blocks, for each path.

    Mean squared distance to the prediction with the own block, divided by the variance of that prediction. Small errors
    of several blocks add up in the prediction, so that the sum over the blocks is what a student starts from.

    Args:
        teacher: on its device.
        path: name of the block's module.
        supernet: a trained `PathSupernet` of the block.
        candidates: paths.
        batch: noised images.
    """
    network = teacher.network

    def predict() -> torch.Tensor:
        return teacher.predict(network, batch.noised, batch.times, batch.condition).float()

    wanted, losses = predict(), []
    variance = wanted.var().clamp(min=1e-12)
    supernet.eval()
    swapped = network.get_submodule(path).register_forward_hook(
        lambda module, args, kwargs, output: supernet(*args, **kwargs), with_kwargs=True
    )
    try:
        for candidate in candidates:
            supernet.choose(candidate)
            losses.append(float((predict() - wanted).square().mean() / variance))
    finally:
        swapped.remove()
    return losses
