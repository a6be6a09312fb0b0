"""Retraining a student: L = (1 - beta) L_block + beta L_noise, beta by a schedule.

L_block is the mean over the blocks of their normalised distances to the teacher's outputs. With ``features`` "own" a
block is fed by the student itself, in the one forward pass that L_noise takes, too: Kim et al., "BK-SDM" (2023), with
the division by the teacher's variance of LAPTOP-Diff (2024). With "teacher" it is fed with the teacher's inputs and
skips, all blocks at once, which is a second pass: the paper's way.

With ``soft_target`` d, L_noise compares the student's prediction with (1 - d) target + d teacher's prediction. The
teacher's is the mean of what the noise could have been, so that its gradients are far less noisy (Hinton et al.,
"Distilling the Knowledge in a Neural Network", 2015, has the idea; its use here is ours).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_diffnas.api.blocks import BlockFamily

from ..training.compute import autocast
from ..training.loop import Learner, Learning, Progress, learn
from ..training.recipe import Recipe
from .answers import AnswerBank
from .forward_hooks import Call, block_loss, record
from .settings import FeatureSource
from .teacher_pipeline import Noised, NoisedImages, TeacherPipeline

__all__ = ["JointLoss", "Retrained", "Retraining", "retrain"]

OUTLIER = 6.0
"""Deviations beyond which a teacher's activation teaches nothing: few and huge, they would be most of the error, see
Fang et al., "TinyFusion" (2024).
"""


@dataclass(frozen=True)
class JointLoss:
    """What a student learns from.

    Args:
        beta: weight of L_noise, by the part of the training that is done.
        soft_target: part of the teacher's prediction in what the student learns to predict, 0 to 1.
        features: whose a block of the student is fed with in L_block.
    """

    beta: Callable[[float], float]
    soft_target: float
    features: FeatureSource

    def macs_per_image(self, family: BlockFamily, student: int, beta: float, passes: int = 1) -> float:
        """Multiply-accumulates that `retrain` takes for one image: student forward and backward, teacher forward.

        Args:
            family: of the teacher.
            student: multiply-accumulates of one forward pass of the student.
            beta: weight of the noise prediction at this moment.
            passes: how often an answer of the teacher serves where a prediction is all that is wanted of it.
        """
        blocks = (beta < 1.0) * family.blocks_share
        learns = max(beta > 0.0, blocks) if self.features == "own" else (beta > 0.0) + blocks
        watches = 1.0 if beta < 1.0 else (self.soft_target > 0.0) / passes
        return 3.0 * student * learns + watches * family.teacher_cost.macs


@dataclass(frozen=True)
class Retrained(Learning):
    """What a retraining took; the student holds the averaged weights.

    Args:
        macs: multiply-accumulates: student forward and backward, teacher forward.
    """

    macs: float


class Retraining(Learner[Noised]):
    """A student that learns by (1 - beta) L_block + beta L_noise.

    Args:
        student: on the teacher's device.
        macs: of one forward pass of it on one image.
        teacher: gives block features and predictions.
        images: noised images without end.
        recipe: budget, batch, learning rate, weighting.
        joint: what it learns from.
        bank: the teacher's predictions, where they are all that is wanted of it; ``None``: it is asked every time.
    """

    worst = math.inf  # a student may start as good as its teacher, and what its loss means changes on the way

    def __init__(
        self,
        student: nn.Module,
        macs: int,
        teacher: TeacherPipeline,
        images: NoisedImages,
        recipe: Recipe,
        joint: JointLoss,
        bank: AnswerBank | None = None,
    ) -> None:
        super().__init__(student, recipe, teacher.device, teacher.shape[0])
        self.macs, self.teacher, self.images, self.joint, self.bank = macs, teacher, images, joint, bank
        family = teacher.family
        self.blocks = {block.name: family.block_path(block.name) for block in family.blocks}
        snr = teacher.alpha_bar / (1.0 - teacher.alpha_bar).clamp(min=1e-12)
        weighting = recipe.model_copy(update={"prediction": _name(teacher)})
        self.weight = weighting.weights(snr).float().to(teacher.device)
        self.variances: dict[str, tuple[Tensor, ...]] = {}
        self.beta, self.spent = 0.0, 0.0

    def draw(self, progress: float) -> Noised:
        """The next batch; beta is that of the progress."""
        self.beta, size, family = self.joint.beta(progress), self.recipe.batch_size, self.teacher.family
        with autocast(self.device):
            if self.bank is not None and self.beta == 1.0 and self.joint.soft_target > 0.0:
                asked = self.bank.asked
                batch = self.bank.draw(size)
                self.spent += (self.bank.asked - asked) * family.teacher_cost.macs
                self.spent += len(batch.times) * 3.0 * self.macs
                return batch
            batch = self.images.draw(size)
            self.spent += size * self.joint.macs_per_image(family, self.macs, self.beta)
            if self.beta < 1.0 and not self.variances:  # those of the whole batch, however it will be cut
                calls, _ = self._passes(self.teacher.network, batch, whole=False)
                self.variances = {name: call.variances() for name, call in calls.items()}
        return batch

    def _predict(self, network: nn.Module, batch: Noised) -> Tensor:
        return self.teacher.predict(network, batch.noised, batch.times, batch.condition)

    def _passes(self, network: nn.Module, batch: Noised, *, whole: bool) -> tuple[Mapping[str, Call], Tensor | None]:
        """The calls of the blocks in one pass of a network, and its prediction where it runs as a ``whole``."""
        made: list[Tensor] = []
        calls = record(
            network,
            self.blocks,
            lambda: made.append(self._predict(network, batch)),
            last=None if whole else list(self.blocks)[-1],
        )
        return calls, made[0] if made else None

    def blocks_loss(self, wanted: Mapping[str, Call], own: Mapping[str, Call]) -> Tensor:
        """L_block: how far the student's blocks are from the teacher's, in its ``own`` pass where there is one."""
        losses = []
        for name, call in wanted.items():
            outputs = own[name].outputs if own else call.run(self.model.get_submodule(self.blocks[name]))
            losses.append(block_loss(outputs, call, self.variances[name], OUTLIER if own else math.inf))
        return torch.stack(losses).mean()

    def noise_loss(self, batch: Noised, prediction: Tensor, answer: Tensor | None) -> Tensor:
        """L_noise, its target mixed with the teacher's answer where there is one."""
        target = self.teacher.parameterisation.target(batch.clean, batch.noise, batch.a, batch.s)
        if answer is not None:
            target = torch.lerp(target, answer.float(), self.joint.soft_target)
        error = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        weighted: Tensor = (self.weight[batch.times] * error).mean()
        return weighted

    def loss_within(self, part: Noised, of: int) -> Tensor:
        """The joint loss of these images, by their share in the batch."""
        beta, loss = self.beta, torch.zeros((), device=self.device)
        wanted: Mapping[str, Call] = {}
        own: Mapping[str, Call] = {}
        prediction, answer = None, part.answer
        with autocast(self.device):
            soft = beta > 0.0 and self.joint.soft_target > 0.0
            if beta < 1.0:
                wanted, answer = self._passes(self.teacher.network, part, whole=soft)
            elif soft and answer is None:
                answer = self._predict(self.teacher.network, part)
            if beta < 1.0 and self.joint.features == "own":
                own, prediction = self._passes(self.model, part, whole=beta > 0.0)
            elif beta > 0.0:
                prediction = self._predict(self.model, part)
            if beta < 1.0:
                loss = loss + (1.0 - beta) * self.blocks_loss(wanted, own)
            if prediction is not None:
                loss = loss + beta * self.noise_loss(part, prediction, answer)
        return loss * (len(part.times) / of)


def _name(teacher: TeacherPipeline) -> str:
    return {"epsilon": "epsilon", "v_prediction": "v"}[str(teacher.parameterisation.diffusers_name)]


def retrain(retraining: Retraining, seed: int, report: Callable[[Progress], None]) -> Retrained:
    """Train the student in place; it ends with the averaged weights, and has them whenever ``report`` is called.

    Args:
        retraining: what is trained.
        seed: of the student's dropout.
        report: hears of the progress, about ``recipe.reports`` times.

    Raises:
        TrialFailure: the loss is not finite any more, or the device's memory does not suffice.
    """
    torch.manual_seed(seed)
    return Retrained(**vars(learn(retraining, report)), macs=retraining.spent)
