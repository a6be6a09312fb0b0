"""Rapid training: a network learns to denoise, quickly, and on the same random numbers as every other architecture."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .batches import Batch, Batches
from .compute import autocast
from .loop import Learner, Learning, Progress, learn
from .recipe import Recipe
from .recorded import RecordedStep
from .variational import LearnedVariance

__all__ = ["DenoisingLoss", "Training", "TrainingResult", "call_network", "train"]

# Seconds that have to be left for compiling to pay.
WORTH_COMPILING = 600.0
# Part of a GPU's memory that a step may take and be recorded, which takes as much again.
SMALL = 1 / 8
# Libraries whose networks take the same way at every step, as a recording does.
STEADY = ("torch", "diffusers", "nni", "nni_diffnas")
# Seconds of work that a GPU has left when Python waits for it, where the network keeps it busy.
BEHIND = 0.005


@dataclass(frozen=True)
class TrainingResult(Learning):
    """What a training took, and its last mean weighted loss. The network holds the averaged weights.

    Args:
        compiled: whether ``torch.compile`` came to be used.
        recorded: whether the steps came to be recorded as a CUDA graph.
    """

    compiled: bool
    recorded: bool


def call_network(model: nn.Module, images: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
    """The prediction of a network that returns a tensor, or (as diffusers' do) an object with ``.sample``."""
    output = model(images, times) if labels is None else model(images, times, labels)
    prediction: Tensor = output if isinstance(output, Tensor) else output.sample
    return prediction


class DenoisingLoss:
    """Weighted error of a network's predictions, image by image.

    Args:
        recipe: schedule, parameterisation and weighting.
        device: of the images.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        alpha_bar = recipe.noise_schedule().alpha_bar()
        self.signal = alpha_bar.sqrt().float().to(device)
        self.noise_level = (1.0 - alpha_bar).sqrt().float().to(device)
        self.snr = (alpha_bar / (1.0 - alpha_bar)).float().to(device)
        self.weight = recipe.weights(alpha_bar / (1.0 - alpha_bar)).float().to(device)
        self.parameterisation = recipe.parameterisation()
        self.variance = LearnedVariance(recipe.noise_schedule(), device) if recipe.learned_sigma else None
        self.device = device

    def noised(self, batch: Batch) -> Tensor:
        """x_t, the shape of ``batch.clean``."""
        a, s = self._levels(batch)
        return a * batch.clean + s * batch.noise

    def predict(self, network: nn.Module, batch: Batch) -> Tensor:
        """Prediction of the network, float32, the shape of ``batch.clean``, with learned variances behind it."""
        with autocast(self.device):
            given = self.parameterisation.network_input(self.noised(batch), *self._levels(batch))
            return call_network(network, given, batch.times, batch.labels).float()

    def clean(self, batch: Batch, prediction: Tensor) -> Tensor:
        """x_0 as a prediction has it, the shape of ``batch.clean``."""
        return self.parameterisation.clean(self.noised(batch), prediction, *self._levels(batch))

    def squared_error(self, batch: Batch, prediction: Tensor) -> Tensor:
        """Mean squared error of each image's prediction, ``[batch]``."""
        target = self.parameterisation.target(batch.clean, batch.noise, *self._levels(batch))
        return (prediction - target).square().mean(dim=(1, 2, 3))

    def __call__(self, network: nn.Module, batch: Batch) -> Tensor:
        """Loss of each image, ``[batch]``, that of its variance included."""
        prediction, extra = self.predict(network, batch), torch.zeros((), device=self.device)
        if self.variance is not None:
            prediction, values = prediction.chunk(2, dim=1)
            predicted = self.clean(batch, prediction.detach())
            extra = self.variance.loss(batch.clean, predicted, values, batch.times)
        return self.weight[batch.times] * self.squared_error(batch, prediction) + extra

    def _levels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shape = (-1, 1, 1, 1)
        return self.signal[batch.times].view(shape), self.noise_level[batch.times].view(shape)


class Training(Learner[Batch]):
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
        super().__init__(model, recipe, device, pixels.shape[1])
        self.denoising = DenoisingLoss(recipe, device)
        torch.manual_seed(seed)
        self.batches = Batches(pixels, labels, recipe.batch_size, recipe.timestep_draw(), recipe.flip, seed)
        self.network = model
        self._worth_recording = False
        self._recorded: RecordedStep | None = None
        if recipe.compile:
            self.compile()
        if recipe.dropout is not None:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = recipe.dropout

    @property
    def compiled(self) -> bool:
        """Whether the network is compiled."""
        return self.network is not self.model

    def compile(self) -> None:
        """Compile the network; the next step takes a minute or more."""
        self.network = torch.compile(self.model)  # type: ignore[assignment]  # it is called as the network is

    def loss(self, batch: Batch) -> Tensor:
        """Weighted loss of each image, ``[batch]``."""
        return self.denoising(self.network, batch)

    def draw(self, progress: float) -> Batch:
        """The next batch, the same at every part of the budget."""
        return self.batches.draw()

    def loss_within(self, part: Batch, of: int) -> Tensor:
        """The sum of the losses of these images, divided by ``of``."""
        return self.loss(part).sum() / of

    def settle(self, seconds: float) -> None:
        """On a GPU, compile a long training where the recipe leaves that open; record the steps of others."""
        if self.device.type != "cuda":
            return
        if seconds > WORTH_COMPILING and self._gpu_is_behind():
            torch.backends.cudnn.benchmark = True  # tries every algorithm, which a short training has no time for
            if self.recipe.compile is None:
                self.compile()
        memory = torch.cuda.get_device_properties(self.device).total_memory
        small = torch.cuda.max_memory_allocated(self.device) < SMALL * memory
        whole = self.micro_batch == self.recipe.batch_size and self.team.count == 1
        steady = all(type(module).__module__.partition(".")[0] in STEADY for module in self.model.modules())
        self._worth_recording = small and whole and steady and not self.compiled

    def _gpu_is_behind(self) -> bool:
        """Whether the GPU has still to do what Python has asked for, rather than waiting for Python."""
        began = time.perf_counter()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - began > BEHIND

    @property
    def recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._recorded is not None

    def gradient(self, batch: Batch) -> Tensor:
        """See `Learner.gradient`; a step that is worth it is recorded, once, and replayed from then on."""
        if self._worth_recording:
            self._worth_recording = False
            with suppress(RuntimeError):  # a network of others may wait for the GPU; then it goes on as it did
                self._recorded = RecordedStep(self._whole, self._direct, batch, self.optimizer.parameters)
        return super().gradient(batch) if self._recorded is None else self._recorded(batch)

    def update(self, progress: float) -> None:
        """See `Learner.update`."""
        if self._recorded is None:
            super().update(progress)
        else:
            self.optimizer.move(self.recipe.rate(progress))
            self.average.update()

    def _direct(self) -> None:
        self.optimizer.direct(self.recipe.clip)

    def _whole(self, batch: Batch) -> Tensor:
        loss = self.loss_within(batch, len(batch.times))
        loss.backward()
        return loss.detach()


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
    training = Training(model, pixels, labels, recipe, seed)
    return TrainingResult(**vars(learn(training, report)), compiled=training.compiled, recorded=training.recorded)
