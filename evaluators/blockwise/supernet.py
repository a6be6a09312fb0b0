"""Training the supernet of one block: each step, one uniformly drawn path learns the teacher's output."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nni_diffnas.api.blocks import Block
from nni_diffnas.api.errors import TrialFailure

from ..training.optimizer import AdamW, Muon, learning_rate
from .forward_hooks import Call, block_loss, record
from .settings import SupernetSettings
from .teacher_pipeline import NoisedImages, TeacherPipeline

__all__ = ["TrainedSupernet", "mean_macs", "train_supernet"]

REPORTS = 10


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet, with what it was trained on last.

    Args:
        call: the teacher's inputs and outputs for the images that were held last.
        variances: of the teacher's outputs, that the losses are divided by.
        loss: mean of the last tenth of the training, over uniformly drawn paths.
        macs: multiply-accumulates of the supernet's training; a backward pass counts as two forward ones.
        teacher_macs: those of the teacher, for its features.
        seconds: of the training.
    """

    call: Call
    variances: tuple[Tensor, ...]
    loss: float
    macs: float
    teacher_macs: float
    seconds: float


def train_supernet(
    supernet: Any,
    block: Block,
    teacher: TeacherPipeline,
    images: NoisedImages,
    settings: SupernetSettings,
    seed: int,
    report: Callable[[float, int], None],
) -> TrainedSupernet:
    """Train in place.

    Args:
        supernet: a `PathSupernet` on the teacher's device.
        block: its paths and costs.
        teacher: gives inputs and outputs.
        images: noised images without end.
        settings: how.
        seed: of the paths and the order of the held images.
        report: hears the mean loss and the steps done, `REPORTS` times.

    Raises:
        TrialFailure: the loss is not finite any more.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    supernet.requires_grad_(True)
    muon = settings.optimizer == "muon"
    optimizer = Muon(supernet, hidden=True) if muon else AdamW(list(supernet.parameters()))
    supernet.train()
    path, batch = teacher.family.block_path(block.name), min(settings.batch_size, settings.cached_images)
    held, variances, uses = None, None, 0
    per_path = mean_macs(block)
    began, losses, recent, macs, teacher_macs = time.monotonic(), torch.zeros(()), math.nan, 0.0, 0.0
    order = torch.empty(0, dtype=torch.int64)
    counted = 0
    for step in range(settings.steps):
        if held is None or (len(order) < batch and uses >= settings.cache_passes):
            held, uses, order = _hold(teacher, images, block.name, path, settings), 0, torch.empty(0, dtype=torch.int64)
            teacher_macs += len(held) * teacher.family.teacher_cost.macs
            variances = held.variances() if variances is None else variances
        if len(order) < batch:
            order, uses = torch.cat([order, torch.from_numpy(rng.permutation(len(held)))]), uses + 1
        chosen, order = order[:batch], order[batch:]
        assert variances is not None
        supernet.choose([int(rng.integers(len(layer.options))) for layer in block.layers])
        call = held.rows(chosen.to(teacher.device))
        loss = block_loss(call.run(supernet), call, variances)
        loss.backward()
        optimizer.step(
            learning_rate(settings.learning_rate, (step + 1) / settings.steps, settings.warmup), settings.clip
        )
        macs += 3.0 * batch * per_path
        losses, counted = losses + loss.detach().cpu(), counted + 1
        if (step + 1) * REPORTS // settings.steps > step * REPORTS // settings.steps:
            recent = float(losses) / counted
            if not math.isfinite(recent):
                raise TrialFailure(
                    f"Training of block {block.name} diverged: the loss is {recent} after {step + 1} steps; lower "
                    f"supernet.learning_rate ({settings.learning_rate:g})."
                )
            losses, counted = torch.zeros(()), 0
            report(recent, step + 1)
    assert held is not None
    assert variances is not None
    return TrainedSupernet(held, variances, recent, macs, teacher_macs, time.monotonic() - began)


def mean_macs(block: Block) -> float:
    """MACs of a uniformly drawn path, on one image."""
    layers = (sum(cost.macs for cost in layer.costs) / len(layer.costs) for layer in block.layers)
    return block.rest.macs + sum(layers)


def _hold(teacher: TeacherPipeline, images: NoisedImages, name: str, path: str, settings: SupernetSettings) -> Call:
    """The teacher's calls of one block for the next ``cached_images`` images, in chunks that fit any device."""
    calls = []
    remaining = settings.cached_images
    while remaining:
        batch = images.draw(min(remaining, 256))
        remaining -= len(batch.times)
        calls.append(
            record(
                teacher.network,
                {name: path},
                partial(teacher.predict, teacher.network, batch.noised, batch.times, batch.condition),
                last=name,
            )[name]
        )
    return _joined(calls)


def _joined(calls: list[Call]) -> Call:
    def join(values: list[Any]) -> Any:
        first = values[0]
        if isinstance(first, Tensor) and first.ndim:
            return torch.cat(values)
        if isinstance(first, tuple | list):
            return type(first)(join([value[i] for value in values]) for i in range(len(first)))
        return first

    kwargs = {name: join([call.kwargs[name] for call in calls]) for name in calls[0].kwargs}
    return Call(join([call.args for call in calls]), kwargs, tuple(join([call.outputs for call in calls])))
