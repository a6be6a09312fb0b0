"""Options of the block-wise evaluator, and the course of beta in the joint loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from nni_diffnas.api.section import Section

from ..settings import Settings
from ..training.recipe import Recipe

__all__ = ["BETAS", "BlockwiseSettings", "FeatureSource", "Inherit", "SupernetSettings"]

BetaName = Literal["constant0", "constant1", "half", "hard", "linear", "cosine"]
FeatureSource = Literal["own", "teacher"]
Inherit = Literal["teacher", "supernet", "ends", "nothing"]

BETAS: dict[str, Callable[[float], float]] = {
    "constant0": lambda done: 0.0,
    "constant1": lambda done: 1.0,
    "half": lambda done: 0.5,
    "hard": lambda done: 0.0 if done < 0.5 else 1.0,
    "linear": lambda done: min(done, 1.0),
    "cosine": lambda done: 0.5 * (1.0 - math.cos(math.pi * min(done, 1.0))),
}
"""beta of L = (1 - beta) L_block + beta L_noise, by the part of the training that is done, 0 to 1."""


class SupernetSettings(Section):
    """How the supernet of a block is trained and read.

    Args:
        steps: of the optimiser, one uniformly drawn path each.
        batch_size: noised images a step.
        optimizer: ``muon`` for matrices and kernels and Adam for the rest, or ``adam`` for all.
        learning_rate: its peak; of Muon's matrices ten times as much.
        warmup: part of the steps in which it rises.
        clip: longest gradient.
        cached_images: noised images whose teacher features are held at once; the candidates are compared on the last.
        cache_passes: how often the held images are trained on before new ones replace them.
        choosing_share: compute for comparing candidates, relative to that of the training; at most 0.1.
        first_images: on which all candidates are compared, before the better half is compared on twice as many.
        candidates: compared at most; drawn at random where the block has more paths.
        front: cost/loss points that a trial returns, at most.
        swap_images: noised images on which the paths of the front are judged once more, each in its place in the
            teacher, by the network's prediction; 0: their losses are those of the block's own outputs.
    """

    steps: int = Field(default=2000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    optimizer: Literal["muon", "adam"] = "muon"
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    cached_images: int = Field(default=1024, ge=2)
    cache_passes: int = Field(default=4, ge=1)
    choosing_share: float = Field(default=0.1, gt=0, le=0.1)
    first_images: int = Field(default=16, ge=1)
    candidates: int = Field(default=2048, ge=2)
    front: int = Field(default=48, ge=2, le=256)
    swap_images: int = Field(default=0, ge=0)


BATCH = 16
"""Images a step of a student: it starts from a teacher and sees few, so that many small steps serve it best."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "ours": {},  # the defaults below
    "paper": {
        "features": "teacher",
        "importance": "norm",
        "beta": "cosine",
        "soft_target": 0.0,
        "bank": 0,
        "supernet": {"optimizer": "adam"},
    },
}
"""What each named way to search and retrain says otherwise than the defaults."""


class BlockwiseSettings(Settings):
    """The ``evaluator`` section of a block-wise job: `Settings`, whose ``training`` is that of the students, and these.

    What the teacher says, ``training`` must not name: ``recipe``, ``prediction``, ``learned_sigma``, ``schedule``,
    ``timesteps``, ``drawn``, ``flip``, ``class_conditional``, ``compile``.

    Args:
        recipe: where all that is not given comes from: ``ours`` (the defaults below), or ``paper``, the ideas of arXiv
            2311.04950: plain noise and the teacher's features, by a growing beta.
        training: of the students, in batches of 16 unless it says otherwise.
        supernet: training of the blocks.
        beta: course of the joint loss.
        features: whose a block of the student is fed with while it learns the teacher's outputs: the student's ``own``,
            in the pass that it takes anyway, or the ``teacher``'s.
        inherit: where a student's weights start: the ``teacher``'s, as far as they fit (see `inherit`); the block
            ``supernet``'s, which the same machine has trained before; fresh blocks between the teacher's ``ends``
            (stem, time embedding, head); or ``nothing``.
        importance: by which channels are kept where a layer of the student has fewer of them: to first order in the
            teacher's loss (``taylor``, see `taylor_importance`), or by the ``norm`` of their weights.
        soft_target: part of the teacher's prediction in what the whole student learns to predict; 0 is the noise
            itself, as in the paper.
        bank: answers of the teacher that are held at once, see `AnswerBank`; used where its predictions are all that is
            wanted of it, so not while beta is less than 1. 0: it is asked every time.
        bank_passes: how often each of them serves.
        bank_memory: GiB that the bank may take; a larger one lies in the trial's folder.
        prompts: text for each class of the data (or one text for all), for a text-conditioned teacher.
        trust_remote_code: whether code in the teacher's folder may run, e.g. to encode the prompts.
        loss_images: 0; students are not judged by their loss on held-out images.
    """

    loss_images: int = Field(default=0, ge=0, le=0)
    training: Recipe = Recipe(images=48_000, batch_size=BATCH)
    recipe: Literal["ours", "paper"] = "ours"
    supernet: SupernetSettings = SupernetSettings()
    beta: BetaName = "half"
    features: FeatureSource = "own"
    inherit: Inherit = "teacher"
    importance: Literal["taylor", "norm"] = "taylor"
    soft_target: float = Field(default=1.0, ge=0, le=1)
    bank: int = Field(default=0, ge=0)
    bank_passes: int = Field(default=4, ge=1)
    bank_memory: float = Field(default=1.0, ge=0)
    prompts: tuple[str, ...] = ()
    trust_remote_code: bool = False

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        named = RECIPES.get(str(given.get("recipe")), {})
        filled = {**named, **given}
        if isinstance(given.get("training"), Mapping):
            filled["training"] = {"batch_size": BATCH, **given["training"]}
        if isinstance(given.get("supernet"), Mapping):
            filled["supernet"] = {**named.get("supernet", {}), **given["supernet"]}
        return filled
