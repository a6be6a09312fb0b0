"""A UNet as a picture: one bar for each layer, as long as it is wide; what differs from the default stands out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from ..api.space import Architecture, Value
from .svg import Drawing

__all__ = ["differences", "draw_unet", "is_unet"]

_LEVEL = re.compile(r"level(\d+)\.(width|depth|attention)$")
_WIDTH, _BAR, _GAP, _LONGEST = 400.0, 8.0, 3.0, 150.0
_LONG_CAPTION = 52
"""Characters of a level's choices that fit beside its scale."""


def is_unet(architecture: Mapping[str, Value]) -> bool:
    """Whether the labels are those of a UNet: ``levelI.width``, ``levelI.depth`` and perhaps ``levelI.attention``."""
    return "level0.width" in architecture and "level0.depth" in architecture


def differences(architecture: Mapping[str, Value], default: Mapping[str, Value] | None) -> dict[str, Value | None]:
    """Labels whose value differs from the default's, with the default's value (``None`` where it is absent there)."""
    if default is None:
        return {}
    return {label: default.get(label) for label, value in architecture.items() if default.get(label) != value}


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
    for level in range(levels):
        attention = bool(chosen.get(f"level{level}.attention"))
        depth = int(chosen[f"level{level}.depth"])
        y = _caption(picture, top + 11, level, chosen, changed) + 8
        _outline(picture, (left, right), y, reference[level] * unit, widths[level] * unit)
        ends = [_stack(picture, x, y, widths[level] * unit, depth + up, attention) for x, up in ((left, 0), (right, 1))]
        middle_y = y + _BAR / 2
        picture.line(
            [(left + widths[level] * unit / 2 + 4, middle_y), (right - widths[level] * unit / 2 - 4, middle_y)],
            "skip",
            "skip connection",
        )
        bottom = max(ends)
        if level + 1 < levels:
            _arrow(picture, left, ends[0], bottom + 17)
            _arrow(picture, right, bottom + 17, ends[1])
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


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_default(text: str, label: str, changed: Mapping[str, Any]) -> str:
    return f"{text} (default {_word(changed[label])})" if label in changed else text


def _caption(picture: Drawing, y: float, level: int, chosen: Mapping[str, Any], changed: Mapping[str, Any]) -> float:
    """Scale and choices of a level, in two lines where one is too short; returns where the last one stands."""
    scale = "full size" if level == 0 else f"1/{2**level} size"
    picture.add("text", scale, x=2.0, y=y, class_="quiet")
    depth, attention = int(chosen[f"level{level}.depth"]), bool(chosen.get(f"level{level}.attention"))
    words = [
        (f"level{level}.width", f"{chosen[f'level{level}.width']} channels"),
        (f"level{level}.depth", f"{depth} block{'s' * (depth != 1)}"),
        (f"level{level}.attention", "attention" if attention else "no attention"),
    ]
    said = [(label, _with_default(text, label, changed)) for label, text in words if label in chosen]
    fits = sum(len(text) for _, text in said) <= _LONG_CAPTION
    lines = [said] if fits else [said[:1], said[1:]]
    for number, line in enumerate(lines):
        y += 14 * (number > 0)
        spans = []
        for label, text in line:
            style = ' class="changed"' if label in changed else ""
            spans.append(f"<tspan{style}>{escape(text)}</tspan>")
        joined = '<tspan class="quiet"> · </tspan>'.join(spans)
        picture.parts.append(f'<text x="{_WIDTH - 2:g}" y="{y:.1f}" text-anchor="end">{joined}</text>')
    return y


def _stack(picture: Drawing, x: float, y: float, length: float, blocks: int, attention: bool) -> float:
    """Bars of one level on one side, from ``y`` downwards; returns where they end."""
    for _ in range(blocks):
        kinds = (("block", _BAR, "residual block"), ("attends", _BAR / 2, "self-attention"))
        for kind, height, tip in kinds[: 2 if attention else 1]:
            picture.add("rect", None, tip, x=x - length / 2, y=y, width=length, height=height, rx=2.0, class_=kind)
            y += height + (1.0 if kind == "block" and attention else _GAP)
    return y


def _outline(picture: Drawing, centres: tuple[float, float], y: float, default: float, length: float) -> None:
    if abs(default - length) < 0.5:
        return
    for x in centres:
        picture.add(
            "rect", None, "width of the default", x=x - default / 2, y=y - 2, width=default, height=_BAR + 4, rx=3.0,
            class_="ghost",
        )  # fmt: skip


def _arrow(picture: Drawing, x: float, start: float, end: float) -> None:
    head = 3.0 if end > start else -3.0
    picture.line([(x, start), (x, end - head / 2)], "flow")
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
    layers = {"none": (), "residual": ("block", "block"), "attention": ("block", "attends", "block")}.get(
        str(kind), ("block",)
    )
    for layer in layers:
        height = _BAR if layer == "block" else _BAR / 2
        picture.add("rect", None, x=centre - length / 2, y=y, width=length, height=height, rx=2.0, class_=layer)
        y += height + 1.5
    words = {"none": "no middle block", "residual": "middle: two blocks", "attention": "middle: blocks and attention"}
    text = _with_default(words.get(str(kind), f"middle: {kind}"), "middle", changed)
    y = max(y, top + 14 + _BAR) + 11
    picture.add("text", text, x=centre, y=y, text_anchor="middle", class_="changed" if "middle" in changed else "")
    return y
