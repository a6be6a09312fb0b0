"""Rapid training: a network learns to denoise, quickly, and on the same random numbers as every other architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .batches import Batch, Batches
from .compute import autocast
from .loop import Learner, Learning, Progress, learn
from .recipe import Recipe
from .variational import LearnedVariance

__all__ = ["DenoisingLoss", "Training", "TrainingResult", "call_network", "train"]

# Seconds that have to be left for compiling to pay.
WORTH_COMPILING = 600.0


@dataclass(frozen=True)
class TrainingResult(Learning):
    """What a training took, and its last mean weighted loss. The network holds the averaged weights.

    Args:
        compiled: whether ``torch.compile`` came to be used.
    """

    compiled: bool


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
        """Compile where the recipe leaves it open and so much is left that it pays."""
        if self.recipe.compile is None and self.device.type == "cuda" and seconds > WORTH_COMPILING:
            self.compile()


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
    return TrainingResult(**vars(learn(training, report)), compiled=training.compiled)
