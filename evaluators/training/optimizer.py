"""Muon, AdamW and the learning rate: its course, and its share for each width; without `torch.optim.Optimizer`.

Constructing that class imports ``torch._dynamo`` (over a second, and a trial is paid once an architecture), since its
methods are wrapped by ``torch._disable_dynamo``. The functional form below is the same arithmetic and needs none of it.
`torch.optim.Muon` is such a class, too, and takes no kernels of convolutions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

__all__ = ["AdamW", "Muon", "Optimizer", "learning_rate", "width_scales"]


class Optimizer(ABC):
    """Changes parameters by their gradients, in two halves: only the second, which is short, depends on the rate."""

    parameters: list[Tensor]

    @abstractmethod
    def direct(self, clip: float | None = None) -> None:
        """Replace the gradients by what the weights move along.

        Args:
            clip: longest allowed gradient (Euclidean norm over all parameters); ``None``: any.
        """

    @abstractmethod
    def move(self, rate: float) -> None:
        """Change the parameters along their gradients, which are then dropped.

        Args:
            rate: learning rate.
        """

    @torch.no_grad()
    def step(self, rate: float, clip: float | None = None) -> None:
        """Both."""
        self.direct(clip)
        self.move(rate)


class AdamW(Optimizer):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; theta -= lr (m_hat / (sqrt(v_hat) + eps) + decay theta).

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2.

    Args:
        parameters: leaf tensors of one device.
        betas: decays of the first and second moment.
        decay: weight decay, as a multiple of the learning rate.
        scales: of the learning rate, by parameter; one where a parameter is not named.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        betas: tuple[float, float] = (0.9, 0.99),
        decay: float = 0.0,
        scales: Mapping[Tensor, float] | None = None,
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        scaled = [(scales or {}).get(parameter, 1.0) for parameter in self.parameters]
        self._groups = [(scale, [i for i, s in enumerate(scaled) if s == scale]) for scale in dict.fromkeys(scaled)]
        self.betas = betas
        self.decay = decay
        self._first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    @torch.no_grad()
    def direct(self, clip: float | None = None) -> None:
        """See `Optimizer.direct`: only clips."""
        _clip(self.parameters, clip)

    @torch.no_grad()
    def move(self, rate: float) -> None:
        """See `Optimizer.move`."""
        for scale, group in self._groups:
            self._step(scale * rate, [index for index in group if self.parameters[index].grad is not None])
        for parameter in self.parameters:
            parameter.grad = None

    def _step(self, rate: float, used: Sequence[int]) -> None:
        adamw(
            [self.parameters[index] for index in used],
            [grad for index in used if (grad := self.parameters[index].grad) is not None],
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


class Muon(Optimizer):
    """m = mu m + (1 - mu) g; W -= 10 lr sqrt(max(1, rows / columns)) O((1 - mu) g + mu m), for hidden layers.

    Their weights and kernels are read as matrices W of (outputs) x (inputs x height x width); O sets all singular
    values to about 1. Everything else goes by `AdamW`, and so do the first and the last convolution and grouped ones: a
    depthwise kernel maps each channel to itself, so that its rows are no matrix between features. Jordan et al., "Muon:
    An optimizer for hidden layers in neural networks" (2024), with Nesterov's momentum; its rate of 0.02 for matrices
    goes with 2e-3 for the rest. A matrix without a gradient, of a path that was not taken, stays as it is.

    Args:
        model: of convolutions and linear layers, registered in their order.
        betas: decays of AdamW's moments.
        decay: weight decay, as a multiple of the learning rate.
        momentum: mu.
        hidden: the model lies within a network, so that its first and last convolutions are hidden layers, too.
    """

    def __init__(
        self,
        model: nn.Module,
        betas: tuple[float, float] = (0.9, 0.99),
        decay: float = 0.0,
        momentum: float = 0.9,
        *,
        hidden: bool = False,
    ) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.decay, self.momentum = decay, momentum
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        matrices = {module.weight for module in model.modules() if isinstance(module, nn.Linear)}
        inner = convolutions if hidden else convolutions[1:-1]
        matrices.update(module.weight for module in inner if module.groups == 1)
        self._others = AdamW([parameter for parameter in self.parameters if parameter not in matrices], betas, decay)
        shapes: dict[torch.Size, list[Tensor]] = {}
        for parameter in self.parameters:
            if parameter in matrices:
                shapes.setdefault(parameter.flatten(1).shape, []).append(parameter)
        self._groups = [
            (weights, torch.zeros(len(weights), *shape, device=weights[0].device)) for shape, weights in shapes.items()
        ]

    @torch.no_grad()
    def direct(self, clip: float | None = None) -> None:
        """See `Optimizer.direct`: those of matrices become orthogonal."""
        _clip(self.parameters, clip)
        for weights, averages in self._groups:
            used = [index for index, weight in enumerate(weights) if weight.grad is not None]
            if not used:
                continue
            gradients = torch.stack([grad.flatten(1) for index in used if (grad := weights[index].grad) is not None])
            all_used = len(used) == len(weights)  # then nothing is picked, for which a GPU would be waited for
            average = (averages if all_used else averages[used]).lerp_(gradients, 1.0 - self.momentum)
            if not all_used:
                averages[used] = average
            change = _orthogonal(gradients.lerp(average, self.momentum))
            for index, matrix in zip(used, change, strict=True):
                weights[index].grad = matrix.view_as(weights[index])

    @torch.no_grad()
    def move(self, rate: float) -> None:
        """See `Optimizer.move`."""
        for weights, averages in self._groups:
            used = [weight for weight in weights if weight.grad is not None]
            if not used:
                continue
            own = 10.0 * rate * math.sqrt(max(1.0, averages.shape[1] / averages.shape[2]))
            if self.decay:
                torch._foreach_mul_(used, 1.0 - rate * self.decay)
            torch._foreach_add_(used, [grad for weight in used if (grad := weight.grad) is not None], alpha=-own)
            for weight in used:
                weight.grad = None
        self._others.move(rate)


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices ``[n, rows, columns]`` with orthonormal rows or columns, roughly.

    Singular values end between 0.7 and 1.2: five Newton-Schulz iterations with Jordan's coefficients.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    found = matrices if wide else matrices.mT
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if found.is_cuda:
        found = found.bfloat16()
    for _ in range(5):
        product = found @ found.mT
        found = 3.4445 * found + (2.0315 * product @ product - 4.7750 * product) @ found
    result: Tensor = found if wide else found.mT
    return result.to(matrices.dtype)


def _clip(parameters: Sequence[Tensor], longest: float | None) -> None:
    """Shorten the gradient to a Euclidean norm of ``longest`` over all parameters."""
    if longest is not None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, (longest / (norm + 1e-6)).clamp(max=1.0))


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


def width_scales(model: nn.Module, base: int, channels: int) -> dict[Tensor, float]:
    """Scale of the learning rate of each weight matrix or kernel: base / (channels that it reads).

    So that one learning rate suits wide and narrow networks. Biases, normalisations, embeddings, depthwise kernels and
    the layers that read the image keep the rate as it is.
    Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer" (2022),
    table 3, column Adam. Its scaling of initial weights is left out: residual branches start at zero here.

    Args:
        model: of convolutions and linear layers.
        base: width at which the rate is as given.
        channels: of the images.
    """
    scales: dict[Tensor, float] = {}
    first = True  # it reads the image also where that comes as patches, with more channels
    for module in model.modules():
        if isinstance(module, nn.Linear):
            scales[module.weight] = base / module.in_features
        elif isinstance(module, nn.Conv2d):
            if module.in_channels != channels and module.groups == 1 and not first:
                scales[module.weight] = base / module.in_channels
            first = False
    return scales
