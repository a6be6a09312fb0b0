"""Rapid training: a network learns to denoise, quickly, and on the same random numbers as every other architecture."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from nni_diffnas.errors import TrialFailure

from .ema import PowerAverage
from .losses import PARAMETERISATIONS, WEIGHTINGS, MinSNRWeighting, Parameterisation
from .optimizer import AdamW, learning_rate
from .schedules import SCHEDULES, Schedule

__all__ = ["Progress", "Recipe", "TrainingResult", "call_network", "train"]


class Recipe(BaseModel):
    """How networks are trained. Exactly one of the three budgets is given.

    Args:
        images: budget in images seen, repetitions counted.
        steps: budget in optimiser steps.
        seconds: budget in wall-clock seconds: fair to fast networks, but not reproducible to the digit.
        batch_size: images a step.
        prediction: what the network predicts.
        schedule: of the noise.
        timesteps: T of the schedule.
        weighting: of the timesteps.
        gamma: of min-SNR weighting.
        learning_rate: its peak.
        warmup: part of the budget in which the learning rate rises, 0 to 1.
        weight_decay: as a multiple of the learning rate.
        clip: longest gradient.
        ema_width: relative width of the weights' average; 0.05 to 0.15.
        class_conditional: whether the network takes class labels.
        compile: whether to use ``torch.compile`` (a minute or more of compiling: for long trainings on a GPU).
        reports: number of intermediate reports.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=64, ge=1)
    prediction: Literal["v", "epsilon"] = "v"
    schedule: Literal["cosine", "linear"] = "cosine"
    timesteps: int = Field(default=1000, ge=2, le=100_000)
    weighting: Literal["min-snr", "uniform"] = "min-snr"
    gamma: float = Field(default=5.0, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema_width: float = Field(default=0.1, gt=0, le=0.28)
    class_conditional: bool = False
    compile: bool = False
    reports: int = Field(default=12, ge=1)

    @model_validator(mode="after")
    def _one_budget(self) -> Recipe:
        given = [name for name in ("images", "steps", "seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of images, steps and seconds, not {' and '.join(given) or 'none'}")
        return self

    @property
    def budget(self) -> str:
        """The budget with its unit."""
        if self.images is not None:
            return f"{self.images} images"
        return f"{self.steps} steps" if self.steps is not None else f"{self.seconds:g} seconds"

    def noise_schedule(self) -> Schedule:
        """The schedule named here."""
        return SCHEDULES[self.schedule](self.timesteps)

    def parameterisation(self) -> Parameterisation:
        """The parameterisation named here."""
        return PARAMETERISATIONS[self.prediction]()

    def spent(self, step: int, seconds: float) -> float:
        """Part of the budget that is spent after a step; 1 or more: all of it."""
        if self.images is not None:
            return step * self.batch_size / self.images
        return step / self.steps if self.steps is not None else seconds / (self.seconds or math.inf)

    def weights(self, snr: Tensor) -> Tensor:
        """Weight of each signal-to-noise ratio, the shape of ``snr``."""
        weighting = MinSNRWeighting(self.gamma) if self.weighting == "min-snr" else WEIGHTINGS[self.weighting]()
        return weighting.weights(snr, self.parameterisation())


@dataclass(frozen=True)
class Progress:
    """State of a training at a report: the mean weighted loss since the last one, and what was spent."""

    loss: float
    images: int
    step: int
    fraction: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training took, and its last mean loss. The network holds the averaged weights."""

    loss: float
    images: int
    steps: int
    seconds: float


def call_network(model: nn.Module, images: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
    """The prediction of a network that returns a tensor, or (as diffusers' do) an object with ``.sample``."""
    output = model(images, times) if labels is None else model(images, times, labels)
    prediction: Tensor = output if isinstance(output, Tensor) else output.sample
    return prediction


class _Batches:
    """Batches and their noise: from one seed, on the CPU's generator, so alike for every architecture and device.

    Stratified timesteps: one in each of the batch's equal slices of [0, T), which lowers the loss's variance.
    Kingma et al., "Variational Diffusion Models" (2021), appendix I.1.
    """

    def __init__(self, pixels: Tensor, labels: Tensor | None, size: int, timesteps: int, seed: int) -> None:
        self.pixels, self.labels, self.size, self.timesteps = pixels, labels, size, timesteps
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)

    def __call__(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        while len(self.order) < self.size:
            self.order = torch.cat([self.order, torch.randperm(len(self.pixels), generator=self.generator)])
        chosen, self.order = self.order[: self.size], self.order[self.size :]
        offset = torch.rand(self.size, generator=self.generator)
        times = (torch.arange(self.size) + offset) * (self.timesteps / self.size)
        device = self.pixels.device
        noise = torch.randn(self.size, *self.pixels.shape[1:], generator=self.generator)
        chosen = chosen.to(device)
        clean = self.pixels[chosen].float().div_(127.5).sub_(1.0)
        labels = None if self.labels is None else self.labels[chosen]
        return clean, noise.to(device), times.long().clamp_(max=self.timesteps - 1).to(device), labels


def train(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor | None,
    recipe: Recipe,
    seed: int,
    report: Callable[[Progress], None],
) -> TrainingResult:
    """Train ``model`` in place; it ends with the averaged weights, and has them whenever ``report`` is called.

    Args:
        model: on the device to train on; called as model(images, timesteps) or model(images, timesteps, labels).
        pixels: uint8 ``[images, channels, height, width]`` on the same device, all that is trained on.
        labels: int64 ``[images]`` for a class-conditional network.
        recipe: how.
        seed: of batches, timesteps and noise (and of the model's own dropout).
        report: hears of the progress, about ``recipe.reports`` times.

    Raises:
        TrialFailure: the loss is not finite any more, or the device's memory does not suffice.
    """
    device = pixels.device
    on_gpu = device.type == "cuda"
    alpha_bar = recipe.noise_schedule().alpha_bar()
    signal = alpha_bar.sqrt().float().to(device)
    noise_level = (1.0 - alpha_bar).sqrt().float().to(device)
    weight = recipe.weights(alpha_bar / (1.0 - alpha_bar)).float().to(device)
    parameterisation = recipe.parameterisation()
    torch.manual_seed(seed)
    batches = _Batches(pixels, labels, recipe.batch_size, recipe.timesteps, seed)
    network: nn.Module = torch.compile(model) if recipe.compile else model  # type: ignore[assignment]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, average = AdamW(parameters, decay=recipe.weight_decay), PowerAverage(parameters, recipe.ema_width)
    model.train()
    step, fraction, reported, losses = 0, 0.0, 0, torch.zeros((), device=device)
    counted, last, began, paused = 0, math.nan, time.monotonic(), 0.0
    try:
        while fraction < 1.0:
            clean, noise, times, classes = batches()
            a, s = signal[times].view(-1, 1, 1, 1), noise_level[times].view(-1, 1, 1, 1)
            with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
                prediction = call_network(network, a * clean + s * noise, times, classes)
            error = (prediction.float() - parameterisation.target(clean, noise, a, s)).square().mean(dim=(1, 2, 3))
            loss = (weight[times] * error).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            step += 1
            fraction = recipe.spent(step, time.monotonic() - began - paused)
            optimizer.step(learning_rate(recipe.learning_rate, fraction, recipe.warmup), recipe.clip)
            average.update()
            losses += loss.detach()
            counted += 1
            if fraction >= (reported + 1) / recipe.reports or fraction >= 1.0:
                last = float(losses) / counted
                if not math.isfinite(last):
                    raise TrialFailure(
                        f"Training diverged: the loss is {last} after {step} steps of {recipe.batch_size} images; "
                        f"lower the learning rate ({recipe.learning_rate:g})."
                    )
                reported, losses, counted = int(fraction * recipe.reports), torch.zeros((), device=device), 0
                halted = time.monotonic()
                average.swap()
                model.eval()
                seconds = halted - began - paused
                report(Progress(last, step * recipe.batch_size, step, min(fraction, 1.0), seconds))
                if fraction < 1.0:
                    average.swap()
                    model.train()
                paused += time.monotonic() - halted
    except torch.OutOfMemoryError as error:
        raise TrialFailure(
            f"The device has no memory for a batch of {recipe.batch_size} images: lower evaluator.batch_size."
        ) from error
    return TrainingResult(last, step * recipe.batch_size, step, time.monotonic() - began - paused)
