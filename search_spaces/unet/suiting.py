"""Which preset suits images of a size, for those who do not want to choose."""

from __future__ import annotations

from typing import Any

from nni_diffnas.api.errors import SpaceError

from .presets import PRESETS

__all__ = ["options_for"]

_UP_TO = {"pixels8": 12, "pixels16": 20, "mnist": 31, "cifar10": 47, "pixels64": 128}
"""Preset to the largest side of its images, in pixels."""

_SMALLEST = 4


def options_for(channels: int, height: int, width: int, preset: str | None = None) -> dict[str, Any]:
    """Options of the UNet space for images of this shape.

    Args:
        channels: of the images.
        height: in pixels.
        width: in pixels.
        preset: named by the user; by default the one that was made for about this size.

    Returns:
        ``preset``, ``sample_size`` and ``in_channels``; also what makes an IDDPM preset train by any recipe.

    Raises:
        SpaceError: the images are not square, too small or too large, cannot be halved as often as the preset does, or
            there is no such preset.
    """
    shape = f"{width}x{height} pixels"
    if height != width:
        side = max(4, min(height, width, 16) // 8 * 8)  # what a CPU searches in an evening
        raise SpaceError(
            f"The images have {shape} and networks are for square ones: give a size, such as {side}, to which the "
            f"central square of each is resized."
        )
    name = preset or next((name for name, largest in _UP_TO.items() if width <= largest), "")
    if not name or width < _SMALLEST:
        raise SpaceError(
            f"The images have {shape}, and there are networks for {_SMALLEST} to {max(_UP_TO.values())} on a side: "
            f"give a size, to which they are resized."
        )
    if name not in PRESETS:
        raise SpaceError(f"Unknown UNet preset {name!r}: choose one of {', '.join(PRESETS)}.")
    unit = 1 << (len(PRESETS[name]["multipliers"]) - 1)
    if width % unit:
        raise SpaceError(
            f"The images have {shape}, which the networks of preset {name!r} cannot halve {unit.bit_length() - 1} "
            f"times: give the size {max(width // unit * unit, unit)}, to which they are resized, or another preset."
        )
    options: dict[str, Any] = {"preset": name, "sample_size": width, "in_channels": channels}
    plain = {"learned_sigma": False, "dropout": 0.0}
    return options | {key: value for key, value in plain.items() if PRESETS[name][key] != value}
