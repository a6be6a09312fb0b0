"""What every layer of a plan has in common: a price, known without torch, and an example input.

`pricing`, `modules`, `residuals`, `attentions`, `layers`, `plan`, `network` and `exported` are shipped, one after the
other, as the single file of an exported network that stock diffusers cannot express: they import nothing of ours beyond
each other. Torch is imported when a layer is built, since pricing needs none.

Notation
    price   ``(macs, params)``: multiply-accumulates of one forward pass on one image, trainable parameters
    side    height and width of a square feature map, in pixels
    level   the layers that work at one side; level 0 has the side of the image, or half of it behind a patch stem

Convolutions, linear layers and products of attention are counted. Element-wise work is not: activations,
normalisations, response normalisation, the product with a gate, resampling without weights. The linear layers that
*make* gates, scales and shifts are counted, and all parameters are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

MacsAndParams = tuple[int, int]

NORM_EPS = 1e-5


class PlannedLayer(Protocol):
    """One layer of a plan: how it is built, what it costs and what goes into it."""

    @property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""

    def build(self) -> nn.Module:
        """The module, weights initialised."""

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes, to time the module with."""


def feature_map(batch: int, channels: int, side: int) -> torch.Tensor:
    """Noise of ``batch x channels x side x side``."""
    import torch

    return torch.randn(batch, channels, side, side)


def features_and_time(batch: int, channels: int, side: int, time: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of ``batch x channels x side x side`` and of ``batch x time``."""
    import torch

    return feature_map(batch, channels, side), torch.randn(batch, time)


def conv_price(inputs: int, outputs: int, kernel: int, side: int) -> MacsAndParams:
    """A convolution with bias whose result has ``side``."""
    weights = inputs * outputs * kernel * kernel
    return weights * side * side, weights + outputs


def linear_price(inputs: int, outputs: int, tokens: int = 1) -> MacsAndParams:
    """A linear layer with bias on so many vectors."""
    return inputs * outputs * tokens, inputs * outputs + outputs


def total_price(*prices: MacsAndParams) -> MacsAndParams:
    """Sum."""
    return sum(macs for macs, _ in prices), sum(params for _, params in prices)
