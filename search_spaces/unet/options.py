"""Options of the UNet search space: presets, what a job may override, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_args

from nni_diffnas.api.errors import SpaceError

from .plan import Middle

__all__ = ["PRESETS", "UNetOptions", "read_options"]


@dataclass(frozen=True)
class UNetOptions:
    """What a UNet search space is made of; the ``space`` section of a job.

    A choice "per level" is one list for all levels, or one list for each.

    Args:
        sample_size: height and width of the images, in pixels; divisible by ``2 ** (levels - 1)``.
        in_channels: channels of the images.
        num_classes: condition the network on so many class labels; ``None`` for none.
        learned_sigma: also predict the variance of each step (IDDPM): twice as many output channels as input channels.
        base_width: channels that the factors below refer to.
        multipliers: of the base width, one per level; their number is the number of levels.
        width_factors: choices of a level's width per level, as factors of its base width.
        width_multiple: widths are rounded to a multiple of this; every choice of heads divides it.
        depths: choices of residual blocks per level.
        attention: choices of attention per level.
        heads: choices of attention heads.
        middle: choices of the middle block, among ``none``, ``residual``, ``attention``.
        inner_width: choices of the width between the two convolutions of a block, as factors of the block's width.
        time_embedding: choices of the time embedding's width, as factors of the base width.
        norm_groups: groups of each normalisation; the greatest common divisor with the channels where they do not
            divide these.
        scale_shift: whether the time embedding scales and shifts the features (IDDPM), or is only added.
        dropout: probability in the residual blocks, in [0, 1).
        default_depth: blocks per level of the default network.
        default_attention: attention per level of the default network.
        default_heads: of the default network.
    """

    sample_size: int
    in_channels: int
    num_classes: int | None
    learned_sigma: bool
    base_width: int
    multipliers: tuple[float, ...]
    width_factors: tuple[tuple[float, ...], ...]
    width_multiple: int
    depths: tuple[tuple[int, ...], ...]
    attention: tuple[tuple[bool, ...], ...]
    heads: tuple[int, ...]
    middle: tuple[Middle, ...]
    inner_width: tuple[float, ...]
    time_embedding: tuple[float, ...]
    norm_groups: int
    scale_shift: bool
    dropout: float
    default_depth: int
    default_attention: tuple[bool, ...]
    default_heads: int

    def __post_init__(self) -> None:
        for name in ("sample_size", "in_channels", "base_width", "width_multiple", "norm_groups"):
            _check(name, getattr(self, name), int, low=1)
        if self.num_classes is not None:
            _check("num_classes", self.num_classes, int, low=1)
        for name in ("learned_sigma", "scale_shift"):
            _check(name, getattr(self, name), bool)
        _check("dropout", self.dropout, float, low=0.0)
        if self.dropout >= 1:
            raise SpaceError(f"The space's dropout is {self.dropout}: give a probability below 1.")
        for name, kind in (("multipliers", float), ("inner_width", float), ("time_embedding", float), ("heads", int)):
            _check_choices(name, getattr(self, name), kind)
        for name, kind in (("width_factors", float), ("depths", int), ("attention", bool)):
            if len(getattr(self, name)) != self.levels:
                raise SpaceError(
                    f"The space's {name} has {len(getattr(self, name))} lists for {self.levels} levels "
                    f"(the number of multipliers): give one list for all, or one per level."
                )
            for choices in getattr(self, name):
                _check_choices(name, choices, kind)
        _check("default_depth", self.default_depth, int, low=1)
        _check("default_heads", self.default_heads, int, low=1)
        for attends in self.default_attention:
            _check("default_attention", attends, bool)
        for middle in self.middle:
            if middle not in get_args(Middle):
                raise SpaceError(f"The space's middle has {middle!r}: choose among {', '.join(get_args(Middle))}.")
        if not self.middle:
            raise SpaceError("The space's middle is empty: give at least one choice.")
        if self.sample_size % (1 << (self.levels - 1)):
            raise SpaceError(
                f"Images of {self.sample_size} pixels cannot be halved {self.levels - 1} times: "
                f"give fewer multipliers, or a sample_size divisible by {1 << (self.levels - 1)}."
            )
        for heads in self.heads:
            if self.width_multiple % heads:
                raise SpaceError(
                    f"{heads} heads do not divide widths that are multiples of {self.width_multiple}: "
                    f"choose heads that divide width_multiple."
                )

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.multipliers)


def _check(name: str, value: object, kind: type, low: float | None = None) -> None:
    """Refuse what is not of a kind (``int`` passes as ``float``, ``bool`` only as ``bool``) or below ``low``."""
    kinds: tuple[type, ...] = (int, float) if kind is float else (kind,)
    fits = isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))
    if not fits or (low is not None and value < low):  # type: ignore[operator]
        bound = "" if low is None else f" of at least {low}"
        raise SpaceError(f"The space's {name} is {value!r}: give {_NOUNS[kind]}{bound}.")


_NOUNS = {int: "a whole number", float: "a number", bool: "true or false"}


def _check_choices(name: str, choices: object, kind: type) -> None:
    if not isinstance(choices, tuple):
        raise SpaceError(
            f"The space's {name} mixes {choices!r} with lists: give one list for all levels, or one for each."
        )
    if not choices:
        raise SpaceError(f"The space's {name} is empty: give at least one choice.")
    for value in choices:
        _check(name, value, kind, low=None if kind is bool else 1 if kind is int else 1e-3)


PRESETS: dict[str, UNetOptions] = {
    "digits": UNetOptions(
        sample_size=8,
        in_channels=1,
        num_classes=None,
        learned_sigma=False,
        base_width=16,
        multipliers=(1, 2),
        width_factors=((0.5, 1.0, 1.5, 2.0),) * 2,
        width_multiple=8,
        depths=((1, 2, 3),) * 2,
        attention=((False, True),) * 2,
        heads=(1, 2, 4),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 1.0, 1.5),
        time_embedding=(2, 4),
        norm_groups=8,
        scale_shift=True,
        dropout=0.0,
        default_depth=2,
        default_attention=(False, True),
        default_heads=2,
    ),
    "mnist": UNetOptions(
        sample_size=28,
        in_channels=1,
        num_classes=None,
        learned_sigma=False,
        base_width=32,
        multipliers=(1, 2, 2),
        width_factors=((0.5, 0.75, 1.0, 1.25, 1.5),) * 3,
        width_multiple=8,
        depths=((1, 2, 3),) * 3,
        attention=((False,), (False, True), (False, True)),
        heads=(1, 2, 4),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 1.0, 1.5),
        time_embedding=(2, 4),
        norm_groups=8,
        scale_shift=True,
        dropout=0.0,
        default_depth=2,
        default_attention=(False, False, True),
        default_heads=2,
    ),
    "cifar10": UNetOptions(
        sample_size=32,
        in_channels=3,
        num_classes=None,
        learned_sigma=True,
        base_width=128,
        multipliers=(1, 2, 2, 2),
        width_factors=((0.5, 0.75, 1.0, 1.25, 1.5),) * 4,
        width_multiple=32,
        depths=((1, 2, 3, 4),) * 4,
        attention=((False,), (False, True), (False, True), (False, True)),
        heads=(1, 2, 4, 8),
        middle=("none", "residual", "attention"),
        inner_width=(0.5, 0.75, 1.0, 1.25),
        time_embedding=(2, 4),
        norm_groups=32,
        scale_shift=True,
        dropout=0.3,
        default_depth=3,
        default_attention=(False, True, True, False),
        default_heads=4,
    ),
}

_PER_LEVEL = ("width_factors", "depths", "attention")
_LISTS = (*_PER_LEVEL, "multipliers", "heads", "middle", "inner_width", "time_embedding", "default_attention")


def read_options(preset: str, overrides: Mapping[str, Any]) -> UNetOptions:
    """Apply a job's overrides to a preset.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """
    if preset not in PRESETS:
        raise SpaceError(f"Unknown UNet preset {preset!r}: choose one of {', '.join(PRESETS)}.")
    base = PRESETS[preset]
    known = [field.name for field in fields(UNetOptions)]
    changes: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in known:
            raise SpaceError(f"Unknown option {name!r} of the UNet space: choose among preset, {', '.join(known)}.")
        changes[name] = _as_choices(name, value) if name in _LISTS else value
    levels = len(changes.get("multipliers", base.multipliers))
    for name in _PER_LEVEL:
        # One list holds for every level; the preset's own lists are stretched by their last one.
        choices = changes.get(name, getattr(base, name))
        if not any(isinstance(item, tuple) for item in choices):
            changes[name] = (choices,) * levels
        elif name not in changes:
            changes[name] = _stretch(choices, levels)
    changes["default_attention"] = _stretch(changes.get("default_attention", base.default_attention), levels)
    return replace(base, **changes)


def _stretch(values: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return (values + values[-1:] * length)[:length]


def _as_choices(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SpaceError(f"The space's {name} is {value!r}: give a list of choices.")
    return tuple(_as_choices(name, item) if isinstance(item, list | tuple) else item for item in value)
