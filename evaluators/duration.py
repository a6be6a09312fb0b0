"""How long a trial will take and how much it writes, from a few timed steps of its network."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .scores.held_out_loss import LEVELS
from .scores.scoring import Scoring
from .settings import Settings
from .training.compute import threads
from .training.denoising import train
from .training.recipe import Recipe

__all__ = ["Duration", "time_trial"]

_TIMED = 4
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True)
class Duration:
    """How long a trial of one network takes.

    Args:
        image: seconds of training for each image shown.
        rest: seconds of all else: samples, scores, losses without samples.
        disk: bytes that it writes.
    """

    image: float
    rest: float
    disk: float

    def seconds(self, recipe: Recipe) -> float:
        """Of a whole trial by this recipe."""
        steps = math.ceil((recipe.images or 0) / recipe.batch_size) or recipe.steps or 0
        return (recipe.seconds or steps * recipe.batch_size * self.image) + self.rest


def time_trial(
    model: nn.Module,
    settings: Settings,
    data: tuple[Tensor, Tensor | None],
    generate: Callable[[nn.Module, int], NDArray[np.uint8]],
    scoring: Scoring,
    signals: int,
) -> Duration:
    """How long a trial takes, judged from a few steps.

    Args:
        model: of the trial; a copy of it is trained a little.
        settings: of the evaluation.
        data: pixels and labels to train on, on the device.
        generate: makes so many images with a network.
        scoring: of the images.
        signals: how many scores without samples are measured.
    """
    recipe = settings.training
    pixels, labels = data
    model = copy.deepcopy(model).to(pixels.device)
    with threads(settings.threads), torch.random.fork_rng():
        train(model, pixels, labels, _steps(recipe, 1), 0, lambda progress: None)
        timed = train(model, pixels, labels, _steps(recipe, _TIMED), 0, lambda progress: None)
        began = time.monotonic()
        generated = generate(model, min(settings.sampling_batch, settings.score_images))
        an_image = (time.monotonic() - began) / len(generated)
        began = time.monotonic()
        scoring.features(generated)
        scored = (time.monotonic() - began) * (1 + settings.curve_points + settings.score_images / len(generated))
    images = settings.score_images + settings.curve_points * settings.curve_images
    passes = LEVELS * settings.loss_images * (1 + settings.curve_points) * signals
    images += math.ceil(passes / settings.sampler_steps)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    pictures = (2 + settings.curve_points) * 64 * math.prod(generated.shape[1:]) + 20_000
    return Duration(timed.seconds / timed.images, images * an_image + scored, float(weights + pictures))


def _steps(recipe: Recipe, steps: int) -> Recipe:
    return recipe.model_copy(update={"images": None, "seconds": None, "steps": steps, "reports": 1})
