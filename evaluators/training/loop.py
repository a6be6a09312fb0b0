"""What every training has in common: gradients where memory is short, several processes, reports on the way."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from nni_diffnas.api.errors import TrialFailure

from .compute import Team
from .recipe import Recipe

__all__ = ["Divisible", "Learner", "Learning", "Progress", "learn"]

# A loss is looked at after so many steps at the latest; more often, a GPU would be waited for too often.
LOOK = 64
# Steps after which a learner may settle, see there.
TIMED = 20


class Divisible(Protocol):
    """A batch that can be cut."""

    @property
    def times(self) -> Tensor:
        """Timesteps ``[batch]``."""

    def part(self, start: int, stop: int) -> Self:
        """The images from ``start`` to before ``stop``."""


Divided = TypeVar("Divided", bound=Divisible)


@dataclass(frozen=True)
class Progress:
    """State of a training at a report: the mean loss since the last one, and what was spent."""

    loss: float
    images: int
    step: int
    fraction: float
    seconds: float


@dataclass(frozen=True)
class Learning:
    """What a training took, and its last mean loss. The network holds the averaged weights.

    Args:
        loss: mean loss since the last report but one.
        images, steps, seconds: that it took, reports not counted.
        micro_batch: images that went through the network at once in the end.
    """

    loss: float
    images: int
    steps: int
    seconds: float
    micro_batch: int


class Learner(ABC, Generic[Divided]):
    """A training under way: the network, its optimiser and its average.

    Args:
        model: on the device to train on.
        recipe: how.
        device: of the batches.
        channels: of the images.
    """

    worst: ClassVar[float] = 10.0
    """The first loss, of a network that has learned nothing, times this is a divergence even where it is a number."""

    def __init__(self, model: nn.Module, recipe: Recipe, device: torch.device, channels: int) -> None:
        self.model, self.recipe, self.device, self.team = model, recipe, device, Team()
        if recipe.batch_size < self.team.count:
            raise TrialFailure(
                f"{self.team.count} processes cannot share a batch of {recipe.batch_size}: raise training.batch_size."
            )
        self.optimizer = recipe.make_optimizer(model, channels)
        self.average = recipe.average(self.optimizer.parameters)
        self.micro_batch = recipe.batch_size
        model.train()

    @abstractmethod
    def draw(self, progress: float) -> Divided:
        """The next batch, at this part of the budget."""

    @abstractmethod
    def loss_within(self, part: Divided, of: int) -> Tensor:
        """What these images add to the mean loss of a batch of ``of`` images, a scalar."""

    def settle(self, seconds: float) -> None:
        """Hear once, after a few steps, how many seconds are left: a long training may be prepared for better."""

    def gradient(self, batch: Divided) -> Tensor:
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

    def _accumulate(self, batch: Divided, of: int) -> Tensor:
        """Gradient and value of the batch's part in the mean loss of ``of`` images."""
        while True:
            size, mean = len(batch.times), torch.zeros((), device=self.device)
            try:
                for start in range(0, size, self.micro_batch):
                    part = batch.part(start, start + self.micro_batch) if self.micro_batch < size else batch
                    loss = self.loss_within(part, of)
                    loss.backward()
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


class _LossWatch:
    """The mean loss between reports; a loss that cannot come to any good ends the trial at once."""

    def __init__(self, recipe: Recipe, worst: float) -> None:
        self.recipe, self.worst = recipe, worst
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
        if not math.isfinite(mean) or mean > self.worst * first:
            raise TrialFailure(
                f"Training diverged: the loss is {mean:.4g} after {step} steps of {self.recipe.batch_size} images; "
                f"lower the learning rate ({self.recipe.learning_rate:g})."
            )
        return mean

    def reset(self) -> None:
        """Begin the next mean."""
        self.total, self.counted = 0.0, 0


def learn(learner: Learner[Divided], report: Callable[[Progress], None]) -> Learning:
    """Train until the recipe's budget is spent; the network ends with the averaged weights.

    Args:
        learner: what is trained.
        report: hears of the progress, about ``recipe.reports`` times; the network has the averaged weights meanwhile.

    Raises:
        TrialFailure: the loss is not finite any more, or the device's memory does not suffice.
    """
    recipe, model, team = learner.recipe, learner.model, learner.team
    watch = _LossWatch(recipe, learner.worst)
    step, fraction, reported, last = 0, 0.0, 0, math.nan
    began, paused = time.monotonic(), 0.0
    while fraction < 1.0:
        loss = learner.gradient(learner.draw(fraction))
        step += 1
        elapsed = time.monotonic() - began - paused
        fraction = recipe.spent(step, elapsed)
        if recipe.seconds is not None:
            fraction = team.first(fraction)
        learner.update(fraction)
        if step == TIMED:
            learner.settle(elapsed / fraction - elapsed)
        watch.add(loss, step)
        if fraction >= (reported + 1) / recipe.reports or fraction >= 1.0:
            last = watch.look(step)
            watch.reset()
            reported = int(fraction * recipe.reports)
            halted = time.monotonic()
            learner.average.swap()
            model.eval()
            ended = None
            if team.rank == 0:
                try:
                    report(Progress(last, step * recipe.batch_size, step, min(fraction, 1.0), halted - began - paused))
                except Exception as error:  # the other processes must not wait for this one
                    ended = error
            if team.first(float(ended is not None)):
                if ended is not None:
                    raise ended
                break
            if fraction < 1.0:
                learner.average.swap()
                model.train()
            paused += time.monotonic() - halted
    seconds = time.monotonic() - began - paused
    return Learning(last, step * recipe.batch_size, step, seconds, learner.micro_batch)
