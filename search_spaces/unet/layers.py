"""The ends of a UNet, what joins its levels, and `PlannedBlock`, the layers of one level on one side."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from .attentions import LinearAttention, SelfAttention
from .block_kinds import ConvNeXt, Gated, Residual
from .pricing import NORM_EPS, MacsAndParams, PlannedLayer, conv_price, feature_map, linear_price, total_price

if TYPE_CHECKING:
    import torch
    from torch import nn

Resample = Literal["convolution", "pool", "shuffle"]
Skips = Literal["all", "level", "added"]


@dataclass(frozen=True)
class Stem:
    """The convolution that turns an image, or its patches, into ``outputs`` feature maps; ``side`` is theirs.

    A patch of ``patch x patch`` pixels becomes one pixel with ``patch ** 2`` times as many channels, which
    spares the layers of full size: simple diffusion (Hoogeboom et al. 2023, arXiv 2301.11093).
    """

    inputs: int
    outputs: int
    side: int
    patch: int = 1

    @property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        return conv_price(self.inputs * self.patch**2, self.outputs, 3, self.side)

    def build(self) -> nn.Module:
        """A 3x3 convolution, behind the division into patches where there is one."""
        from torch import nn

        convolution = nn.Conv2d(self.inputs * self.patch**2, self.outputs, 3, padding=1)
        return convolution if self.patch == 1 else nn.Sequential(nn.PixelUnshuffle(self.patch), convolution)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x inputs x image x image``."""
        return (feature_map(batch, self.inputs, self.side * self.patch),)


@dataclass(frozen=True)
class TimeEmbedding:
    """Two linear layers on ``frequencies`` sines and cosines of the timestep."""

    frequencies: int
    width: int

    @property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        return total_price(linear_price(self.frequencies, self.width), linear_price(self.width, self.width))

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
    def price(self) -> MacsAndParams:
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
class Resampling:
    """What halves the side of a map (``down``) or doubles it; ``side`` is the one that enters.

    ``convolution``: DDPM's, a 3x3 convolution with stride 2, or behind the repetition of each pixel (Ho et al. 2020).
    ``pool``: the mean of 2x2 pixels, then 1x1; or 1x1, then each pixel repeated. ADM (Dhariwal & Nichol 2021) takes its
    resampling without weights from BigGAN; the 1x1 convolution is ours, and comes where the map is small.
    ``shuffle``: 2x2 pixels become four times the channels, then 1x1; or 1x1 to four times the channels, which become
    2x2 pixels (Shi et al. 2016, arXiv 1609.05158): nothing is averaged away.
    """

    width: int
    outputs: int
    side: int
    down: bool
    kind: Resample = "convolution"

    @property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        small = self.side // 2 if self.down else self.side
        if self.kind == "convolution":
            return conv_price(self.width, self.outputs, 3, small if self.down else 2 * small)
        shuffled = 4 if self.kind == "shuffle" else 1
        inputs, outputs = (shuffled, 1) if self.down else (1, shuffled)
        return conv_price(self.width * inputs, self.outputs * outputs, 1, small)

    def build(self) -> nn.Module:
        """Diffusers' ``Downsample2D`` or ``Upsample2D``, or the two modules in a row."""
        from torch import nn

        if self.kind == "pool":
            convolution = nn.Conv2d(self.width, self.outputs, 1)
            if self.down:
                return nn.Sequential(nn.AvgPool2d(2), convolution)
            return nn.Sequential(convolution, nn.Upsample(scale_factor=2, mode="nearest"))
        if self.kind == "shuffle":
            if self.down:
                return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * self.width, self.outputs, 1))
            return nn.Sequential(nn.Conv2d(self.width, 4 * self.outputs, 1), nn.PixelShuffle(2))
        from diffusers.models.downsampling import Downsample2D
        from diffusers.models.upsampling import Upsample2D

        if self.down:
            return Downsample2D(self.width, use_conv=True, out_channels=self.outputs, padding=1, name="op")
        return Upsample2D(self.width, use_conv=True, out_channels=self.outputs)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x width x side x side``."""
        return (feature_map(batch, self.width, self.side),)


@dataclass(frozen=True)
class Head:
    """Normalisation, activation and the convolution that turns features into the prediction, patch by patch."""

    width: int
    outputs: int
    side: int
    norm_groups: int
    patch: int = 1

    @property
    def groups(self) -> int:
        """Groups of the normalisation."""
        return math.gcd(self.width, self.norm_groups)

    @property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        return total_price((0, 2 * self.width), conv_price(self.width, self.outputs * self.patch**2, 3, self.side))

    def build(self) -> nn.Module:
        """The three modules in a row; the convolution starts at zero (IDDPM)."""
        from torch import nn

        convolution = nn.Conv2d(self.width, self.outputs * self.patch**2, 3, padding=1)
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.get_parameter("bias"))
        last = convolution if self.patch == 1 else nn.Sequential(convolution, nn.PixelShuffle(self.patch))
        return nn.Sequential(nn.GroupNorm(self.groups, self.width, eps=NORM_EPS), nn.SiLU(), last)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x width x side x side``."""
        return (feature_map(batch, self.width, self.side),)


@dataclass(frozen=True)
class PlannedBlock:
    """Residual layers, attention behind some of them, and at most one resampling at the end.

    Attention stands behind each residual layer of a level that has it, and between the two of the middle.

    Args:
        residuals: in forward order.
        attentions: in forward order.
        resampling: to the next level.
        skips: what the way down hands to the way up; see `UNetConfig`.
    """

    residuals: tuple[Residual | Gated | ConvNeXt, ...]
    attentions: tuple[SelfAttention | LinearAttention, ...] = ()
    resampling: Resampling | None = None
    skips: Skips = "all"

    @property
    def layers(self) -> Iterator[PlannedLayer]:
        """All layers of the block."""
        yield from self.residuals
        yield from self.attentions
        if self.resampling is not None:
            yield self.resampling

    @cached_property
    def price(self) -> MacsAndParams:
        """``(macs, params)``."""
        return total_price(*[layer.price for layer in self.layers])
