"""Scores of a network before any training: cheap, and what a rapid FID has to beat.

Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS" (2021), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..training.denoising import call_network

__all__ = ["gradient_norm", "naswot"]

ACTIVATIONS = (nn.SiLU, nn.ReLU, nn.GELU)


def gradient_norm(model: nn.Module, images: Tensor, times: Tensor, target: Tensor) -> float:
    """Length of the gradient of the mean squared error on one batch, at the initial weights.

    Args:
        model: as it was built; its gradients are dropped again.
        images: noised, ``[batch, channels, height, width]``.
        times: int64 ``[batch]``.
        target: of the prediction, the shape of ``images``.
    """
    prediction = call_network(model, images, times, None)[:, : target.shape[1]]  # without learned variances
    error = (prediction - target).square().mean()
    gradients = torch.autograd.grad(error, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    return float(torch.stack([g.norm() for g in gradients if g is not None]).norm())


@torch.no_grad()
def naswot(model: nn.Module, images: Tensor, times: Tensor) -> float:
    """The score log |K|, K_ij the number of activation units on the same side of zero for images i and j.

    Mellor et al., "Neural Architecture Search without Training" (2021), equation 2. There the units are ReLU's; here
    the sign of what enters SiLU, ReLU and GELU modules stands for it.

    Args:
        model: as it was built.
        images: noised, ``[batch, channels, height, width]``.
        times: int64 ``[batch]``.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if len(inputs[0]) == len(images):
            sign = (inputs[0].flatten(1) > 0).double()
            kernel.add_((sign @ sign.T + (1 - sign) @ (1 - sign).T).cpu())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, ACTIVATIONS)]
    try:
        call_network(model, images, times, None)
    finally:
        for hook in hooks:
            hook.remove()
    return float(torch.linalg.slogdet(kernel).logabsdet)
