"""Rapid training: a network learns to denoise, quickly, and on the same random numbers as every other architecture."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nni_diffnas.errors import TrialFailure

from .batches import Batch, Batches
from .compute import Team, autocast
from .recipe import Recipe
from .variational import LearnedVariance

__all__ = ["Progress", "Recipe", "Training", "TrainingResult", "call_network", "train"]

# A loss is looked at after so many steps at the latest; more often, a GPU would be waited for too often.
LOOK = 64
# Steps whose time tells how long the training will take, and how long it has to be for compiling to pay.
TIMED, WORTH_COMPILING = 20, 600.0
# The loss of a network that has learned nothing, times this, is a divergence even where it is a number.
DIVERGED = 10.0


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
    """What a training took, and its last mean loss. The network holds the averaged weights.

    Args:
        loss: mean weighted loss since the last report but one.
        images, steps, seconds: that it took, reports not counted.
        micro_batch: images that went through the network at once in the end.
        compiled: whether ``torch.compile`` came to be used.
    """

    loss: float
    images: int
    steps: int
    seconds: float
    micro_batch: int
    compiled: bool


def call_network(model: nn.Module, images: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
    """The prediction of a network that returns a tensor, or (as diffusers' do) an object with ``.sample``."""
    output = model(images, times) if labels is None else model(images, times, labels)
    prediction: Tensor = output if isinstance(output, Tensor) else output.sample
    return prediction


class Training:
    """A training under way: the network, its optimiser, its average and the batches it learns from.

    Args:
        model: on the device to train on; called as model(images, timesteps) or model(images, timesteps, labels).
        pixels: uint8 ``[images, channels, height, width]`` on the same device, all that is trained on.
        labels: int64 ``[images]`` for a class-conditional network.
        recipe: how.
        seed: of batches, timesteps and noise (and of the model's own dropout).
    """

    def __init__(self, model: nn.Module, pixels: Tensor, labels: Tensor | None, recipe: Recipe, seed: int) -> None:
        device = pixels.device
        self.model, self.recipe, self.device, self.team = model, recipe, device, Team()
        if recipe.batch_size < self.team.count:
            raise TrialFailure(
                f"{self.team.count} processes cannot share a batch of {recipe.batch_size}: raise training.batch_size."
            )
        alpha_bar = recipe.noise_schedule().alpha_bar()
        self.signal = alpha_bar.sqrt().float().to(device)
        self.noise_level = (1.0 - alpha_bar).sqrt().float().to(device)
        self.weight = recipe.weights(alpha_bar / (1.0 - alpha_bar)).float().to(device)
        self.parameterisation = recipe.parameterisation()
        self.variance = LearnedVariance(recipe.noise_schedule(), device) if recipe.learned_sigma else None
        torch.manual_seed(seed)
        self.batches = Batches(pixels, labels, recipe.batch_size, recipe.timestep_draw(), recipe.flip, seed)
        self.network = model
        if recipe.compile:
            self.compile()
        self.optimizer = recipe.make_optimizer(model, pixels.shape[1])
        self.average = recipe.average(self.optimizer.parameters)
        self.micro_batch = recipe.batch_size
        if recipe.dropout is not None:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = recipe.dropout
        model.train()

    @property
    def compiled(self) -> bool:
        """Whether the network is compiled."""
        return self.network is not self.model

    def compile(self) -> None:
        """Compile the network; the next step takes a minute or more."""
        self.network = torch.compile(self.model)  # type: ignore[assignment]

    def loss(self, batch: Batch) -> Tensor:
        """Weighted loss of each image, ``[batch]``."""
        times, parameterisation = batch.times, self.parameterisation
        a, s = self.signal[times].view(-1, 1, 1, 1), self.noise_level[times].view(-1, 1, 1, 1)
        noised = a * batch.clean + s * batch.noise
        with autocast(self.device):
            given = parameterisation.network_input(noised, a, s)
            prediction = call_network(self.network, given, times, batch.labels).float()
        extra: Tensor | float = 0.0
        if self.variance is not None:
            prediction, values = prediction.chunk(2, dim=1)
            predicted = parameterisation.clean(noised, prediction.detach(), a, s)
            extra = self.variance.loss(batch.clean, predicted, values, times)
        target = parameterisation.target(batch.clean, batch.noise, a, s)
        loss: Tensor = self.weight[times] * (prediction - target).square().mean(dim=(1, 2, 3)) + extra
        return loss

    def gradient(self, batch: Batch) -> Tensor:
        """Give the parameters the gradient of the batch's mean loss, which is returned, a scalar.

        Where the device's memory does not suffice, the batch goes through the network in halves, quarters...

        Raises:
            TrialFailure: the memory does not suffice for a single image.
        """
        size = len(batch.times)
        start, stop = self.team.share(size)
        mean = self._accumulate(batch.part(start, stop) if self.team.count > 1 else batch, size)
        gradients = [parameter.grad for parameter in self.optimizer.parameters if parameter.grad is not None]
        self.team.total([*gradients, mean])
        return mean

    def _accumulate(self, batch: Batch, of: int) -> Tensor:
        """Gradient and value of the batch's part in the mean loss of ``of`` images."""
        while True:
            size, mean = len(batch.times), torch.zeros((), device=self.device)
            try:
                for start in range(0, size, self.micro_batch):
                    part = batch.part(start, start + self.micro_batch) if self.micro_batch < size else batch
                    loss = self.loss(part).sum() / of
                    loss.backward()  # type: ignore[no-untyped-call]
                    mean += loss.detach()
                return mean
            except torch.OutOfMemoryError as error:
                if self.micro_batch == 1:
                    raise TrialFailure("The device has no memory to train this network on a single image.") from error
            # Only here is the failed pass forgotten, and its memory free.
            self.micro_batch = (min(self.micro_batch, size) + 1) // 2
            for parameter in self.optimizer.parameters:
                parameter.grad = None
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def update(self, progress: float) -> None:
        """Change the weights by their gradient.

        Args:
            progress: part of the budget that is spent, 0 to 1: sets the learning rate.
        """
        self.optimizer.step(self.recipe.rate(progress), self.recipe.clip)
        self.average.update()


class _Watch:
    """The mean loss between reports; a loss that cannot come to any good ends the trial at once."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.total: Tensor | float = 0.0
        self.counted = 0
        self.first: float | None = None

    def add(self, loss: Tensor, step: int) -> None:
        """Take in the loss of a step; the very first steps are looked at more often."""
        self.total, self.counted = self.total + loss, self.counted + 1
        if step.bit_count() == 1 or step % LOOK == 0:
            self.look(step)

    def look(self, step: int) -> float:
        """The mean loss since the last `reset`.

        Raises:
            TrialFailure: it is not finite, or far above that of the network which had learned nothing yet.
        """
        mean = float(self.total) / self.counted
        first = self.first = mean if self.first is None else self.first
        if not math.isfinite(mean) or mean > DIVERGED * first:
            raise TrialFailure(
                f"Training diverged: the loss is {mean:.4g} after {step} steps of {self.recipe.batch_size} images; "
                f"lower the learning rate ({self.recipe.learning_rate:g})."
            )
        return mean

    def reset(self) -> None:
        """Begin the next mean."""
        self.total, self.counted = 0.0, 0


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
        model: of `Training`, as the next four.
        pixels: see there.
        labels: see there.
        recipe: how, and for how long.
        seed: see there.
        report: hears of the progress, about ``recipe.reports`` times.

    Raises:
        TrialFailure: the loss is not finite any more, or the device's memory does not suffice.
    """
    training, watch = Training(model, pixels, labels, recipe, seed), _Watch(recipe)
    step, fraction, reported, last = 0, 0.0, 0, math.nan
    began, paused = time.monotonic(), 0.0
    while fraction < 1.0:
        loss = training.gradient(training.batches.draw())
        step += 1
        elapsed = time.monotonic() - began - paused
        fraction = recipe.spent(step, elapsed)
        if recipe.seconds is not None:
            fraction = training.team.first(fraction)
        training.update(fraction)
        if step == TIMED and recipe.compile is None and _long(training, fraction, elapsed):
            training.compile()
        watch.add(loss, step)
        if fraction >= (reported + 1) / recipe.reports or fraction >= 1.0:
            last = watch.look(step)
            watch.reset()
            reported = int(fraction * recipe.reports)
            halted = time.monotonic()
            training.average.swap()
            model.eval()
            ended = None
            if training.team.rank == 0:
                try:
                    report(Progress(last, step * recipe.batch_size, step, min(fraction, 1.0), halted - began - paused))
                except Exception as error:  # the other processes must not wait for this one
                    ended = error
            if training.team.first(float(ended is not None)):
                if ended is not None:
                    raise ended
                break
            if fraction < 1.0:
                training.average.swap()
                model.train()
            paused += time.monotonic() - halted
    seconds = time.monotonic() - began - paused
    return TrainingResult(last, step * recipe.batch_size, step, seconds, training.micro_batch, training.compiled)


def _long(training: Training, fraction: float, elapsed: float) -> bool:
    """Whether what is left will take a GPU so long that compiling pays."""
    return training.device.type == "cuda" and elapsed / fraction - elapsed > WORTH_COMPILING
