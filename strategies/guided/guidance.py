"""Guidance: what pulls the denoised estimate towards what is wanted, as logits that the sampler adds.

With ``p`` the denoised probabilities and ``a`` what is wanted, samples are to follow ``p(x0) exp(s a(x0))``. To first
order in ``x0`` around its posterior mean, that adds ``s da/dp`` to the logits of each row: the gradient of ``s a``
through the denoised estimate, ``sigma^2 d(a(D(x)))/dx = Cov(x0 | x) da/dD``, with the row's covariance exact and the
estimate kept among the probabilities at any strength. The surrogates are fitted to clean architectures, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from .network import Tilt

__all__ = ["Wish", "along_gradient", "together", "towards_window"]

Wish = Callable[[torch.Tensor], torch.Tensor]
"""``n x L x V`` probabilities to ``n`` values, differentiable; more is better."""

_BOUND = 20.0
"""Bound of a tilt, in nats: what pulls harder would only freeze rows that other wishes still have to move."""


def _gradient(wish: Wish, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        leaf = p.detach().requires_grad_(True)
        values = wish(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient.nan_to_num(0.0)


def _logits(gradient: torch.Tensor) -> torch.Tensor:
    """Absence, the last column, has no gradient of its own: it is what the row's values lack to one."""
    return torch.nn.functional.pad(gradient, (0, 1)).clamp(-_BOUND, _BOUND)


def along_gradient(wish: Wish, strength: float, reference: torch.Tensor) -> Tilt:
    """Pull towards large values of ``wish``.

    Args:
        wish: for instance an acquisition function.
        strength: nats for each standard deviation of ``wish`` among random architectures of the space, so that equal
            strengths mean the same in every space; 1 is gentle.
        reference: ``n x L x V`` one-hot matrices of random architectures.
    """
    with torch.no_grad():
        spread = float(wish(reference).float().nan_to_num(0.0).std()) or 1.0

    def tilt(x: torch.Tensor, sigma: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return _logits(strength / spread * _gradient(wish, p)[1].to(p.dtype))

    return tilt


def towards_window(quantity: Wish, low: float, high: float) -> Tilt:
    """Pull a quantity into a window: the gradient of the log probability that it lies there.

    Given ``x``, the quantity is taken as normal around its value at ``p``, with the variance of independent rows; so
    the pull is soft while much is open, and firm at the end. It needs no strength.

    Args:
        quantity: differentiable, for instance the logarithm of the MACs.
        low: bound of the window; minus infinity for an open side.
        high: bound of the window; infinity for an open side.
    """

    def tilt(x: torch.Tensor, sigma: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        mean, slope = _gradient(quantity, p)
        variance = ((p * slope**2).sum(2) - (p * slope).sum(2) ** 2).sum(1)
        deviation = (variance + (1e-3 + 0.25 * min(high - low, 1.0)) ** 2).sqrt()
        a, b = (low - mean) / deviation, (high - mean) / deviation
        # d log(Phi(b) - Phi(a)) / d mean, by the tails' asymptote where the window is out of sight.
        mass = torch.special.ndtr(b) - torch.special.ndtr(a)
        density = (torch.exp(-a * a / 2) - torch.exp(-b * b / 2)) / math.sqrt(2 * math.pi)
        far = torch.where(a > 0, a, torch.where(b < 0, b, torch.zeros_like(a)))
        pull = torch.where(mass > 1e-6, density / mass.clamp_min(1e-6), far) / deviation
        return _logits(pull[:, None, None] * slope)

    return tilt


def together(tilts: Sequence[Tilt]) -> Tilt | None:
    """Add several tilts; ``None`` where there is none."""
    if not tilts:
        return None

    def tilt(x: torch.Tensor, sigma: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return torch.stack([each(x, sigma, p) for each in tilts]).sum(0)

    return tilt
