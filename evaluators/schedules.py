"""Noise schedules: how much signal and noise an image holds at each timestep.

| symbol | shape | meaning |
|---|---|---|
| T | | number of timesteps; t = 0 is nearly clean, t = T - 1 nearly pure noise |
| alpha_bar | ``[T]`` | signal power; noised image x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps |
| SNR_t | ``[T]`` | alpha_bar_t / (1 - alpha_bar_t) |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

__all__ = ["SCHEDULES", "CosineSchedule", "LinearSchedule", "Schedule"]


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


SCHEDULES: dict[str, type[Schedule]] = {"cosine": CosineSchedule, "linear": LinearSchedule}
