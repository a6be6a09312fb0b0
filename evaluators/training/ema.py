"""Running averages of the weights that are right early: a short training must not remember its first steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Average", "ConstantAverage", "PowerAverage"]


class Average(ABC):
    """theta_hat_t = theta_hat_(t-1) + w_t (theta_t - theta_hat_(t-1)), from theta_hat_0 = theta_0.

    Args:
        parameters: what is averaged; only read.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0

    @abstractmethod
    def weight(self) -> float:
        """w_t of the step t = ``step``, counted from 1."""

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one more optimiser step."""
        self.step += 1
        torch._foreach_lerp_(self.average, self.parameters, self.weight())

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average with the weights: the network now computes with the average, until the next swap."""
        for average, parameter in zip(self.average, self.parameters, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)


class ConstantAverage(Average):
    """w_t = 1 - decay: the usual exponential average; it remembers its start for several 1 / (1 - decay) steps.

    Args:
        parameters: what is averaged; only read.
        decay: in [0, 1).
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float = 0.9999) -> None:
        super().__init__(parameters)
        self.decay = decay

    def weight(self) -> float:
        """1 - decay."""
        return 1.0 - self.decay


class PowerAverage(Average):
    """w_t = 1 - beta_t, beta_t = (1 - 1/t)^(gamma + 1).

    Its profile t^gamma scales with the length of training, so that the same setting fits all budgets; beta_1 = 0
    forgets the initial weights. gamma follows from the profile's relative width:
    sigma = (gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2).
    Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (2024), equations 121 and 123.

    Args:
        parameters: what is averaged; only read.
        width: sigma, relative to the length of training; above 0, at most 0.28.
    """

    def __init__(self, parameters: Sequence[Tensor], width: float = 0.1) -> None:
        super().__init__(parameters)
        self.gamma = power_for_width(width)

    def weight(self) -> float:
        """1 - beta_t."""
        return float(1.0 - (1.0 - 1.0 / self.step) ** (self.gamma + 1.0))


def power_for_width(width: float) -> float:
    """Return the gamma >= 0 whose profile t^gamma has the relative standard deviation ``width`` (falling in gamma)."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        if (middle + 1) ** 0.5 / (middle + 2) / (middle + 3) ** 0.5 > width:
            low = middle
        else:
            high = middle
    return (low + high) / 2
