"""The loss on held-out images, by noise level: a score that two trainings of one network agree on.

| symbol | meaning |
|---|---|
| t_k | timestep of level k of K: the recipe's draws of timesteps cut into K equal parts, the middle of each |
| w_k | weight of that timestep in the recipe |
| e_k | mean squared error of the prediction at t_k, over images, channels and pixels in [-1, 1] |
| L | ``held_out_loss`` = (1 / K) sum_k w_k e_k, an estimate of the loss that the training minimises |

Images and noise are the same for all networks, so that a difference between two is far more certain than either value.
Learned variances have no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..images.image_set import ImageSet
from ..training.batches import Batch
from ..training.compute import in_batches
from ..training.denoising import DenoisingLoss
from ..training.recipe import Recipe

__all__ = ["LEVELS", "HeldOutLevels", "HeldOutLoss", "Level", "mean_loss"]

LEVELS = 8
# Keeps this noise apart from that of trainings and samplers.
NOISE_SEED = 0x105500


@dataclass(frozen=True)
class Level:
    """Error of a network at one noise level.

    Args:
        timestep: t_k.
        sigma: its noise relative to the signal.
        weight: w_k.
        squared_error: e_k.
    """

    timestep: int
    sigma: float
    weight: float
    squared_error: float

    def as_dict(self) -> dict[str, float]:
        """Numbers by name."""
        return asdict(self)


def mean_loss(levels: Sequence[Level]) -> float:
    """L of the levels of one network."""
    return sum(level.weight * level.squared_error for level in levels) / len(levels)


class HeldOutLevels:
    """Held-out images at the noise levels of a recipe, alike for all networks and machines.

    Args:
        images: the data.
        part: indices of those that are taken, one at least; repeatedly, with new noise, where they are fewer than
            ``count``.
        recipe: its timesteps.
        count: of the noised images of each level.
    """

    def __init__(self, images: ImageSet, part: NDArray[np.int64], recipe: Recipe, count: int) -> None:
        self.images, self.recipe, self.count = images, recipe, count
        self.chosen = np.resize(np.random.default_rng(0).permutation(part), count)
        middles = (torch.arange(LEVELS) + 0.5) / LEVELS
        self.timesteps: list[int] = recipe.timestep_draw().quantiles(middles).tolist()

    def levels(self, device: torch.device) -> Iterator[Batch]:
        """One batch of ``count`` images for each noise level, the least noise first."""
        chosen = self.chosen
        clean = torch.from_numpy(self.images.pixels[chosen]).to(device).float().div_(127.5).sub_(1.0)
        labels = None
        if self.recipe.class_conditional and self.images.labels is not None:
            labels = torch.from_numpy(self.images.labels[chosen]).to(device)
        for level, timestep in enumerate(self.timesteps):
            generator = torch.Generator().manual_seed(NOISE_SEED + level)
            noise = torch.randn(clean.shape, generator=generator).to(device)
            times = torch.full((self.count,), timestep, dtype=torch.int64, device=device)
            yield Batch(clean, noise, times, labels)


class HeldOutLoss:
    """Measures a network's loss on held-out images; it costs `LEVELS` forward passes of ``count`` images.

    With a reference network it measures ``prediction_gap`` instead: e_k is then the mean squared difference of the two
    networks' predictions. For a network that predicts v it is (SNR + 1) |D - D_reference|^2, D the image x_0 that a
    prediction stands for.

    Args:
        images: the data.
        part: indices of the images to take: `ImageSet.validation` where networks are ranked, `ImageSet.unseen` where
            one is judged; one at least.
        recipe: of the training.
        count: of the noised images of each level.
        batch: images that go through the network at once; halved while the memory does not suffice.
        reference: a trained network on the same device, of the same recipe, to be compared with.
    """

    def __init__(
        self,
        images: ImageSet,
        part: NDArray[np.int64],
        recipe: Recipe,
        count: int,
        batch: int,
        reference: nn.Module | None = None,
    ) -> None:
        self.noised, self.recipe, self.batch = HeldOutLevels(images, part, recipe, count), recipe, batch
        self.reference = reference

    @torch.inference_mode()
    def levels(self, model: nn.Module) -> list[Level]:
        """Errors of ``model`` with the weights it has, on its device, the least noise first."""
        device, was_training = next(model.parameters()).device, model.training
        denoising, found = DenoisingLoss(self.recipe, device), []
        model.eval()
        for level in self.noised.levels(device):

            def errors(start: int, stop: int, level: Batch = level) -> Tensor:
                part = level.part(start, stop)
                prediction = denoising.predict(model, part)[:, : part.clean.shape[1]]
                if self.reference is None:
                    return denoising.squared_error(part, prediction)
                known = denoising.predict(self.reference, part)[:, : part.clean.shape[1]]
                return (prediction - known).square().mean(dim=(1, 2, 3))

            error = float(torch.cat(list(in_batches(self.noised.count, self.batch, errors))).double().mean())
            timestep = int(level.times[0])
            sigma, weight = float(denoising.snr[timestep] ** -0.5), float(denoising.weight[timestep])
            found.append(Level(timestep, sigma, weight, error))
        model.train(was_training)
        return found
