"""Options of the block-wise evaluator, and the course of beta in the joint loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..settings import Settings

__all__ = ["BETAS", "BlockwiseSettings", "Inherit", "SupernetSettings"]

BetaName = Literal["constant0", "constant1", "hard", "linear", "cosine"]
Inherit = Literal["teacher", "supernet", "ends", "nothing"]

BETAS: dict[str, Callable[[float], float]] = {
    "constant0": lambda done: 0.0,
    "constant1": lambda done: 1.0,
    "hard": lambda done: 0.0 if done < 0.5 else 1.0,
    "linear": lambda done: min(done, 1.0),
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * min(done, 1.0))),
}
"""beta of L = (1 - beta) L_block + beta L_noise, by the part of the training that is done, 0 to 1."""


class SupernetSettings(BaseModel):
    """How the supernet of a block is trained and read.

    Args:
        steps: of the optimiser, one uniformly drawn path each.
        batch_size: noised images a step.
        learning_rate: its peak.
        warmup: part of the steps in which it rises.
        clip: longest gradient.
        cached_images: noised images whose teacher features are held at once; the candidates are compared on the last.
        cache_passes: how often the held images are trained on before new ones replace them.
        choosing_share: compute for comparing candidates, relative to that of the training; at most 0.1.
        first_images: on which all candidates are compared, before the better half is compared on twice as many.
        candidates: compared at most; drawn at random where the block has more paths.
        front: cost/loss points that a trial returns, at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    cached_images: int = Field(default=1024, ge=2)
    cache_passes: int = Field(default=4, ge=1)
    choosing_share: float = Field(default=0.1, gt=0, le=0.1)
    first_images: int = Field(default=16, ge=1)
    candidates: int = Field(default=2048, ge=2)
    front: int = Field(default=48, ge=2, le=256)


class BlockwiseSettings(Settings):
    """The ``evaluator`` section of a block-wise job: `Settings`, whose ``training`` is that of the students, and these.

    Noise schedule, timesteps and prediction are the teacher's: ``training`` must not name them.

    Args:
        supernet: training of the blocks.
        beta: course of the joint loss.
        inherit: where a student's weights start: the ``teacher``'s, as far as they fit (see `inherit`); the block
            ``supernet``'s, which the same machine has trained before; fresh blocks between the teacher's ``ends``
            (stem, time embedding, head); or ``nothing``.
        soft_target: part of the teacher's prediction in what the whole student learns to predict; 0 is the noise
            itself, as in the paper.
        prompts: text for each class of the data (or one text for all), for a text-conditioned teacher.
        trust_remote_code: whether code in the teacher's folder may run, e.g. to encode the prompts.
        loss_images: 0; students are not judged by their loss on held-out images.
    """

    loss_images: int = Field(default=0, ge=0, le=0)
    supernet: SupernetSettings = SupernetSettings()
    beta: BetaName = "cosine"
    inherit: Inherit = "teacher"
    soft_target: float = Field(default=0.0, ge=0, le=1)
    prompts: tuple[str, ...] = ()
    trust_remote_code: bool = False
