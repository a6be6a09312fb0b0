"""Retraining a student: L = (1 - beta) L_block + beta L_noise, beta by a schedule.

With ``soft_target`` d, L_noise compares the student's prediction with (1 - d) target + d teacher's prediction. The
teacher's is the mean of what the noise could have been, so that its gradients are far less noisy (Hinton et al.,
"Distilling the Knowledge in a Neural Network", 2015, has the idea; its use here is ours).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nni_diffnas.blocks import BlockFamily
from nni_diffnas.errors import TrialFailure

from ..compute import autocast
from ..recipe import Recipe
from ..training import Progress
from .pipeline import Noised, NoisedImages, TeacherPipeline
from .tape import Call, block_loss, record

__all__ = ["Retrained", "macs_per_image", "retrain"]


@dataclass(frozen=True)
class Retrained:
    """What a retraining took; the student holds the averaged weights.

    Args:
        loss: last mean of the joint loss.
        images, steps, seconds: of the training.
        macs: multiply-accumulates: student forward and backward, teacher forward.
    """

    loss: float
    images: int
    steps: int
    seconds: float
    macs: float


class _JointLoss:
    """(1 - beta) L_block + beta L_noise of one batch.

    L_block is the mean over the blocks of their normalised distances to the teacher's outputs, every block fed with the
    teacher's inputs and skips, so all at once; L_noise is the ordinary weighted loss of the whole network.
    """

    def __init__(self, student: nn.Module, teacher: TeacherPipeline, recipe: Recipe, soft_target: float) -> None:
        self.student, self.teacher, self.soft_target = student, teacher, soft_target
        family = teacher.family
        self.blocks = {block.name: family.block_path(block.name) for block in family.blocks}
        snr = teacher.alpha_bar / (1.0 - teacher.alpha_bar).clamp(min=1e-12)
        weighting = recipe.model_copy(update={"prediction": _name(teacher)})
        self.weight = weighting.weights(snr).float()
        self.variances: dict[str, tuple[Tensor, ...]] | None = None

    def observe(self, batch: Noised, *, whole: bool) -> tuple[Mapping[str, Call], Tensor | None]:
        """The teacher's calls of the blocks, and its prediction where it runs as a ``whole``."""
        network, made = self.teacher.network, []
        calls = record(
            network,
            self.blocks,
            lambda: made.append(self.teacher.predict(network, batch.noised, batch.times, batch.condition)),
            last=None if whole else list(self.blocks)[-1],
        )
        if self.variances is None:
            self.variances = {name: call.variances() for name, call in calls.items()}
        return calls, made[0] if made else None

    def blocks_loss(self, calls: Mapping[str, Call]) -> Tensor:
        assert self.variances is not None
        losses = [
            block_loss(call.run(self.student.get_submodule(self.blocks[name])), call, self.variances[name])
            for name, call in calls.items()
        ]
        return torch.stack(losses).mean()

    def noise_loss(self, batch: Noised, teachers: Tensor | None) -> Tensor:
        prediction = self.teacher.predict(self.student, batch.noised, batch.times, batch.condition)
        target = self.teacher.parameterisation.target(batch.clean, batch.noise, batch.a, batch.s)
        if teachers is not None:
            target = torch.lerp(target, teachers.float(), self.soft_target)
        error = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        weighted: Tensor = (self.weight.to(error.device)[batch.times] * error).mean()
        return weighted

    def __call__(self, batch: Noised, beta: float) -> Tensor:
        loss = torch.zeros((), device=batch.noised.device)
        soft = beta > 0.0 and self.soft_target > 0.0
        calls, teachers = self.observe(batch, whole=soft) if beta < 1.0 or soft else ({}, None)
        if beta < 1.0:
            loss = loss + (1.0 - beta) * self.blocks_loss(calls)
        if beta > 0.0:
            loss = loss + beta * self.noise_loss(batch, teachers)
        return loss


def _name(teacher: TeacherPipeline) -> str:
    return {"epsilon": "epsilon", "v_prediction": "v"}[str(teacher.parameterisation.diffusers_name)]


def macs_per_image(family: BlockFamily, student: int, beta: float, soft_target: float) -> float:
    """Multiply-accumulates that `retrain` takes for one image: student forward and backward, teacher forward.

    Args:
        family: of the teacher.
        student: multiply-accumulates of one forward pass of the student.
        beta: weight of the noise prediction at this moment.
        soft_target: part of the teacher's prediction in what is learned.
    """
    learns = (beta > 0.0) + (beta < 1.0) * family.blocks_share
    watches = beta < 1.0 or soft_target > 0.0
    return 3.0 * student * learns + watches * family.teacher_cost.macs


def retrain(
    student: Any,
    macs: int,
    teacher: TeacherPipeline,
    images: NoisedImages,
    recipe: Recipe,
    beta: Callable[[float], float],
    seed: int,
    report: Callable[[Progress], None],
    soft_target: float = 0.0,
) -> Retrained:
    """Train ``student`` in place; it ends with the averaged weights, and has them whenever ``report`` is called.

    Args:
        student: on the teacher's device.
        macs: of one forward pass of it on one image.
        teacher: gives block features.
        images: noised images without end.
        recipe: budget, batch, learning rate, weighting.
        beta: by the part of the training that is done.
        seed: of the student's dropout.
        report: hears of the progress, about ``recipe.reports`` times.
        soft_target: part of the teacher's prediction in what the student learns to predict, 0 to 1.

    Raises:
        TrialFailure: the loss is not finite any more, or the device's memory does not suffice.
    """
    torch.manual_seed(seed)
    joint = _JointLoss(student, teacher, recipe, soft_target)
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer, average = recipe.make_optimizer(student, teacher.shape[0]), recipe.average(parameters)
    student.train()
    step, fraction, reported, counted, spent = 0, 0.0, 0, 0, 0.0
    losses, last, began, paused = torch.zeros((), device=teacher.device), math.nan, time.monotonic(), 0.0
    try:
        while fraction < 1.0:
            now, batch = beta(fraction), images.draw(recipe.batch_size)
            with autocast(teacher.device):
                loss = joint(batch, now)
            loss.backward()  # type: ignore[no-untyped-call]
            spent += recipe.batch_size * macs_per_image(teacher.family, macs, now, soft_target)
            step += 1
            fraction = recipe.spent(step, time.monotonic() - began - paused)
            optimizer.step(recipe.rate(fraction), recipe.clip)
            average.update()
            losses, counted = losses + loss.detach(), counted + 1
            if fraction >= (reported + 1) / recipe.reports or fraction >= 1.0:
                last = float(losses) / counted
                if not math.isfinite(last):
                    raise TrialFailure(
                        f"Retraining diverged: the loss is {last} after {step} steps of {recipe.batch_size} images; "
                        f"lower training.learning_rate ({recipe.learning_rate:g})."
                    )
                reported, losses, counted = int(fraction * recipe.reports), torch.zeros_like(losses), 0
                halted = time.monotonic()
                average.swap()
                student.eval()
                report(Progress(last, step * recipe.batch_size, step, min(fraction, 1.0), halted - began - paused))
                if fraction < 1.0:
                    average.swap()
                    student.train()
                paused += time.monotonic() - halted
    except torch.OutOfMemoryError as error:
        raise TrialFailure(
            f"The device has no memory for a batch of {recipe.batch_size} images: lower training.batch_size."
        ) from error
    return Retrained(last, step * recipe.batch_size, step, time.monotonic() - began - paused, spent)
