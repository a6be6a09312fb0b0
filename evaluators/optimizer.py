"""AdamW and the learning rate's course, without `torch.optim.Optimizer`.

Constructing that class imports ``torch._dynamo`` (over a second, and a trial is paid once an architecture), since its
methods are wrapped by ``torch._disable_dynamo``. The functional form below is the same arithmetic and needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

__all__ = ["AdamW", "learning_rate"]


class AdamW:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; theta -= lr (m_hat / (sqrt(v_hat) + eps) + decay theta).

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.

    Args:
        parameters: leaf tensors of one device.
        decay: weight decay, as a multiple of the learning rate.
    """

    def __init__(
        self, parameters: Sequence[Tensor], betas: tuple[float, float] = (0.9, 0.99), decay: float = 0.0
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.betas = betas
        self.decay = decay
        self._first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, rate: float, clip: float | None = None) -> None:
        """Change the parameters by their gradients, which are then dropped.

        Args:
            rate: learning rate.
            clip: longest allowed gradient (Euclidean norm over all parameters); ``None``: any.
        """
        used = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        parameters = [self.parameters[index] for index in used]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if clip is not None:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0))
        adamw(
            parameters,
            gradients,
            [self._first[index] for index in used],
            [self._second[index] for index in used],
            [],
            [self._steps[index] for index in used],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=rate,
            weight_decay=self.decay,
            eps=1e-8,
            maximize=False,
        )
        for parameter in parameters:
            parameter.grad = None


def learning_rate(peak: float, progress: float, warmup: float, final: float = 0.0) -> float:
    """Rate at a point of training: linear warm-up to ``peak``, then half a cosine down to ``final * peak``.

    Loshchilov and Hutter, "SGDR" (2017), equation 5, with one period.

    Args:
        peak: highest learning rate.
        progress: part of the budget that is spent, 0 to 1.
        warmup: part of the budget that the warm-up takes, 0 to 1.
        final: rate at the end, relative to the peak.
    """
    if progress < warmup:
        return peak * progress / warmup
    done = (progress - warmup) / max(1.0 - warmup, 1e-12)
    return peak * (final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))))
