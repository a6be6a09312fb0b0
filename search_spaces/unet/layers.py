"""The layers of a UNet: each is built and priced from the same few sizes.

`layers`, `plan`, `network` and `exported` are shipped, one after the other, as the single file of an exported network
that stock diffusers cannot express: they import nothing of ours beyond each other. Torch is imported when a layer is
built, since pricing needs none.

Notation
    price   ``(macs, params)``: multiply-accumulates of one forward pass on one image, trainable parameters
    side    height and width of a square feature map, in pixels
    level   the layers that work at one side; level 0 has the side of the image
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

Price = tuple[int, int]

NORM_EPS = 1e-5


class Layer(Protocol):
    """One layer of a plan: how it is built, what it costs and what goes into it."""

    @property
    def price(self) -> Price:
        """``(macs, params)``."""

    def build(self) -> nn.Module:
        """The module, weights initialised."""

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes, to time the module with."""


def _image(batch: int, channels: int, side: int) -> torch.Tensor:
    import torch

    return torch.randn(batch, channels, side, side)


def _conv(inputs: int, outputs: int, kernel: int, side: int) -> Price:
    weights = inputs * outputs * kernel * kernel
    return weights * side * side, weights + outputs


def _linear(inputs: int, outputs: int, tokens: int = 1) -> Price:
    return inputs * outputs * tokens, inputs * outputs + outputs


def _total(*prices: Price) -> Price:
    return sum(macs for macs, _ in prices), sum(params for _, params in prices)


@dataclass(frozen=True)
class Stem:
    """The convolution that turns an image into ``outputs`` feature maps."""

    inputs: int
    outputs: int
    side: int

    @property
    def price(self) -> Price:
        """``(macs, params)``."""
        return _conv(self.inputs, self.outputs, 3, self.side)

    def build(self) -> nn.Module:
        """A 3x3 convolution."""
        from torch import nn

        return nn.Conv2d(self.inputs, self.outputs, 3, padding=1)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x inputs x side x side``."""
        return (_image(batch, self.inputs, self.side),)


@dataclass(frozen=True)
class TimeEmbedding:
    """Two linear layers on ``frequencies`` sines and cosines of the timestep."""

    frequencies: int
    width: int

    @property
    def price(self) -> Price:
        """``(macs, params)``."""
        return _total(_linear(self.frequencies, self.width), _linear(self.width, self.width))

    def build(self) -> nn.Module:
        """Diffusers' ``TimestepEmbedding``."""
        from diffusers.models.embeddings import TimestepEmbedding

        return TimestepEmbedding(self.frequencies, self.width)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x frequencies``."""
        import torch

        return (torch.randn(batch, self.frequencies),)


@dataclass(frozen=True)
class ClassEmbedding:
    """A learned vector per class, added to the time embedding."""

    classes: int
    width: int

    @property
    def price(self) -> Price:
        """``(macs, params)``: a look-up multiplies nothing."""
        return 0, self.classes * self.width

    def build(self) -> nn.Module:
        """An embedding table."""
        from torch import nn

        return nn.Embedding(self.classes, self.width)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch`` labels."""
        import torch

        return (torch.zeros(batch, dtype=torch.long),)


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
    def price(self) -> Price:
        """``(macs, params)``."""
        return _total(
            (0, 2 * self.inputs + 2 * self.inner),
            _conv(self.inputs, self.inner, 3, self.side),
            _linear(self.time, self.inner * (2 if self.scale_shift else 1)),
            _conv(self.inner, self.outputs, 3, self.side),
            _conv(self.inputs, self.outputs, 1, self.side) if self.inputs != self.outputs else (0, 0),
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
        import torch

        return _image(batch, self.inputs, self.side), torch.randn(batch, self.time)


@dataclass(frozen=True)
class SelfAttention:
    """Self-attention among all pixels, ``width / heads`` channels a head."""

    width: int
    heads: int
    side: int
    norm_groups: int

    @property
    def groups(self) -> int:
        """Groups of the normalisation."""
        return math.gcd(self.width, self.norm_groups)

    @cached_property
    def price(self) -> Price:
        """``(macs, params)``: four projections; queries times keys, weights times values."""
        tokens = self.side * self.side
        projection = _linear(self.width, self.width, tokens)
        return _total((2 * tokens * tokens * self.width, 2 * self.width), *[projection] * 4)

    def build(self) -> nn.Module:
        """Diffusers' ``Attention``; its last projection starts at zero, so that it starts as a skip."""
        from diffusers.models.attention_processor import Attention
        from torch import nn

        attention = Attention(
            self.width,
            heads=self.heads,
            dim_head=self.width // self.heads,
            norm_num_groups=self.groups,
            eps=NORM_EPS,
            residual_connection=True,
            bias=True,
            upcast_softmax=True,
            _from_deprecated_attn_block=True,  # the stock network's setting: old weight names load too
        )
        nn.init.zeros_(attention.to_out[0].get_parameter("weight"))
        return attention

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x width x side x side``."""
        return (_image(batch, self.width, self.side),)


@dataclass(frozen=True)
class Resampling:
    """The convolution that halves the side of a map (``down``) or doubles it; ``side`` is the one that enters."""

    width: int
    side: int
    down: bool

    @property
    def price(self) -> Price:
        """``(macs, params)``."""
        return _conv(self.width, self.width, 3, self.side // 2 if self.down else self.side * 2)

    def build(self) -> nn.Module:
        """Diffusers' ``Downsample2D`` or ``Upsample2D``."""
        from diffusers.models.downsampling import Downsample2D
        from diffusers.models.upsampling import Upsample2D

        if self.down:
            return Downsample2D(self.width, use_conv=True, out_channels=self.width, padding=1, name="op")
        return Upsample2D(self.width, use_conv=True, out_channels=self.width)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x width x side x side``."""
        return (_image(batch, self.width, self.side),)


@dataclass(frozen=True)
class Head:
    """Normalisation, activation and the convolution that turns features into the prediction."""

    width: int
    outputs: int
    side: int
    norm_groups: int

    @property
    def groups(self) -> int:
        """Groups of the normalisation."""
        return math.gcd(self.width, self.norm_groups)

    @property
    def price(self) -> Price:
        """``(macs, params)``."""
        return _total((0, 2 * self.width), _conv(self.width, self.outputs, 3, self.side))

    def build(self) -> nn.Module:
        """The three modules in a row; the convolution starts at zero (IDDPM)."""
        from torch import nn

        convolution = nn.Conv2d(self.width, self.outputs, 3, padding=1)
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.get_parameter("bias"))
        return nn.Sequential(nn.GroupNorm(self.groups, self.width, eps=NORM_EPS), nn.SiLU(), convolution)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x width x side x side``."""
        return (_image(batch, self.width, self.side),)


@dataclass(frozen=True)
class Block:
    """Residual layers, attention behind some of them, and at most one resampling at the end.

    Attention stands behind each residual layer of a level that has it, and between the two of the middle.
    """

    residuals: tuple[Residual, ...]
    attentions: tuple[SelfAttention, ...] = ()
    resampling: Resampling | None = None

    @property
    def layers(self) -> Iterator[Layer]:
        """All layers of the block."""
        yield from self.residuals
        yield from self.attentions
        if self.resampling is not None:
            yield self.resampling

    @cached_property
    def price(self) -> Price:
        """``(macs, params)``."""
        return _total(*[layer.price for layer in self.layers])
