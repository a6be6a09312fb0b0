"""A UNet as a picture: one bar for each layer, as long as it is wide; what differs from the default stands out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from ..api.space import Architecture, Value
from .svg import Drawing

__all__ = ["differences", "draw_unet", "is_unet", "layer_kinds"]

_LEVEL = re.compile(r"level(\d+)\.(width|depth|block|kernel|attention)$")
_WIDTH, _BAR, _GAP, _LONGEST = 400.0, 8.0, 3.0, 150.0
_LONG_CAPTION = 52
"""Characters of a level's choices that fit beside its scale."""

_BLOCKS = {
    "residual": ("block", "residual block"),
    "gated": ("gated", "gated block"),
    "convnext": ("convnext", "ConvNeXt block"),
}
_ATTENTION = {"none": "no attention", "softmax": "attention", "linear": "linear attention"}
_SKIPS = {
    "all": "skips of all layers, concatenated",
    "level": "one skip of the level, concatenated",
    "added": "one skip of the level, added",
}
_RESAMPLING = {
    "convolution": "3x3 convolution",
    "pool": "mean or repetition of pixels, and 1x1 convolution",
    "shuffle": "pixels to channels or back, and 1x1 convolution",
}


def is_unet(architecture: Mapping[str, Value]) -> bool:
    """Whether the labels are those of a UNet: ``levelI.width``, ``levelI.depth`` and perhaps ``levelI.attention``."""
    return "level0.width" in architecture and "level0.depth" in architecture


def differences(architecture: Mapping[str, Value], default: Mapping[str, Value] | None) -> dict[str, Value | None]:
    """Labels whose value differs from the default's, with the default's value (``None`` where it is absent there)."""
    if default is None:
        return {}
    return {label: default.get(label) for label, value in architecture.items() if default.get(label) != value}


def layer_kinds(architecture: Mapping[str, Value]) -> list[tuple[str, str]]:
    """Style and name of the layers of a UNet that are neither residual blocks nor softmax attention, for the legend."""
    levels = range(_levels(architecture))
    kinds = dict.fromkeys(str(architecture.get(f"level{level}.block", "residual")) for level in levels)
    found = [_BLOCKS[kind] for kind in kinds if kind != "residual"]
    if any(_attention(architecture, level) == "linear" for level in levels):
        found.append(("linear", _ATTENTION["linear"]))
    return found


def _levels(architecture: Mapping[str, Value]) -> int:
    return 1 + max(int(match[1]) for label in architecture if (match := _LEVEL.match(label)))


def draw_unet(architecture: Architecture, default: Mapping[str, Value] | None = None) -> str:
    """Draw the network as SVG: down on the left, up on the right, skips between them, the middle at the bottom.

    Args:
        architecture: for which `is_unet` holds.
        default: the network it is compared with; its widths are drawn as outlines where they differ.
    """
    changed = differences(architecture, default)
    chosen: dict[str, Any] = dict(architecture)
    levels = _levels(architecture)
    widths = [float(chosen[f"level{i}.width"]) for i in range(levels)]
    reference = [float((default or {}).get(f"level{i}.width", widths[i])) for i in range(levels)]
    unit = _LONGEST / max(*widths, *reference)
    picture = Drawing(_WIDTH, 0.0, "The best architecture as a UNet")
    top = 4.0
    left, right = _WIDTH * 0.27, _WIDTH * 0.73
    resampling = _RESAMPLING[str(chosen.get("resample", "convolution"))]
    for level in range(levels):
        attention = _attention(chosen, level)
        depth = int(chosen[f"level{level}.depth"])
        y = _caption(picture, top + 11, level, chosen, changed) + 8
        _outline(picture, (left, right), y, reference[level] * unit, widths[level] * unit)
        kind = _kind(chosen, level)
        ends = [
            _stack(picture, x, y, widths[level] * unit, blocks, kind, attention)
            for x, blocks in ((left, depth), (right, _depth_up(chosen, depth)))
        ]
        middle_y = y + _BAR / 2
        picture.line(
            [(left + widths[level] * unit / 2 + 4, middle_y), (right - widths[level] * unit / 2 - 4, middle_y)],
            "skip",
            _SKIPS[str(chosen.get("skips", "all"))],
        )
        bottom = max(ends)
        if level + 1 < levels:
            _arrow(picture, left, ends[0], bottom + 17, resampling)
            _arrow(picture, right, bottom + 17, ends[1], resampling)
            top = bottom + 20
        else:
            top = bottom
    top = _middle(picture, chosen, changed, widths[-1] * unit, (left, right), top)
    rest = [label for label in architecture if not _LEVEL.match(label) and label != "middle"]
    for label in rest:
        top += 15
        text = _with_default(f"{label.replace('_', ' ')} {_word(chosen[label])}", label, changed)
        style = "changed" if label in changed else ""
        picture.add("text", text, x=_WIDTH / 2, y=top, class_=style, text_anchor="middle")
    picture.height = top + 8
    return str(picture)


def _attention(chosen: Mapping[str, Any], level: int) -> str:
    """Kind of a level's attention; truth values, as version 0.1 recorded them, are none and softmax."""
    value = chosen.get(f"level{level}.attention", "none")
    return {False: "none", True: "softmax"}[value] if isinstance(value, bool) else str(value)


def _kind(chosen: Mapping[str, Any], level: int) -> tuple[str, str]:
    """Style and name of a level's residual layers."""
    style, name = _BLOCKS[str(chosen.get(f"level{level}.block", "residual"))]
    kernel = chosen.get(f"level{level}.kernel")
    return style, f"{name} {kernel}x{kernel}" if kernel is not None and style == "convnext" else name


def _depth_up(chosen: Mapping[str, Any], depth: int) -> int:
    """Residual layers of a level on the way up."""
    more = str(chosen.get("skips", "all")) == "all"
    return depth + 1 if more else {"more": depth + 1, "same": depth, "one": 1}[str(chosen.get("up_depth", "more"))]


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_default(text: str, label: str, changed: Mapping[str, Any]) -> str:
    return f"{text} (default {_word(changed[label])})" if label in changed else text


def _caption(picture: Drawing, y: float, level: int, chosen: Mapping[str, Any], changed: Mapping[str, Any]) -> float:
    """Scale and choices of a level, in as many lines as they need; returns where the last one stands."""
    shrunk = 2**level * int(chosen.get("patch", 1))
    picture.add("text", "full size" if shrunk == 1 else f"1/{shrunk} size", x=2.0, y=y, class_="quiet")
    depth, attention = int(chosen[f"level{level}.depth"]), _attention(chosen, level)
    words = [
        (f"level{level}.width", f"{chosen[f'level{level}.width']} channels"),
        (f"level{level}.depth", f"{depth} block{'s' * (depth != 1)}"),
        (f"level{level}.block", str(chosen.get(f"level{level}.block"))),
        (f"level{level}.kernel", "{0}x{0} kernels".format(chosen.get(f"level{level}.kernel"))),
        (f"level{level}.attention", _ATTENTION[attention]),
    ]
    said = [(label, _with_default(text, label, changed)) for label, text in words if label in chosen]
    lines: list[list[tuple[str, str]]] = [[]]
    for part in said:
        if lines[-1] and sum(len(text) + 3 for _, text in [*lines[-1], part]) - 3 > _LONG_CAPTION:
            lines.append([])
        lines[-1].append(part)
    for number, line in enumerate(lines):
        y += 14 * (number > 0)
        spans = []
        for label, text in line:
            style = ' class="changed"' if label in changed else ""
            spans.append(f"<tspan{style}>{escape(text)}</tspan>")
        joined = '<tspan class="quiet"> · </tspan>'.join(spans)
        picture.parts.append(f'<text x="{_WIDTH - 2:g}" y="{y:.1f}" text-anchor="end">{joined}</text>')
    return y


def _stack(
    picture: Drawing, x: float, y: float, length: float, blocks: int, kind: tuple[str, str], attention: str
) -> float:
    """Bars of one level on one side, from ``y`` downwards; returns where they end."""
    layers = [(kind[0], _BAR, kind[1])]
    if attention != "none":
        layers.append(("attends" if attention == "softmax" else "linear", _BAR / 2, _ATTENTION[attention]))
    for _ in range(blocks):
        for style, height, tip in layers:
            picture.add("rect", None, tip, x=x - length / 2, y=y, width=length, height=height, rx=2.0, class_=style)
            y += height + (1.0 if height == _BAR and attention != "none" else _GAP)
    return y


def _outline(picture: Drawing, centres: tuple[float, float], y: float, default: float, length: float) -> None:
    if abs(default - length) < 0.5:
        return
    for x in centres:
        picture.add(
            "rect", None, "width of the default", x=x - default / 2, y=y - 2, width=default, height=_BAR + 4, rx=3.0,
            class_="ghost",
        )  # fmt: skip


def _arrow(picture: Drawing, x: float, start: float, end: float, tip: str) -> None:
    head = 3.0 if end > start else -3.0
    picture.line([(x, start), (x, end - head / 2)], "flow", tip)
    picture.line([(x - 3, end - 2 * head / 2), (x, end), (x + 3, end - 2 * head / 2)], "flow")


def _middle(
    picture: Drawing,
    chosen: Mapping[str, Any],
    changed: Mapping[str, Any],
    length: float,
    sides: tuple[float, float],
    top: float,
) -> float:
    """The block between the ways down and up; returns where the picture ends."""
    kind = chosen.get("middle")
    if kind is None:
        return top
    y = top + 14
    centre = _WIDTH / 2
    picture.line([(sides[0], top), (sides[0], y + _BAR / 2), (centre - length / 2 - 4, y + _BAR / 2)], "flow")
    picture.line([(centre + length / 2 + 4, y + _BAR / 2), (sides[1], y + _BAR / 2), (sides[1], top)], "flow")
    if kind == "none":
        picture.line([(centre - length / 2 - 4, y + _BAR / 2), (centre + length / 2 + 4, y + _BAR / 2)], "flow")
    block, name = _kind(chosen, _levels(chosen) - 1)
    layers = {"none": (), "residual": (block, block), "attention": (block, "attends", block)}.get(str(kind), (block,))
    for layer in layers:
        height, tip = (_BAR / 2, "attention") if layer == "attends" else (_BAR, name)
        picture.add("rect", None, tip, x=centre - length / 2, y=y, width=length, height=height, rx=2.0, class_=layer)
        y += height + 1.5
    words = {"none": "no middle block", "residual": "middle: two blocks", "attention": "middle: blocks and attention"}
    text = _with_default(words.get(str(kind), f"middle: {kind}"), "middle", changed)
    y = max(y, top + 14 + _BAR) + 11
    picture.add("text", text, x=centre, y=y, text_anchor="middle", class_="changed" if "middle" in changed else "")
    return y
