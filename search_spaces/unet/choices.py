"""The `Space` of the UNet family: labels, values, data flow, conditions, and what version 0.1 did not have."""

from __future__ import annotations

from typing import Any

from nni_diffnas.api.space import Condition, Space, Value

from .options import UNetOptions
from .presets import STOCK

__all__ = ["describe_label", "multiple", "space_of", "widths_of"]

_MEANINGS = {
    "time_embedding": "width of the time embedding that every residual layer reads",
    "patch": "pixels on a side of the patches that the stem makes one pixel of its feature map: 2 halves all maps",
    "resample": "what leads from level to level: a 3x3 convolution; pool, the mean of 2x2 pixels or their repetition "
    "with a 1x1 convolution; or shuffle, 2x2 pixels as channels with a 1x1 convolution",
    "skips": "what the way up reads of the way down: all layers concatenated, one concatenated a level, or one added a "
    "level",
    "up_depth": "residual layers of a level on the way up: one more than on the way down, the same, or one",
    "inner_width": "channels between the two convolutions of a residual or gated block, as a factor of its width",
    "expansion": "channels between the two 1x1 convolutions of a convnext block, as a factor of its width",
    "middle": "block at the smallest resolution: none, two residual layers, or these with attention between them",
    "heads": "heads of every attention layer, each of width / heads channels",
    "width": "channels",
    "depth": "residual layers (one more on the way up, if up_depth says nothing else)",
    "block": "kind of the residual layers: residual, two 3x3 convolutions as in diffusers; gated, these with response "
    "normalisation and a gate from the time embedding; convnext, a depthwise convolution and two 1x1 convolutions "
    "with response normalisation and a gate",
    "kernel": "height and width of the depthwise convolutions",
    "attention": "self-attention after each residual layer: none, softmax, or linear in the number of pixels",
}


def describe_label(options: UNetOptions, label: str) -> str:
    """One line on what a label means; a level's pixels stand with its width."""
    level, _, what = label.rpartition(".")
    if what != "width":
        return _MEANINGS[what]
    side = (options.sample_size // max(options.patch)) >> int(level.removeprefix("level"))
    scale = f"{side}x{side} pixels" if max(options.patch) == 1 else f"{side}x{side} pixels or twice that, by the patch"
    return f"{_MEANINGS[what]} at {scale}, on the way down and up"


def multiple(width: float, of: int) -> int:
    """The nearest positive multiple."""
    return max(of, round(width / of) * of)


def widths_of(o: UNetOptions) -> tuple[tuple[int, ...], ...]:
    """Choices of channels per level, rounded to the multiple and free of repetitions."""
    return tuple(
        tuple(dict.fromkeys(multiple(o.base_width * multiplier * factor, o.width_multiple) for factor in factors))
        for multiplier, factors in zip(o.multipliers, o.width_factors, strict=True)
    )


def space_of(o: UNetOptions) -> Space:
    """The choices, their data flow and conditions."""
    offered = _offered(o)
    labels = (*_BEFORE, *(f"level{level}.{what}" for level in range(o.levels) for what in _LEVEL), *_BEHIND)
    choices = {label: offered[label] for label in labels if label in offered}
    return Space(
        choices,
        tuple(edge for edge in _edges(o.levels) if edge[0] in choices and edge[1] in choices),
        _conditions(o, choices),
        stock={label: STOCK[option] for label, option in _younger(o.levels) if label in choices},
        former={f"level{level}.attention": ((False, "none"), (True, "softmax")) for level in range(o.levels)},
    )


_BEFORE = ("time_embedding", "patch", "resample", "skips", "up_depth")
_LEVEL = ("width", "depth", "block", "kernel", "attention")
_BEHIND = ("inner_width", "expansion", "middle", "heads")


def _younger(levels: int) -> list[tuple[str, str]]:
    """Labels that version 0.1 did not have, each with the option that lists its values."""
    per_level = [(f"level{level}.{what}", f"{what}s") for level in range(levels) for what in ("block", "kernel")]
    return [*per_level, *((name, name) for name in ("expansion", "resample", "skips", "up_depth", "patch"))]


def _offered(o: UNetOptions) -> dict[str, tuple[Value, ...]]:
    """Label to its values; a choice of which the stock value alone is left is none."""
    found: dict[str, tuple[Any, ...]] = {
        "time_embedding": tuple(dict.fromkeys(multiple(o.base_width * factor, 1) for factor in o.time_embedding)),
        "middle": o.middle,
    }
    for level in range(o.levels):
        found |= {
            f"level{level}.width": widths_of(o)[level],
            f"level{level}.depth": o.depths[level],
            f"level{level}.attention": o.attention[level],
        }
    if any(value != "convnext" for values in o.blocks for value in values):
        found["inner_width"] = o.inner_width
    attends = any(value != "none" for values in o.attention for value in values) or "attention" in o.middle
    if attends:
        found["heads"] = o.heads
    for label, option in _younger(o.levels):
        at, _, _ = label.rpartition(".")
        values = getattr(o, option)[int(at.removeprefix("level"))] if at else getattr(o, option)
        if values != (STOCK[option],) and _is_read(o, option, at):
            found[label] = values
    return {label: tuple(dict.fromkeys(values)) for label, values in found.items()}


def _is_read(o: UNetOptions, option: str, level: str) -> bool:
    """Whether some network of the space reads an option, at this level if it has one."""
    if option == "kernels":
        return "convnext" in o.blocks[int(level.removeprefix("level"))]
    if option == "expansion":
        return any("convnext" in values for values in o.blocks)
    return option != "up_depth" or set(o.skips) != {"all"}


def _edges(levels: int) -> list[tuple[str, str]]:
    """What flows from label to label, where all choices are labels."""
    edges = [("skips", "up_depth"), ("patch", "level0.width")]
    for level in range(levels):
        width, depth, block, kernel, attention = (f"level{level}.{what}" for what in _LEVEL)
        edges += [("time_embedding", depth), (width, depth), (depth, block), (block, kernel), (depth, attention)]
        edges += [("skips", depth), ("up_depth", depth), (block, attention), (kernel, attention)]
        edges += [(depth, "inner_width"), (block, "inner_width"), (block, "expansion")]
        # What leaves a level goes down to the next one, and, as a skip, past all deeper ones.
        if level + 1 < levels:
            edges += [(attention, f"level{level + 1}.width"), ("resample", f"level{level + 1}.width")]
        edges += [(attention, "middle"), (attention, "heads")]
    return [
        *edges,
        ("time_embedding", "middle"),
        ("inner_width", "middle"),
        ("expansion", "middle"),
        ("middle", "heads"),
    ]


def _conditions(o: UNetOptions, choices: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Condition, ...]]:
    """When a label is read at all; conditions that always hold are left out."""

    def where(wanted: tuple[str, ...], what: str) -> tuple[Condition, ...]:
        labels = [f"level{level}.{what}" for level in range(o.levels)]
        met = [(label, tuple(v for v in choices.get(label, ()) if v in wanted)) for label in labels]
        return tuple((label, values) for label, values in met if values)

    found: dict[str, tuple[Condition, ...]] = {}
    for level in range(o.levels):
        if f"level{level}.kernel" in choices:
            found[f"level{level}.kernel"] = ((f"level{level}.block", ("convnext",)),)
    if "expansion" in choices:
        found["expansion"] = where(("convnext",), "block")
    if "up_depth" in choices and "all" in choices.get("skips", ()):
        found["up_depth"] = (("skips", tuple(value for value in choices["skips"] if value != "all")),)
    if "inner_width" in choices and all("convnext" in values for values in o.blocks):
        found["inner_width"] = where(("residual", "gated"), "block")
    if "heads" in choices:
        attends = where(("softmax", "linear"), "attention")
        found["heads"] = (*attends, *([("middle", ("attention",))] if "attention" in choices["middle"] else []))
    return {label: conditions for label, conditions in found.items() if conditions}
