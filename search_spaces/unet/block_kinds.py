"""The kinds of residual layers, each built and priced from the same few sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .pricing import NORM_EPS, MacsAndParams, conv_price, features_and_time, linear_price, total_price

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Residual:
    """A residual block: two 3x3 convolutions, ``inner`` channels between them, the time embedding added there."""

    inputs: int
    inner: int
    outputs: int
    time: int
    side: int
    norm_groups: int
    scale_shift: bool
    dropout: float

    @property
    def groups(self) -> tuple[int, int]:
        """Groups of the two normalisations: they divide the channels whatever these are."""
        return math.gcd(self.inputs, self.norm_groups), math.gcd(self.inner, self.norm_groups)

    @cached_property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        return total_price(
            (0, 2 * self.inputs + 2 * self.inner),
            conv_price(self.inputs, self.inner, 3, self.side),
            linear_price(self.time, self.inner * (2 if self.scale_shift else 1)),
            conv_price(self.inner, self.outputs, 3, self.side),
            _shortcut_price(self.inputs, self.outputs, self.side),
        )

    def build(self) -> nn.Module:
        """Diffusers' ``ResnetBlock2D``; its second convolution starts at zero, so that the block starts as a skip."""
        from diffusers.models.resnet import ResnetBlock2D
        from torch import nn

        block = ResnetBlock2D(
            in_channels=self.inputs,
            out_channels=self.inner,
            conv_2d_out_channels=self.outputs,
            temb_channels=self.time,
            groups=self.groups[0],
            groups_out=self.groups[1],
            eps=NORM_EPS,
            dropout=self.dropout,
            time_embedding_norm="scale_shift" if self.scale_shift else "default",
        )
        nn.init.zeros_(block.conv2.weight)
        return block

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x inputs x side x side`` and ``batch x time``."""
        return features_and_time(batch, self.inputs, self.side, self.time)


@dataclass(frozen=True)
class Gated:
    """The same two convolutions with response normalisation before the second, and a gate: see `GatedBlock`."""

    inputs: int
    inner: int
    outputs: int
    time: int
    side: int
    norm_groups: int
    dropout: float

    @property
    def groups(self) -> tuple[int, int]:
        """Groups of the two normalisations."""
        return math.gcd(self.inputs, self.norm_groups), math.gcd(self.inner, self.norm_groups)

    @cached_property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        return total_price(
            (0, 2 * self.inputs + 2 * self.inner + 2 * self.inner),
            conv_price(self.inputs, self.inner, 3, self.side),
            linear_price(self.time, 2 * self.inner),
            conv_price(self.inner, self.outputs, 3, self.side),
            linear_price(self.time, self.outputs),
            _shortcut_price(self.inputs, self.outputs, self.side),
        )

    def build(self) -> nn.Module:
        """A `GatedBlock`, which starts as a skip."""
        from .modules import GatedBlock

        return GatedBlock(self.inputs, self.inner, self.outputs, self.time, self.groups, NORM_EPS, self.dropout)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x inputs x side x side`` and ``batch x time``."""
        return features_and_time(batch, self.inputs, self.side, self.time)


@dataclass(frozen=True)
class ConvNeXt:
    """A depthwise ``kernel`` x ``kernel`` convolution and two 1x1 convolutions: see `ConvNeXtBlock`."""

    inputs: int
    outputs: int
    kernel: int
    expansion: int
    time: int
    side: int
    norm_groups: int
    dropout: float

    @property
    def inner(self) -> int:
        """Channels between the 1x1 convolutions."""
        return self.expansion * self.outputs

    @property
    def groups(self) -> int:
        """Groups of the normalisation."""
        return math.gcd(self.inputs, self.norm_groups)

    @cached_property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        kernel = self.inputs * self.kernel * self.kernel
        return total_price(
            (kernel * self.side * self.side, kernel + self.inputs),
            (0, 2 * self.inputs + 2 * self.inner),
            linear_price(self.time, 2 * self.inputs),
            conv_price(self.inputs, self.inner, 1, self.side),
            conv_price(self.inner, self.outputs, 1, self.side),
            linear_price(self.time, self.outputs),
            _shortcut_price(self.inputs, self.outputs, self.side),
        )

    def build(self) -> nn.Module:
        """A `ConvNeXtBlock`, which starts as a skip."""
        from .modules import ConvNeXtBlock

        return ConvNeXtBlock(
            self.inputs, self.inner, self.outputs, self.kernel, self.time, self.groups, NORM_EPS, self.dropout
        )

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x inputs x side x side`` and ``batch x time``."""
        return features_and_time(batch, self.inputs, self.side, self.time)


def _shortcut_price(inputs: int, outputs: int, side: int) -> MacsAndParams:
    return conv_price(inputs, outputs, 1, side) if inputs != outputs else (0, 0)
