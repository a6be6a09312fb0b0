"""Learned variances: the part of IDDPM's loss that teaches them.

| symbol | shape | meaning |
|---|---|---|
| beta_t, alpha_bar_t | ``[T]`` | of the schedule; a = sqrt(alpha_bar_t) |
| beta~_t | ``[T]`` | (1 - alpha_bar_(t-1)) / (1 - alpha_bar_t) beta_t, the variance of q(x_(t-1) given x_t and x_0) |
| V | ``[batch, channels, height, width]`` | the second half of the network's output channels |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .noise_schedules import Schedule

__all__ = ["LearnedVariance"]


class LearnedVariance:
    """L_hybrid = L_simple + 0.001 L_vlb, where the variance is Sigma = exp(v ln beta_t + (1 - v) ln beta~_t).

    L_vlb = T E_t[L_t]; L_0 = -log p(x_0 given x_1) of pixels that are 1/127.5 wide, and for t > 0 the Kullback-Leibler
    divergence L_t = KL(q(x_(t-1) given x_t, x_0) || p(x_(t-1) given x_t)), both in bits a pixel value. No gradient
    flows through the predicted mean: L_simple alone teaches it. V in [-1, 1] stands for v in [0, 1].
    Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021), equations 15 and 16; the unit and
    the meaning of V are their code's, and V's is that of diffusers' ``learned_range``.

    Args:
        schedule: of the noise.
        device: of the images.
    """

    def __init__(self, schedule: Schedule, device: torch.device | str = "cpu") -> None:
        betas, alpha_bar = schedule.betas(), schedule.alpha_bar()
        before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        posterior = betas * (1.0 - before) / (1.0 - alpha_bar)
        posterior[0] = posterior[1]  # it is 0 at t = 0, where q is sure of x_0
        self.timesteps = schedule.timesteps
        tables = (betas.log(), posterior.log(), before.sqrt() * betas / (1.0 - alpha_bar))
        self.log_beta, self.log_posterior, self.mean_scale = (table.float().to(device) for table in tables)

    def loss(self, clean: Tensor, predicted: Tensor, values: Tensor, times: Tensor) -> Tensor:
        """0.001 T L_t for each image, ``[batch]``; its mean over timesteps is 0.001 L_vlb.

        Args:
            clean: x_0, ``[batch, channels, height, width]`` in [-1, 1].
            predicted: x_0 as the network predicts it, of the same shape.
            values: V, of the same shape.
            times: t, int64 ``[batch]``.
        """
        shape = (-1, 1, 1, 1)
        low, high = self.log_posterior[times].view(shape), self.log_beta[times].view(shape)
        variance = low + (values + 1.0) / 2.0 * (high - low)
        # Both means are a x_t + b x_0 with the same a and b: b is all that their difference needs.
        apart = self.mean_scale[times].view(shape) * (clean - predicted.detach())
        divergence = 0.5 * (variance - low - 1.0 + (low - variance).exp() + apart.square() * (-variance).exp())
        # At t = 0, b is 1 and a is 0.
        surprise = -_pixel_log_probability(clean, predicted.detach(), variance)
        bits = torch.where((times == 0).view(shape), surprise, divergence).mean(dim=(1, 2, 3)) / math.log(2.0)
        return bits * (self.timesteps / 1000.0)


def _pixel_log_probability(clean: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Logarithm of the probability of each pixel value under a normal distribution; the outermost values hold the rest.

    Ho, Jain and Abbeel (2020), equation 13.
    """
    scale = (-0.5 * log_variance).exp()
    above = torch.special.ndtr(scale * (clean - mean + 1.0 / 255.0))
    below = torch.special.ndtr(scale * (clean - mean - 1.0 / 255.0))
    above = torch.where(clean > 0.999, torch.ones_like(above), above)
    below = torch.where(clean < -0.999, torch.zeros_like(below), below)
    return (above - below).clamp(min=1e-12).log()
