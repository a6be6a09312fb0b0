"""Retraining a student: L = (1 - beta) L_block + beta L_noise, beta by a schedule.

With ``soft_target`` d, L_noise compares the student's prediction with (1 - d) target + d teacher's prediction. The
teacher's is the mean of what the noise could have been, so that its gradients are far less noisy (Hinton et al.,
"Distilling the Knowledge in a Neural Network", 2015, has the idea; its use here is ours).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nni_diffnas.api.blocks import BlockFamily

from ..training.compute import autocast
from ..training.loop import Learner, Learning, Progress, learn
from ..training.recipe import Recipe
from .forward_hooks import Call, block_loss, record
from .teacher_pipeline import Noised, NoisedImages, TeacherPipeline

__all__ = ["Retrained", "Retraining", "macs_per_image", "retrain"]


@dataclass(frozen=True)
class Retrained(Learning):
    """What a retraining took; the student holds the averaged weights.

    Args:
        macs: multiply-accumulates: student forward and backward, teacher forward.
    """

    macs: float


class Retraining(Learner[Noised]):
    """A student that learns by (1 - beta) L_block + beta L_noise.

    L_block is the mean over the blocks of their normalised distances to the teacher's outputs, every block fed with the
    teacher's inputs and skips, so all at once; L_noise is the ordinary weighted loss of the whole network.
    """

    worst = math.inf  # a student may start as good as its teacher, and what its loss means changes on the way

    def __init__(
        self,
        student: nn.Module,
        macs: int,
        teacher: TeacherPipeline,
        images: NoisedImages,
        recipe: Recipe,
        beta: Callable[[float], float],
        soft_target: float,
    ) -> None:
        super().__init__(student, recipe, teacher.device, teacher.shape[0])
        self.macs, self.teacher, self.images, self.schedule = macs, teacher, images, beta
        self.soft_target = soft_target
        family = teacher.family
        self.blocks = {block.name: family.block_path(block.name) for block in family.blocks}
        snr = teacher.alpha_bar / (1.0 - teacher.alpha_bar).clamp(min=1e-12)
        weighting = recipe.model_copy(update={"prediction": _name(teacher)})
        self.weight = weighting.weights(snr).float().to(teacher.device)
        self.variances: dict[str, tuple[Tensor, ...]] = {}
        self.beta, self.spent = 0.0, 0.0

    def draw(self, progress: float) -> Noised:
        """The next batch; beta is that of the progress."""
        batch, self.beta = self.images.draw(self.recipe.batch_size), self.schedule(progress)
        self.spent += len(batch.times) * macs_per_image(self.teacher.family, self.macs, self.beta, self.soft_target)
        if self.beta < 1.0 and not self.variances:  # those of the whole batch, however it will be cut
            with autocast(self.device):
                calls, _ = self.observe(batch, whole=False)
            self.variances = {name: call.variances() for name, call in calls.items()}
        return batch

    def observe(self, batch: Noised, *, whole: bool) -> tuple[Mapping[str, Call], Tensor | None]:
        """The teacher's calls of the blocks, and its prediction where it runs as a ``whole``."""
        network, made = self.teacher.network, []
        calls = record(
            network,
            self.blocks,
            lambda: made.append(self.teacher.predict(network, batch.noised, batch.times, batch.condition)),
            last=None if whole else list(self.blocks)[-1],
        )
        return calls, made[0] if made else None

    def blocks_loss(self, calls: Mapping[str, Call]) -> Tensor:
        """L_block: how far the student's blocks are from the teacher's for the same inputs."""
        losses = [
            block_loss(call.run(self.model.get_submodule(self.blocks[name])), call, self.variances[name])
            for name, call in calls.items()
        ]
        return torch.stack(losses).mean()

    def noise_loss(self, batch: Noised, teachers: Tensor | None) -> Tensor:
        """L_noise, its target mixed with the teachers' predictions where there are any."""
        prediction = self.teacher.predict(self.model, batch.noised, batch.times, batch.condition)
        target = self.teacher.parameterisation.target(batch.clean, batch.noise, batch.a, batch.s)
        if teachers is not None:
            target = torch.lerp(target, teachers.float(), self.soft_target)
        error = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        weighted: Tensor = (self.weight[batch.times] * error).mean()
        return weighted

    def loss_within(self, part: Noised, of: int) -> Tensor:
        """The joint loss of these images, by their share in the batch."""
        beta, loss = self.beta, torch.zeros((), device=self.device)
        with autocast(self.device):
            soft = beta > 0.0 and self.soft_target > 0.0
            calls, teachers = self.observe(part, whole=soft) if beta < 1.0 or soft else ({}, None)
            if beta < 1.0:
                loss = loss + (1.0 - beta) * self.blocks_loss(calls)
            if beta > 0.0:
                loss = loss + beta * self.noise_loss(part, teachers)
        return loss * (len(part.times) / of)


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
    retraining = Retraining(student, macs, teacher, images, recipe, beta, soft_target)
    return Retrained(**vars(learn(retraining, report)), macs=retraining.spent)
