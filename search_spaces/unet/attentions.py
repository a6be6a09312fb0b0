"""The kinds of attention among the pixels of a feature map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .pricing import NORM_EPS, MacsAndParams, conv_price, feature_map, linear_price, total_price

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class SelfAttention:
    """Softmax attention among all pixels, ``width / heads`` channels a head."""

    width: int
    heads: int
    side: int
    norm_groups: int

    @property
    def groups(self) -> int:
        """Groups of the normalisation."""
        return math.gcd(self.width, self.norm_groups)

    @cached_property
    def price(self) -> MacsAndParams:
        """``(macs, params)``: four projections; queries times keys, weights times values."""
        tokens = self.side * self.side
        projection = linear_price(self.width, self.width, tokens)
        return total_price((2 * tokens * tokens * self.width, 2 * self.width), *[projection] * 4)

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
        return (feature_map(batch, self.width, self.side),)


@dataclass(frozen=True)
class LinearAttention:
    """Attention whose cost grows with the number of pixels, not with its square: see `EfficientAttention`."""

    width: int
    heads: int
    side: int
    norm_groups: int

    @property
    def groups(self) -> int:
        """Groups of the normalisation."""
        return math.gcd(self.width, self.norm_groups)

    @cached_property
    def price(self) -> MacsAndParams:
        """``(macs, params)``: four projections; keys times values, queries times that."""
        tokens = self.side * self.side
        products = 2 * tokens * self.width * (self.width // self.heads)
        return total_price((products, 2 * self.width), *[conv_price(self.width, self.width, 1, self.side)] * 4)

    def build(self) -> nn.Module:
        """An `EfficientAttention`, which starts as a skip."""
        from .modules import EfficientAttention

        return EfficientAttention(self.width, self.heads, self.groups, NORM_EPS)

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """``batch x width x side x side``."""
        return (feature_map(batch, self.width, self.side),)
