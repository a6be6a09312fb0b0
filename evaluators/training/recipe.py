"""`Recipe`: every setting of a training, resolved from a named one and what a job says otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from nni_diffnas.api.section import Section
from nni_diffnas.cache import fingerprint

from .ema import Average, ConstantAverage, PowerAverage
from .losses import (
    PARAMETERISATIONS,
    WEIGHTINGS,
    EDMPreconditioning,
    EDMWeighting,
    MinSNRWeighting,
    Parameterisation,
)
from .noise_schedules import SCHEDULES, LogNormalTimesteps, Schedule, Timesteps, UniformTimesteps
from .optimizer import AdamW, Muon, Optimizer, learning_rate, width_scales

__all__ = ["RECIPES", "Recipe"]

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "rapid": {},  # the defaults below
    "iddpm": {
        "batch_size": 128,
        "prediction": "epsilon",
        "learned_sigma": True,
        "schedule": "cosine",
        "timesteps": 4000,
        "drawn": "uniform",
        "weighting": "uniform",
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "warmup": 0.0,
        "decay": "none",
        "beta2": 0.999,
        "weight_decay": 0.0,
        "clip": None,
        "ema": "constant",
        "ema_decay": 0.9999,
        "dropout": 0.3,
    },
}
"""What each named recipe says otherwise than `Recipe`'s defaults.

``iddpm`` is Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021), for CIFAR-10: section 4
and appendix A. One thing differs: timesteps reach the network as they are, 0 to 3999 (the authors' code squeezes them
to 0 to 1000), since diffusers passes them so.
"""


class Recipe(Section):
    """How networks are trained. Exactly one of the three budgets is given.

    Args:
        recipe: where all that is not given comes from: ``rapid`` (the defaults below) or ``iddpm``.
        images: budget in images seen, repetitions counted.
        steps: budget in optimiser steps.
        seconds: budget in wall-clock seconds: fair to fast networks, but not reproducible to the digit.
        batch_size: images a step.
        prediction: what the network predicts.
        sigma_data: standard deviation of the images in [-1, 1]; of ``edm`` prediction and weighting.
        learned_sigma: whether the network learns the variance of each step as well; it has twice the output channels.
        schedule: of the noise.
        timesteps: T of the schedule.
        drawn: timesteps of a batch: ``stratified`` over [0, T), independent and ``uniform``, or stratified over the
            ``log-normal`` noise levels of EDM.
        level_mean: mean of ln(sigma) of ``log-normal``.
        level_deviation: standard deviation of ln(sigma) of ``log-normal``.
        weighting: of the timesteps.
        gamma: of the min-SNR weighting.
        optimizer: ``muon`` for the matrices and kernels of hidden layers and Adam for the rest, or ``adam`` for all.
        momentum: decay of Muon's average of gradients, 0 to 1.
        learning_rate: its peak; of Muon's matrices ten times as much.
        width_base: channels at which a layer learns at that rate, wider ones slower; null: all alike. With ``adam``
            only, see `width_scales`; Muon treats wide and narrow layers alike by itself.
        warmup: part of the budget in which the learning rate rises, 0 to 1.
        decay: how the learning rate falls after that.
        beta2: decay of Adam's second moment, 0 to 1.
        weight_decay: as a multiple of the learning rate.
        clip: longest gradient; null: any.
        ema: average of the weights: ``power`` suits any length of training, ``constant`` has one decay.
        ema_width: relative width of the ``power`` average; mostly 0.05 to 0.15.
        ema_decay: of the ``constant`` average.
        dropout: probability in all dropout layers of the network; null: what the network says.
        flip: mirror every other image, by chance. Only for images that could as well be mirrored: not for digits.
        class_conditional: whether the network takes class labels.
        compile: whether to use ``torch.compile``, which takes a minute or more; null: on a GPU, when the first steps
            show that the training will be long.
        reports: number of intermediate reports.
    """

    recipe: Literal["rapid", "iddpm"] = "rapid"
    images: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=64, ge=1)
    prediction: Literal["v", "epsilon", "edm"] = "v"
    sigma_data: float = Field(default=0.5, gt=0)
    learned_sigma: bool = False
    schedule: Literal["cosine", "linear"] = "cosine"
    timesteps: int = Field(default=1000, ge=2, le=100_000)
    drawn: Literal["stratified", "uniform", "log-normal"] = "stratified"
    level_mean: float = -1.2
    level_deviation: float = Field(default=1.2, gt=0)
    weighting: Literal["min-snr", "uniform", "edm"] = "min-snr"
    gamma: float = Field(default=5.0, gt=0)
    optimizer: Literal["muon", "adam"] = "muon"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    width_base: int | None = Field(default=None, ge=1)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    decay: Literal["cosine", "none"] = "cosine"
    beta2: float = Field(default=0.99, gt=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    ema: Literal["power", "constant"] = "power"
    ema_width: float = Field(default=0.1, gt=0, le=0.28)
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    flip: bool = False
    class_conditional: bool = False
    compile: bool | None = None
    reports: int = Field(default=12, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {**RECIPES.get(str(given.get("recipe")), {}), **given}

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        given = [name for name in ("images", "steps", "seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of images, steps and seconds, not {' and '.join(given) or 'none'}")
        if self.width_base is not None and self.optimizer != "adam":
            raise ValueError("width_base is for Adam: set optimizer to adam, or leave it out")
        return self

    @property
    def budget(self) -> str:
        """The budget with its unit."""
        if self.images is not None:
            return f"{self.images} images"
        return f"{self.steps} steps" if self.steps is not None else f"{self.seconds:g} seconds"

    @property
    def fingerprint(self) -> str:
        """Eight characters that differ between recipes which train differently. A setting that is null is left out."""
        settings = self.model_dump(exclude_none=True, exclude={"recipe", "reports", "compile"})
        return fingerprint(sorted(settings.items()))[:8]

    def noise_schedule(self) -> Schedule:
        """The schedule named here."""
        return SCHEDULES[self.schedule](self.timesteps)

    def parameterisation(self) -> Parameterisation:
        """The parameterisation named here."""
        return EDMPreconditioning(self.sigma_data) if self.prediction == "edm" else PARAMETERISATIONS[self.prediction]()

    def timestep_draw(self) -> Timesteps:
        """How the timesteps of a batch are drawn."""
        if self.drawn == "log-normal":
            return LogNormalTimesteps(self.noise_schedule(), self.level_mean, self.level_deviation)
        return UniformTimesteps(self.timesteps, stratified=self.drawn == "stratified")

    def weights(self, snr: Tensor) -> Tensor:
        """Weight of each signal-to-noise ratio, the shape of ``snr``."""
        if self.weighting == "min-snr":
            return MinSNRWeighting(self.gamma).weights(snr, self.parameterisation())
        if self.weighting == "edm":
            return EDMWeighting(self.sigma_data).weights(snr, self.parameterisation())
        return WEIGHTINGS[self.weighting]().weights(snr, self.parameterisation())

    def spent(self, step: int, seconds: float) -> float:
        """Part of the budget that is spent after a step; 1 or more: all of it."""
        if self.images is not None:
            return step * self.batch_size / self.images
        return step / self.steps if self.steps is not None else seconds / (self.seconds or math.inf)

    def rate(self, progress: float) -> float:
        """Learning rate when this part of the budget is spent, 0 to 1."""
        return learning_rate(self.learning_rate, progress, self.warmup, final=1.0 if self.decay == "none" else 0.0)

    def make_optimizer(self, model: nn.Module, channels: int) -> Optimizer:
        """A new optimiser of the network's parameters; the images have so many channels."""
        if self.optimizer == "muon":
            return Muon(model, (0.9, self.beta2), self.weight_decay, self.momentum)
        scales = width_scales(model, self.width_base, channels) if self.width_base is not None else {}
        return AdamW(list(model.parameters()), betas=(0.9, self.beta2), decay=self.weight_decay, scales=scales)

    def average(self, parameters: Sequence[Tensor]) -> Average:
        """A new average of these parameters."""
        if self.ema == "constant":
            return ConstantAverage(parameters, self.ema_decay)
        return PowerAverage(parameters, self.ema_width)
