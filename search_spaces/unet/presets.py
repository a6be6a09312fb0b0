"""Starts for images of 8 to 64 pixels and for latents: what each preset of the UNet space is made of.

`CHOICES` holds what all presets search beyond the stock network. To drop a value of a choice, drop it there; a choice
of which the stock value alone is left is no label of the space.
"""

from __future__ import annotations

from typing import Any

__all__ = ["CHOICES", "PRESETS", "STOCK"]

CHOICES: dict[str, tuple[Any, ...]] = {
    "blocks": ("residual", "gated", "convnext"),
    "kernels": (3, 5, 7),
    "expansion": (2, 3, 4),
    "resample": ("convolution", "pool", "shuffle"),
    "skips": ("all", "level", "added"),
    "up_depth": ("more", "same", "one"),
    "patch": (1, 2),
}
"""Option to its values; kernels larger than a level are not offered there, nor patches to images below 32 pixels."""

STOCK: dict[str, Any] = {
    "blocks": "residual",
    "kernels": 3,
    "expansion": 4,
    "resample": "convolution",
    "skips": "all",
    "up_depth": "more",
    "patch": 1,
}
"""Option to the value by which it changes nothing, as in networks that do not know it."""

_ANY, _MANY = ("none", "softmax"), ("none", "softmax", "linear")
_FULL = ("none", "linear")
"""Attention where softmax is too dear to be tried: at the full size of larger images."""


def _preset(levels: int, widths: tuple[float, ...], wide: tuple[float, ...], **options: Any) -> dict[str, Any]:
    """Options of a preset; one list holds for all levels.

    Args:
        levels: their number.
        widths: factors of every level.
        wide: factors of the first level beside these, so that it may be about as wide as the others. Of 139 random
            networks its width decided the loss most by far (docs/studies/2026-11-pays.md): what an image's pixels are
            carried in had better be wide, and the deeper levels thin.
        **options: all others that have no default in `CHOICES`.
    """
    per_level = {name: (CHOICES[name],) * levels for name in ("blocks", "kernels")}
    per_level["width_factors"] = ((*widths, *wide), *(widths,) * (levels - 1))
    per_level["depths"] = (options.pop("depths"),) * levels
    return {**CHOICES, "choices": "all", "num_classes": None, "scale_shift": True, **per_level, **options}


_EIGHT = _preset(
    2,
    sample_size=8,
    in_channels=3,
    learned_sigma=False,
    base_width=16,
    multipliers=(1, 2),
    widths=(0.5, 1.0, 1.5, 2.0),
    wide=(3.0, 4.0),
    width_multiple=8,
    depths=(1, 2, 3),
    attention=(_ANY, _ANY),
    heads=(1, 2, 4),
    middle=("none", "residual", "attention"),
    inner_width=(0.5, 1.0, 1.5),
    time_embedding=(2, 4),
    norm_groups=8,
    dropout=0.0,
    default_depth=2,
    default_attention=("none", "softmax"),
    default_heads=2,
)

PRESETS: dict[str, dict[str, Any]] = {
    "digits": {**_EIGHT, "in_channels": 1},
    "pixels8": _EIGHT,
    "pixels16": _preset(
        3,
        sample_size=16,
        in_channels=3,
        learned_sigma=False,
        base_width=16,
        multipliers=(1, 2, 2),
        widths=(0.5, 0.75, 1.0, 1.25, 1.5, 2.0),
        wide=(3.0, 4.0),
        width_multiple=8,
        depths=(1, 2, 3),
        attention=(_MANY, _ANY, _ANY),
        heads=(1, 2, 4),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 1.0, 1.5),
        time_embedding=(2, 4),
        norm_groups=8,
        dropout=0.0,
        default_depth=2,
        default_attention=("none", "softmax", "softmax"),
        default_heads=2,
    ),
    "mnist": _preset(
        3,
        sample_size=28,
        in_channels=1,
        learned_sigma=False,
        base_width=32,
        multipliers=(1, 2, 2),
        widths=(0.5, 0.75, 1.0, 1.25, 1.5),
        wide=(2.0, 3.0),
        width_multiple=8,
        depths=(1, 2, 3),
        attention=(_FULL, _ANY, _ANY),
        heads=(1, 2, 4),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 1.0, 1.5),
        time_embedding=(2, 4),
        norm_groups=8,
        dropout=0.0,
        default_depth=2,
        default_attention=("none", "none", "softmax"),
        default_heads=2,
    ),
    "cifar10": _preset(
        4,
        sample_size=32,
        in_channels=3,
        learned_sigma=True,
        base_width=128,
        multipliers=(1, 2, 2, 2),
        widths=(0.5, 0.75, 1.0, 1.25, 1.5),
        wide=(2.0,),
        width_multiple=32,
        depths=(1, 2, 3, 4),
        attention=(_FULL, _MANY, _ANY, _ANY),
        heads=(1, 2, 4, 8),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 0.75, 1.0, 1.25),
        time_embedding=(2, 4),
        norm_groups=32,
        dropout=0.3,
        default_depth=3,
        default_attention=("none", "softmax", "softmax", "none"),
        default_heads=4,
    ),
    "pixels64": _preset(
        4,
        sample_size=64,
        in_channels=3,
        learned_sigma=True,
        base_width=192,
        multipliers=(1, 2, 3, 4),
        widths=(0.25, 0.5, 0.75, 1.0, 1.25),
        wide=(1.5, 2.0),
        width_multiple=32,
        depths=(1, 2, 3, 4),
        attention=(_FULL, _MANY, _MANY, _ANY),
        heads=(1, 2, 4, 8),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 0.75, 1.0, 1.25),
        time_embedding=(2, 4),
        norm_groups=32,
        dropout=0.1,
        default_depth=3,
        default_attention=("none", "softmax", "softmax", "softmax"),
        default_heads=4,
    ),
    "latents": _preset(
        4,
        sample_size=32,
        in_channels=4,
        learned_sigma=False,
        base_width=320,
        multipliers=(1, 2, 4, 4),
        widths=(0.25, 0.5, 0.75, 1.0, 1.25),
        wide=(1.5, 2.0),
        width_multiple=32,
        depths=(1, 2, 3),
        attention=(_MANY, _MANY, _ANY, _ANY),
        heads=(4, 8, 16),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 0.75, 1.0, 1.25),
        time_embedding=(2, 4),
        norm_groups=32,
        scale_shift=False,
        dropout=0.0,
        default_depth=2,
        default_attention=("softmax", "softmax", "softmax", "none"),
        default_heads=8,
    ),
}
