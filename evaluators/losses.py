"""What the network predicts (parameterisation), and how much each timestep counts (weighting).

Notation of `schedules`; a = sqrt(alpha_bar_t), s = sqrt(1 - alpha_bar_t), so that x_t = a x_0 + s eps.
All tensors that multiply images have the shape ``[batch, 1, 1, 1]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

__all__ = [
    "PARAMETERISATIONS",
    "WEIGHTINGS",
    "EpsilonPrediction",
    "MinSNRWeighting",
    "Parameterisation",
    "UniformWeighting",
    "VPrediction",
    "Weighting",
]


class Parameterisation(ABC):
    """What the network predicts of a noised image."""

    diffusers_name: ClassVar[str]

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """What the network should say; the shape of ``clean``."""

    @abstractmethod
    def clean(self, noised: Tensor, prediction: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """The image x_0 that a prediction stands for."""

    @abstractmethod
    def error_scale(self, snr: Tensor) -> Tensor:
        """Squared error of the prediction for a unit of squared error of x_0; any shape."""


class EpsilonPrediction(Parameterisation):
    """target = eps; x_0 = (x_t - s eps) / a.

    Ho, Jain and Abbeel (2020), equation 14.
    """

    diffusers_name = "epsilon"

    def target(self, clean: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """The noise."""
        return noise

    def clean(self, noised: Tensor, prediction: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """x_0 = (x_t - s eps) / a."""
        return (noised - s * prediction) / a

    def error_scale(self, snr: Tensor) -> Tensor:
        """||eps error||^2 = SNR ||x_0 error||^2."""
        return snr


class VPrediction(Parameterisation):
    """target v = a eps - s x_0; x_0 = a x_t - s v.

    Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022), appendix D.
    """

    diffusers_name = "v_prediction"

    def target(self, clean: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """V = a eps - s x_0."""
        return a * noise - s * clean

    def clean(self, noised: Tensor, prediction: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """x_0 = a x_t - s v."""
        return a * noised - s * prediction

    def error_scale(self, snr: Tensor) -> Tensor:
        """||v error||^2 = (SNR + 1) ||x_0 error||^2."""
        return snr + 1.0


class Weighting(ABC):
    """Weight of the squared error of the prediction."""

    @abstractmethod
    def weights(self, snr: Tensor, parameterisation: Parameterisation) -> Tensor:
        """Weight for each signal-to-noise ratio; the shape of ``snr``."""


class UniformWeighting(Weighting):
    """w = 1: the "simple" loss of Ho, Jain and Abbeel (2020), equation 14."""

    def weights(self, snr: Tensor, parameterisation: Parameterisation) -> Tensor:
        """One everywhere."""
        return torch.ones_like(snr)


class MinSNRWeighting(Weighting):
    """w = min(SNR, gamma) on the error of x_0, so min(SNR, gamma) / (SNR + 1) on v and / SNR on epsilon.

    Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy" (2023), section 3.4; gamma = 5 there.

    Args:
        gamma: above 0.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        self.gamma = gamma

    def weights(self, snr: Tensor, parameterisation: Parameterisation) -> Tensor:
        """min(SNR, gamma), expressed for the error of the prediction."""
        return snr.clamp(max=self.gamma) / parameterisation.error_scale(snr)


PARAMETERISATIONS: dict[str, type[Parameterisation]] = {"epsilon": EpsilonPrediction, "v": VPrediction}
WEIGHTINGS: dict[str, type[Weighting]] = {"min-snr": MinSNRWeighting, "uniform": UniformWeighting}
