"""The plan of a UNet: which layers with which sizes, from one flat configuration of JSON scalars and lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from .attentions import LinearAttention, SelfAttention
from .block_kinds import ConvNeXt, Gated, Residual
from .layers import ClassEmbedding, Head, PlannedBlock, Resample, Resampling, Skips, Stem, TimeEmbedding
from .pricing import MacsAndParams, PlannedLayer

Middle = Literal["none", "residual", "attention"]
Attention = Literal["none", "softmax", "linear"]
BlockKind = Literal["residual", "gated", "convnext"]
UpDepth = Literal["more", "same", "one"]

KERNELS = (3, 5, 7)
EXPANSIONS = (2, 3, 4)
PATCHES = (1, 2)


@dataclass(frozen=True)
class UNetConfig:
    """Everything that tells one UNet from another.

    ``skips`` and ``up_depth`` say what the way up reads. With x what is carried, s what left the last layer of the same
    level on the way down, and R_1, R_2, ... the residual layers of the level on the way up:

    - ``all`` (DDPM): ``x <- R_i([x, s_i])``, a skip s_i for each of them, and one more of what entered the level;
    - ``level``: ``x <- R_1([x, s])``, and then ``x <- R_i(x)``; DiC (Tian et al. 2025, arXiv 2501.00603) found such
      sparse skips better than one a layer at equal cost;
    - ``added``: ``x <- R_1(x + s)``, and then ``x <- R_i(x)``, as in LinkNet's decoder (Chaurasia & Culurciello 2017);
      for that, what brings x up from the level below maps it to this level's width.

    Args:
        sample_size: height and width of the image, in pixels; divisible by ``patch * 2 ** (levels - 1)``.
        in_channels: of the image.
        out_channels: of the prediction.
        widths: channels of each level; every level with attention, and the middle, is divisible by ``heads``.
        depths: residual layers of each level on the way down.
        attention: of each level: ``none``, ``softmax`` or ``linear``; false and true stand for the first two.
        middle: ``none``; two ``residual`` layers of the last level's kind; or these with ``attention`` between them.
        heads: attention heads.
        inner_width: channels between the two convolutions of a residual or gated block, as a factor of its width.
        inner_multiple: inner channels are rounded to a multiple of this.
        time_embedding_dim: width of the time embedding.
        num_classes: class labels the network is conditioned on; ``None`` for none.
        norm_groups: groups of each normalisation where they divide its channels, else their greatest common divisor.
        scale_shift: whether the time embedding scales and shifts in ``residual`` blocks (IDDPM), or is only added; in
            the other kinds it always does.
        dropout: probability, in the residual layers.
        blocks: kind of each level's residual layers: ``residual``, ``gated`` or ``convnext``; none given: residual.
        kernels: of each level's depthwise convolutions, read where its blocks are ``convnext``; none given: 3.
        expansion: of the 1x1 convolutions of ``convnext`` blocks.
        resample: between the levels, see `Resampling`.
        skips: see above.
        up_depth: residual layers of a level on the way up: one ``more`` than on the way down, the ``same``, or ``one``.
        patch: pixels on a side of what the stem makes one pixel of its feature map, and the head resolves again.

    Raises:
        ValueError: values that do not go together; one sentence.
    """

    sample_size: int
    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    attention: tuple[Attention, ...]
    middle: Middle = "attention"
    heads: int = 1
    inner_width: float = 1.0
    inner_multiple: int = 8
    time_embedding_dim: int = 128
    num_classes: int | None = None
    norm_groups: int = 32
    scale_shift: bool = True
    dropout: float = 0.0
    blocks: tuple[BlockKind, ...] = ()
    kernels: tuple[int, ...] = ()
    expansion: int = 4
    resample: Resample = "convolution"
    skips: Skips = "all"
    up_depth: UpDepth = "more"
    patch: int = 1

    def __post_init__(self) -> None:
        words = {False: "none", True: "softmax"}
        attention = tuple(words[each] if isinstance(each, bool) else each for each in self.attention)
        object.__setattr__(self, "attention", attention)
        object.__setattr__(self, "blocks", self.blocks or ("residual",) * self.levels)
        object.__setattr__(self, "kernels", self.kernels or (3,) * self.levels)
        _check_config(self)

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.widths)

    def side(self, level: int) -> int:
        """Height and width of a level's feature maps, in pixels."""
        return (self.sample_size // self.patch) >> level

    def layers_up(self, level: int) -> int:
        """Residual layers of a level on the way up."""
        return {"more": self.depths[level] + 1, "same": self.depths[level], "one": 1}[self.up_depth]


_KNOWN: dict[str, tuple[Any, ...]] = {
    "attention": get_args(Attention),
    "middle": get_args(Middle),
    "blocks": get_args(BlockKind),
    "kernels": KERNELS,
    "expansion": EXPANSIONS,
    "resample": get_args(Resample),
    "skips": get_args(Skips),
    "up_depth": get_args(UpDepth),
    "patch": PATCHES,
}


def _check_config(c: UNetConfig) -> None:
    """Refuse what names no network, in one sentence."""
    for name, known in _KNOWN.items():
        chosen = getattr(c, name)
        for value in chosen if isinstance(chosen, tuple) else (chosen,):
            if value not in known:
                raise ValueError(f"A UNet's {name} cannot be {value!r}: choose among {', '.join(map(str, known))}.")
    for name in ("depths", "attention", "blocks", "kernels"):
        if len(getattr(c, name)) != c.levels:
            raise ValueError(f"A UNet of {c.levels} widths has {len(getattr(c, name))} {name}: give one a level.")
    if c.skips == "all" and c.up_depth != "more":
        raise ValueError(
            f"A UNet with all skips has one more layer a level on its way up, not up_depth {c.up_depth!r}."
        )
    if c.sample_size % (c.patch << (c.levels - 1)):
        raise ValueError(
            f"Images of {c.sample_size} pixels cannot be cut into patches of {c.patch} and halved {c.levels - 1} times."
        )
    for level, (kind, kernel) in enumerate(zip(c.blocks, c.kernels, strict=True)):
        if kind == "convnext" and kernel > max(c.side(level), KERNELS[0]):
            raise ValueError(
                f"A kernel of {kernel} is larger than the {c.side(level)} pixels of level {level}: take a smaller one."
            )
        attends = c.attention[level] != "none" or (c.middle == "attention" and level == c.levels - 1)
        if attends and c.widths[level] % c.heads:
            raise ValueError(f"{c.heads} heads do not divide the {c.widths[level]} channels of level {level}.")


@dataclass(frozen=True)
class Plan:
    """The layers of one UNet in forward order; ``up`` starts at the smallest side."""

    stem: Stem
    time: TimeEmbedding
    classes: ClassEmbedding | None
    down: tuple[PlannedBlock, ...]
    middle: PlannedBlock | None
    up: tuple[PlannedBlock, ...]
    head: Head

    @property
    def blocks(self) -> Iterator[PlannedBlock]:
        """Levels down, the middle, levels up."""
        yield from self.down
        if self.middle is not None:
            yield self.middle
        yield from self.up

    @property
    def layers(self) -> Iterator[PlannedLayer]:
        """All layers in forward order."""
        yield self.stem
        yield self.time
        if self.classes is not None:
            yield self.classes
        for block in self.blocks:
            yield from block.layers
        yield self.head

    @property
    def price(self) -> MacsAndParams:
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
_gated = lru_cache(maxsize=1 << 16)(Gated)
_convnext = lru_cache(maxsize=1 << 16)(ConvNeXt)
_softmax = lru_cache(maxsize=1 << 16)(SelfAttention)
_linear = lru_cache(maxsize=1 << 16)(LinearAttention)


def _layer(config: UNetConfig, level: int, inputs: int) -> Residual | Gated | ConvNeXt:
    """A residual layer of a level."""
    c, width, side = config, config.widths[level], config.side(level)
    time, groups, dropout = c.time_embedding_dim, c.norm_groups, c.dropout
    if c.blocks[level] == "convnext":
        return _convnext(inputs, width, c.kernels[level], c.expansion, time, side, groups, dropout)
    multiple = c.inner_multiple
    inner = max(multiple, round(width * c.inner_width / multiple) * multiple) if c.inner_width != 1.0 else width
    if c.blocks[level] == "gated":
        return _gated(inputs, inner, width, time, side, groups, dropout)
    return _residual(inputs, inner, width, time, side, groups, c.scale_shift, dropout)


def _block(
    config: UNetConfig, level: int, sources: Iterable[int], attention: Attention, resampling: Resampling | None = None
) -> PlannedBlock:
    """A block whose residual layers read ``sources`` channels each, attention behind each of them."""
    residuals = tuple(_layer(config, level, source) for source in sources)
    attentions: tuple[SelfAttention | LinearAttention, ...] = ()
    if attention != "none":
        make = _softmax if attention == "softmax" else _linear
        attends = make(config.widths[level], config.heads, config.side(level), config.norm_groups)
        attentions = (attends,) * len(residuals)
    return PlannedBlock(residuals, attentions, resampling, config.skips)


def _down(config: UNetConfig, level: int) -> PlannedBlock:
    width = config.widths[level]
    sources = (config.widths[max(level - 1, 0)], *[width] * (config.depths[level] - 1))
    last = level == config.levels - 1
    resampling = None if last else Resampling(width, width, config.side(level), True, config.resample)
    return _block(config, level, sources, config.attention[level], resampling)


def _up(config: UNetConfig, level: int) -> PlannedBlock:
    c, width = config, config.widths[level]
    above = c.widths[max(level - 1, 0)]
    below = c.widths[min(level + 1, c.levels - 1)]
    sources = [width] * c.layers_up(level)
    if c.skips == "all":
        # One skip for each layer of the level on the way down, and one of what entered the level.
        skipped = [*[width] * c.depths[level], above]
        sources = [carried + skip for carried, skip in zip([below, *sources[1:]], skipped, strict=True)]
    elif c.skips == "level":
        sources[0] = below + width
    outputs = above if c.skips == "added" else width
    resampling = None if level == 0 else Resampling(width, outputs, c.side(level), False, c.resample)
    return _block(config, level, sources, c.attention[level], resampling)


def _middle(config: UNetConfig) -> PlannedBlock | None:
    if config.middle == "none":
        return None
    level = config.levels - 1
    block = _block(config, level, (config.widths[-1],) * 2, "softmax" if config.middle == "attention" else "none")
    return replace(block, attentions=block.attentions[:1])


def plan_of(config: UNetConfig) -> Plan:
    """Lay out the network: as ``UNet2DModel`` does it, where the configuration says nothing else."""
    c = config
    return Plan(
        stem=Stem(c.in_channels, c.widths[0], c.side(0), c.patch),
        time=TimeEmbedding(c.widths[0], c.time_embedding_dim),
        classes=None if c.num_classes is None else ClassEmbedding(c.num_classes, c.time_embedding_dim),
        down=tuple(_down(c, level) for level in range(c.levels)),
        middle=_middle(c),
        up=tuple(_up(c, level) for level in reversed(range(c.levels))),
        head=Head(c.widths[0], c.out_channels, c.side(0), c.norm_groups, c.patch),
    )
