"""`Batches`: what a training step learns from, on the same random numbers for every architecture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .noise_schedules import Timesteps

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """Images, their noise, timesteps and labels.

    Args:
        clean: ``[batch, channels, height, width]`` in [-1, 1].
        noise: standard normal, the same shape.
        times: int64 ``[batch]``.
        labels: int64 ``[batch]``, where there are any.
    """

    clean: Tensor
    noise: Tensor
    times: Tensor
    labels: Tensor | None

    def part(self, start: int, stop: int) -> Batch:
        """The images from ``start`` to before ``stop``."""
        labels = None if self.labels is None else self.labels[start:stop]
        return Batch(self.clean[start:stop], self.noise[start:stop], self.times[start:stop], labels)


class Batches:
    """Batches without end, drawn by one seed on the CPU's generator: alike for every architecture and device.

    Every image comes once before any comes again.

    Args:
        pixels: uint8 ``[images, channels, height, width]``, on the device where batches are wanted.
        labels: int64 ``[images]`` there, or ``None``.
        size: images a batch.
        timesteps: how they are drawn.
        flip: whether to mirror each image by chance.
        seed: of everything drawn here.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None,
        size: int,
        timesteps: Timesteps,
        flip: bool,
        seed: int,
    ) -> None:
        self.pixels, self.labels, self.size, self.timesteps, self.flip = pixels, labels, size, timesteps, flip
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)

    def draw(self) -> Batch:
        """The next batch."""
        while len(self.order) < self.size:
            self.order = torch.cat([self.order, torch.randperm(len(self.pixels), generator=self.generator)])
        chosen, self.order = self.order[: self.size], self.order[self.size :]
        times = self.timesteps.draw(self.size, self.generator)
        noise = torch.randn(self.size, *self.pixels.shape[1:], generator=self.generator)
        mirrored = torch.rand(self.size, generator=self.generator) < 0.5 if self.flip else None
        there = self._moved(chosen)
        clean = self.pixels[there].float().div_(127.5).sub_(1.0)
        if mirrored is not None:
            clean = torch.where(self._moved(mirrored).view(-1, 1, 1, 1), clean.flip(-1), clean)
        labels = None if self.labels is None else self.labels[there]
        return Batch(clean, self._moved(noise), self._moved(times), labels)

    def _moved(self, drawn: Tensor) -> Tensor:
        """On the device of the pixels; a GPU is not waited for."""
        if self.pixels.is_cuda:
            return drawn.pin_memory().to(self.pixels.device, non_blocking=True)
        return drawn
