"""Noise schedules: how much signal and noise an image holds at each timestep, and which timesteps are trained on.

| symbol | shape | meaning |
|---|---|---|
| T | | number of timesteps; t = 0 is nearly clean, t = T - 1 nearly pure noise |
| alpha_bar | ``[T]`` | signal power; noised image x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps |
| SNR_t | ``[T]`` | alpha_bar_t / (1 - alpha_bar_t) |
| sigma_t | ``[T]`` | noise relative to the signal, SNR_t^(-1/2): what Karras et al. (2022) call the noise level |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

__all__ = [
    "SCHEDULES",
    "CosineSchedule",
    "LinearSchedule",
    "LogNormalTimesteps",
    "Schedule",
    "Timesteps",
    "UniformTimesteps",
]


class Schedule(ABC):
    """A discrete variance-preserving schedule.

    Args:
        timesteps: T, at least 2.
    """

    diffusers_name: ClassVar[str]

    def __init__(self, timesteps: int = 1000) -> None:
        self.timesteps = timesteps

    @abstractmethod
    def betas(self) -> Tensor:
        """Noise variance added by each step, float64 ``[T]``."""

    def alpha_bar(self) -> Tensor:
        """Signal power after each step, the running product of 1 - beta: float64 ``[T]``, falling from 1 towards 0."""
        return torch.cumprod(1.0 - self.betas(), dim=0)


class CosineSchedule(Schedule):
    """alpha_bar(t) = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) * pi/2), s = 0.008, beta at most 0.999.

    Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021), equation 17.
    """

    diffusers_name = "squaredcos_cap_v2"

    def betas(self) -> Tensor:
        """Noise variance added by each step, float64 ``[T]``."""
        times = torch.arange(self.timesteps + 1, dtype=torch.float64) / self.timesteps
        signal = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1.0 - signal[1:] / signal[:-1]).clamp(max=0.999)


class LinearSchedule(Schedule):
    """beta_t from 1e-4 to 0.02 in equal steps.

    Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models" (2020), section 4.
    """

    diffusers_name = "linear"

    def betas(self) -> Tensor:
        """Noise variance added by each step, float64 ``[T]``."""
        return torch.linspace(1e-4, 0.02, self.timesteps, dtype=torch.float64)


class Timesteps(ABC):
    """Which timesteps the images of a training batch are noised to."""

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Timesteps, int64 ``[count]`` in [0, T)."""

    @abstractmethod
    def quantiles(self, parts: Tensor) -> Tensor:
        """Timesteps, int64 in [0, T), below which these parts of the draws lie: ``[n]``, each 0 to 1."""


def _slices(count: int, width: float, generator: torch.Generator) -> Tensor:
    """One random number in each of ``count`` equal slices of [0, width).

    Kingma et al., "Variational Diffusion Models" (2021), appendix I.1: it lowers the variance of the loss.
    """
    return (torch.arange(count) + torch.rand(count, generator=generator)) * (width / count)


class UniformTimesteps(Timesteps):
    """Every timestep is as likely; either independent, or one in each of the batch's equal slices of [0, T).

    Args:
        timesteps: T.
        stratified: one a slice.
    """

    def __init__(self, timesteps: int, *, stratified: bool = True) -> None:
        self.timesteps = timesteps
        self.stratified = stratified

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Timesteps, int64 ``[count]`` in [0, T)."""
        if not self.stratified:
            return torch.randint(self.timesteps, (count,), generator=generator)
        return _slices(count, self.timesteps, generator).long().clamp_(max=self.timesteps - 1)

    def quantiles(self, parts: Tensor) -> Tensor:
        """Timesteps, int64 in [0, T), below which these parts of the draws lie: ``[n]``, each 0 to 1."""
        return (parts * self.timesteps).long().clamp_(max=self.timesteps - 1)


class LogNormalTimesteps(Timesteps):
    """ln(sigma) ~ N(mean, deviation^2), at the timestep whose ln(sigma_t) is nearest; stratified.

    Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), table 1 and section 5:
    mean -1.2, deviation 1.2. Noise levels beyond the schedule's go to its first and last timestep.

    Args:
        schedule: gives sigma_t.
        mean: of ln(sigma).
        deviation: of ln(sigma), above 0.
    """

    def __init__(self, schedule: Schedule, mean: float = -1.2, deviation: float = 1.2) -> None:
        alpha_bar = schedule.alpha_bar()
        levels = 0.5 * ((1.0 - alpha_bar) / alpha_bar).log()
        borders = (levels[1:] + levels[:-1]) / 2
        self.cumulative = torch.special.ndtr((borders - mean) / deviation)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Timesteps, int64 ``[count]`` in [0, T)."""
        return self.quantiles(_slices(count, 1.0, generator))

    def quantiles(self, parts: Tensor) -> Tensor:
        """Timesteps, int64 in [0, T), below which these parts of the draws lie: ``[n]``, each 0 to 1."""
        return torch.searchsorted(self.cumulative, parts.double())


SCHEDULES: dict[str, type[Schedule]] = {"cosine": CosineSchedule, "linear": LinearSchedule}
