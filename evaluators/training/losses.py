"""What the network predicts (parameterisation), and how much each timestep counts (weighting).

Notation of `noise_schedules`; a = sqrt(alpha_bar_t), s = sqrt(1 - alpha_bar_t), so that x_t = a x_0 + s eps;
sigma = s / a.
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
    "EDMPreconditioning",
    "EDMWeighting",
    "EpsilonPrediction",
    "MinSNRWeighting",
    "Parameterisation",
    "UniformWeighting",
    "VPrediction",
    "Weighting",
]


class Parameterisation(ABC):
    """What the network predicts of a noised image."""

    diffusers_name: ClassVar[str | None]
    """What diffusers' schedulers call it; ``None``: they do not know it."""

    def network_input(self, noised: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """What the network reads of x_t; the shape of ``noised``."""
        return noised

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


class EDMPreconditioning(Parameterisation):
    """The network F reads c_in (x_0 + sigma eps) and x_0 = c_skip (x_0 + sigma eps) + c_out F.

    c_skip = d^2 / (sigma^2 + d^2), c_out = sigma d / sqrt(sigma^2 + d^2), c_in = 1 / sqrt(sigma^2 + d^2), where d is
    the images' standard deviation; x_0 + sigma eps = x_t / a. Input and target of F have unit variance.
    With d = 1, the network reads x_t, and F = -v. Time reaches the network as the timestep, not as ln(sigma) / 4.
    Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), equation 7 and table 1.

    Args:
        sigma_data: d, above 0; of images in [-1, 1].
    """

    diffusers_name = None

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = sigma_data

    def _length(self, a: Tensor, s: Tensor) -> Tensor:
        """Standard deviation of x_t: a sqrt(sigma^2 + d^2)."""
        return (s.square() + (a * self.sigma_data).square()).sqrt()

    def network_input(self, noised: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """c_in x_t / a."""
        return noised / self._length(a, s)

    def target(self, clean: Tensor, noise: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """F = (x_0 - c_skip x_t / a) / c_out, simplified so that nothing is divided by sigma."""
        return (s * clean - a * self.sigma_data**2 * noise) / (self.sigma_data * self._length(a, s))

    def clean(self, noised: Tensor, prediction: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """x_0 = c_skip x_t / a + c_out F."""
        length = self._length(a, s)
        skip = a * self.sigma_data**2 / length.square()
        return skip * noised + s * self.sigma_data / length * prediction

    def error_scale(self, snr: Tensor) -> Tensor:
        """||F error||^2 = ||x_0 error||^2 / c_out^2 = (SNR + 1 / d^2) ||x_0 error||^2."""
        return snr + self.sigma_data**-2


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


class EDMWeighting(Weighting):
    """w = (sigma^2 + d^2) / (sigma d)^2 on the error of x_0: one on that of EDM's network, whatever the noise level.

    Meant for log-normal noise levels, which say how often each counts. Karras et al. (2022), table 1 and section 5.

    Args:
        sigma_data: d, above 0.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = sigma_data

    def weights(self, snr: Tensor, parameterisation: Parameterisation) -> Tensor:
        """SNR + 1 / d^2, expressed for the error of the prediction."""
        return (snr + self.sigma_data**-2) / parameterisation.error_scale(snr)


PARAMETERISATIONS: dict[str, type[Parameterisation]] = {
    "epsilon": EpsilonPrediction,
    "v": VPrediction,
    "edm": EDMPreconditioning,
}
WEIGHTINGS: dict[str, type[Weighting]] = {
    "min-snr": MinSNRWeighting,
    "uniform": UniformWeighting,
    "edm": EDMWeighting,
}
