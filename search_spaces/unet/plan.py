"""The plan of a UNet: which layers with which sizes, from one flat configuration of JSON scalars and lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from .layers import (
    Block,
    ClassEmbedding,
    Head,
    Layer,
    Price,
    Resampling,
    Residual,
    SelfAttention,
    Stem,
    TimeEmbedding,
)

Middle = Literal["none", "residual", "attention"]


@dataclass(frozen=True)
class UNetConfig:
    """Everything that tells one UNet from another.

    Args:
        sample_size: height and width of the image, in pixels; divisible by ``2 ** (levels - 1)``.
        in_channels: of the image.
        out_channels: of the prediction.
        widths: channels of each level; every level with attention, and the middle, is divisible by ``heads``.
        depths: residual blocks of each level on the way down; there is one more on the way up.
        attention: whether each level has attention.
        middle: ``none``; two ``residual`` blocks; or these with ``attention`` between them.
        heads: attention heads.
        inner_width: channels between the two convolutions of a residual block, as a factor of its width.
        inner_multiple: inner channels are rounded to a multiple of this.
        time_embedding_dim: width of the time embedding.
        num_classes: class labels the network is conditioned on; ``None`` for none.
        norm_groups: groups of each normalisation where they divide its channels, else their greatest common divisor.
        scale_shift: whether the time embedding scales and shifts (IDDPM), or is only added.
        dropout: probability, in the residual blocks.
    """

    sample_size: int
    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    attention: tuple[bool, ...]
    middle: Middle = "attention"
    heads: int = 1
    inner_width: float = 1.0
    inner_multiple: int = 8
    time_embedding_dim: int = 128
    num_classes: int | None = None
    norm_groups: int = 32
    scale_shift: bool = True
    dropout: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The layers of one UNet in forward order; ``up`` starts at the smallest side."""

    stem: Stem
    time: TimeEmbedding
    classes: ClassEmbedding | None
    down: tuple[Block, ...]
    middle: Block | None
    up: tuple[Block, ...]
    head: Head

    @property
    def blocks(self) -> Iterator[Block]:
        """Levels down, the middle, levels up."""
        yield from self.down
        if self.middle is not None:
            yield self.middle
        yield from self.up

    @property
    def layers(self) -> Iterator[Layer]:
        """All layers in forward order."""
        yield self.stem
        yield self.time
        if self.classes is not None:
            yield self.classes
        for block in self.blocks:
            yield from block.layers
        yield self.head

    @property
    def price(self) -> Price:
        """``(macs, params)`` of the network."""
        ends = (
            (self.stem, self.time, self.head)
            if self.classes is None
            else (self.stem, self.time, self.classes, self.head)
        )
        prices = [part.price for part in (*ends, *self.blocks)]
        return sum(macs for macs, _ in prices), sum(params for _, params in prices)


# The architectures of a search share most of their layers: each is made and priced once.
_residual = lru_cache(maxsize=1 << 16)(Residual)
_attention = lru_cache(maxsize=1 << 16)(SelfAttention)


@lru_cache(maxsize=1 << 16)
def _block(
    sources: tuple[int, ...],
    width: int,
    side: int,
    heads: int,
    down: bool | None,
    inner: int,
    time: int,
    groups: int,
    scale_shift: bool,
    dropout: float,
    between: bool = False,
) -> Block:
    """A block whose residual layers read ``sources`` channels each.

    Zero ``heads`` mean no attention, and ``down`` of None no resampling. Attention stands behind each residual layer,
    or only ``between`` them.
    """
    residuals = tuple(_residual(source, inner, width, time, side, groups, scale_shift, dropout) for source in sources)
    attending = sources[1:] if between else sources
    attentions = tuple(_attention(width, heads, side, groups) for _ in attending) if heads else ()
    return Block(residuals, attentions, None if down is None else Resampling(width, side, down))


def plan_of(config: UNetConfig) -> Plan:
    """Lay out the network: as ``UNet2DModel`` does it, with a depth per level and an inner width."""
    c = config
    last = len(c.widths) - 1
    multiple = c.inner_multiple
    inner = [max(multiple, round(width * c.inner_width / multiple) * multiple) for width in c.widths]
    if c.inner_width == 1.0:
        inner = list(c.widths)
    common = (c.time_embedding_dim, c.norm_groups, c.scale_shift, c.dropout)
    heads = [c.heads if attention else 0 for attention in c.attention]
    down, up = [], []
    for level, width in enumerate(c.widths):
        side = c.sample_size >> level
        above = c.widths[max(level - 1, 0)]
        below = c.widths[min(level + 1, last)]
        depth = c.depths[level]
        sources = (above, *[width] * (depth - 1))
        down.append(_block(sources, width, side, heads[level], None if level == last else True, inner[level], *common))
        # On the way up each residual layer also reads a skip: one per layer of the level, and what entered the level.
        sources = tuple(
            carried + skipped
            for carried, skipped in zip([below, *[width] * depth], [*[width] * depth, above], strict=True)
        )
        up.append(_block(sources, width, side, heads[level], None if level == 0 else False, inner[level], *common))
    middle = None
    if c.middle != "none":
        width, side = c.widths[-1], c.sample_size >> last
        attends = c.heads if c.middle == "attention" else 0
        middle = _block((width, width), width, side, attends, None, inner[-1], *common, between=True)
    return Plan(
        stem=Stem(c.in_channels, c.widths[0], c.sample_size),
        time=TimeEmbedding(c.widths[0], c.time_embedding_dim),
        classes=None if c.num_classes is None else ClassEmbedding(c.num_classes, c.time_embedding_dim),
        down=tuple(down),
        middle=middle,
        up=tuple(reversed(up)),
        head=Head(c.widths[0], c.out_channels, c.sample_size, c.norm_groups),
    )
