"""Prices of thousands of UNets at once, for drawing within a budget: what `Plan.price` says, in arrays.

Notation
    n       networks
    l       levels
    slot    a residual layer and how often it occurs: per level the first and the other layers on the way down, and the
            first, the inner and the last on the way up; and the layers of the middle
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.space import Space, Value

from .layers import Resample, Skips
from .options import UNetOptions
from .plan import Attention, BlockKind, Middle, UpDepth
from .presets import STOCK

__all__ = ["prices_of"]

Array = NDArray[Any]
Prices = tuple[Array, Array]


_KINDS = (Attention, BlockKind, Middle, Resample, Skips, UpDepth)
_WORDS = {word: code for code, word in enumerate(sorted({word for kind in _KINDS for word in get_args(kind)}))}
"""Arrays of words are slow: each stands for a number."""


_FIXED: dict[str, Any] = {
    **STOCK,
    "block": STOCK["blocks"],
    "kernel": STOCK["kernels"],
    "heads": 1,
    "inner_width": 1.0,
}
"""What a choice is that is no label; by label, without its level."""


@lru_cache(maxsize=64)
def _table(choices: tuple[tuple[str, tuple[Value, ...]], ...]) -> tuple[dict[str, int], Array]:
    """Place of each label, and of each fixed choice, in a table ``labels x values`` of numbers."""
    rows: list[tuple[Any, ...]] = [*(values for _, values in choices), *((value,) for value in _FIXED.values())]
    table = np.zeros((len(rows), max(map(len, rows))))
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = [_WORDS.get(str(value), value) for value in values]
    places = {f"fixed.{name}": len(choices) + index for index, name in enumerate(_FIXED)}
    return places | {label: index for index, (label, _) in enumerate(choices)}, table


class _Columns:
    """The chosen values of many networks as numbers, ``n x l`` or ``n x 1``, words as in `_WORDS`.

    Values of absent labels are whatever the row says: nothing reads them. Whole numbers are exact up to 2 ** 53.
    """

    def __init__(self, o: UNetOptions, space: Space, rows: NDArray[np.integer[Any]]) -> None:
        places, table = _table(tuple(space.choices.items()))
        at = np.zeros((len(rows), len(table)), dtype=np.int64)
        at[:, : rows.shape[1]] = np.maximum(rows, 0)
        chosen = table[np.arange(len(table)), at]

        def column(label: str) -> Array:
            place = places.get(label, places.get(f"fixed.{label}"))
            return chosen[:, place, None]

        def levels(what: str) -> Array:
            fixed = places.get(f"fixed.{what}", -1)
            return chosen[:, [places.get(f"level{level}.{what}", fixed) for level in range(o.levels)]]

        self.widths, self.depths, self.attention = levels("width"), levels("depth"), levels("attention")
        self.blocks, self.kernels = levels("block"), levels("kernel")
        self.time, self.inner_width, self.expansion = (
            column("time_embedding"),
            column("inner_width"),
            column("expansion"),
        )
        self.middle, self.heads, self.patch = column("middle"), column("heads"), column("patch")
        self.resample, self.skips, self.up_depth = column("resample"), column("skips"), column("up_depth")
        self.sides = np.floor(o.sample_size / self.patch / 2 ** np.arange(o.levels))
        up = np.select(
            [self.up_depth == _WORDS["more"], self.up_depth == _WORDS["same"]], [self.depths + 1, self.depths], 1
        )
        self.depths_up = np.where(self.skips == _WORDS["all"], self.depths + 1, up)


def prices_of(o: UNetOptions, space: Space, rows: NDArray[np.integer[Any]]) -> Prices:
    """MACs and parameters of networks of a space.

    Args:
        o: options of the family.
        space: its space, or one with fewer values.
        rows: ``n x labels`` indices of values; those of absent labels do not matter.

    Returns:
        Two arrays of ``n`` whole numbers.
    """
    c = _Columns(o, space, rows)
    parts = [_residuals(o, c), _attentions(c), _resamplings(c), _ends(o, c)]
    macs, params = (np.sum(each, axis=0).astype(np.int64) for each in zip(*parts, strict=True))
    return macs, params


def _residuals(o: UNetOptions, c: _Columns) -> Prices:
    """All residual layers; each slot is an array ``n x l``, the middle's ``n x 1``."""
    width, depth, up = c.widths, c.depths, c.depths_up
    above = np.concatenate([width[:, :1], width[:, :-1]], axis=1)
    below = np.concatenate([width[:, 1:], width[:, -1:]], axis=1)
    every, one = c.skips == _WORDS["all"], np.ones_like(width)
    inputs = [
        above,
        width,
        np.where(c.skips == _WORDS["added"], width, below + width),
        np.where(every, 2, 1) * width,
        width + above,
    ]
    counts = [one, depth - 1, one, np.where(every, depth, up) - 1, one * every]
    last = np.s_[:, -1:]
    inputs.append(width[last])
    counts.append(np.where(c.middle == _WORDS["none"], 0, 2))
    slots = [np.s_[:, :]] * 5 + [last]
    outputs, side, kernel = (
        np.concatenate([each[slot] for slot in slots], axis=1) for each in (width, c.sides, c.kernels)
    )
    kind = np.concatenate([c.blocks[slot] for slot in slots], axis=1)
    source, count = np.concatenate(inputs, axis=1), np.concatenate(counts, axis=1)
    macs, params = _residual(o, c, source, outputs, side**2, kernel**2, kind)
    return (macs * count).sum(axis=1), (params * count).sum(axis=1)


def _residual(
    o: UNetOptions, c: _Columns, inputs: Array, outputs: Array, pixels: Array, kernel: Array, kind: Array
) -> Prices:
    """`Residual`, `Gated` and `ConvNeXt`, whichever each is."""
    multiple = o.width_multiple
    inner = np.maximum(multiple, np.rint(outputs * c.inner_width / multiple) * multiple)
    inner = np.where(c.inner_width == 1.0, outputs, inner)
    gated, convnext = kind == _WORDS["gated"], kind == _WORDS["convnext"]
    inner = np.where(convnext, c.expansion * outputs, inner)
    # Weights and biases of convolutions, then of what reads the time embedding, then of normalisations.
    depthwise = np.where(convnext, kernel * inputs, 0)
    dense = np.where(convnext, 1, 9) * (inputs + outputs) * inner + np.where(inputs != outputs, inputs * outputs, 0)
    biases = inner + outputs + np.where(inputs != outputs, outputs, 0) + np.where(convnext, inputs, 0)
    shifts = np.where(
        gated | (kind == _WORDS["residual"]) & o.scale_shift, 2 * inner, np.where(convnext, 2 * inputs, inner)
    )
    timed = shifts + np.where(gated | convnext, outputs, 0)
    norms = 2 * inputs + np.where(convnext, 0, 2 * inner) + np.where(gated | convnext, 2 * inner, 0)
    macs = (dense + depthwise) * pixels + timed * c.time
    return macs, dense + depthwise + biases + timed * (c.time + 1) + norms


def _attentions(c: _Columns) -> Prices:
    """`SelfAttention` and `LinearAttention` of the levels, and of the middle."""
    width, tokens = c.widths, c.sides**2
    projections = 4 * width * width * tokens
    softmax = projections + 2 * tokens * tokens * width
    linear = projections + 2 * tokens * width * (width // c.heads)
    params = 4 * width * (width + 1) + 2 * width
    count = (c.depths + c.depths_up) * (c.attention != _WORDS["none"])
    macs = (np.where(c.attention == _WORDS["softmax"], softmax, linear) * count).sum(axis=1)
    middle = c.middle[:, 0] == _WORDS["attention"]
    return macs + middle * softmax[:, -1], (params * count).sum(axis=1) + middle * params[:, -1]


def _resamplings(c: _Columns) -> Prices:
    """`Resampling` from each level to the next, and back."""
    upper, lower = c.widths[:, :-1], c.widths[:, 1:]
    large, small = c.sides[:, :-1] ** 2, c.sides[:, 1:] ** 2
    back = np.where(c.skips == _WORDS["added"], upper, lower)  # what the way up maps the lower width to
    dense = c.resample == _WORDS["convolution"]
    each = np.select([dense, c.resample == _WORDS["pool"]], [9, 1], 4)
    down, up = each * upper * upper, each * lower * back
    macs = down * small + up * np.where(dense, large, small)
    biases = upper + back * np.where(c.resample == _WORDS["shuffle"], 4, 1)
    return macs.sum(axis=1), (down + up + biases).sum(axis=1)


def _ends(o: UNetOptions, c: _Columns) -> Prices:
    """`Stem`, `TimeEmbedding`, `ClassEmbedding` and `Head`."""
    width, time, area = c.widths[:, 0], c.time[:, 0], c.patch[:, 0] ** 2
    images, predictions = o.in_channels * area, o.in_channels * (2 if o.learned_sigma else 1) * area
    convolutions = 9 * width * (images + predictions)
    embedding = width * time + time * time
    params = convolutions + width + predictions + embedding + 2 * time + (o.num_classes or 0) * time + 2 * width
    return convolutions * c.sides[:, 0] ** 2 + embedding, params
