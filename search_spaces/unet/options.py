"""Options of the UNet search space: presets, what a job may override, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nni_diffnas.api.errors import SpaceError

from .plan import Middle

__all__ = ["PRESETS", "UNetOptions", "read_options"]


Choice = TypeVar("Choice")
Count = Annotated[int, Field(ge=1)]
Factor = Annotated[int | float, Field(ge=1e-3)]
Choices = Annotated[tuple[Choice, ...], Field(min_length=1)]
Levels = tuple[Choices[Choice], ...]
"""A list of choices for each level."""


class UNetOptions(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sample_size: Count
    in_channels: Count
    num_classes: Count | None
    learned_sigma: bool
    base_width: Count
    multipliers: Choices[Factor]
    width_factors: Levels[Factor]
    width_multiple: Count
    depths: Levels[Count]
    attention: Levels[bool]
    heads: Choices[Count]
    middle: Choices[Middle]
    inner_width: Choices[Factor]
    time_embedding: Choices[Factor]
    norm_groups: Count
    scale_shift: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    default_depth: Count
    default_attention: tuple[bool, ...]
    default_heads: Count

    @model_validator(mode="after")
    def _fits(self) -> UNetOptions:
        for name in _PER_LEVEL:
            if len(getattr(self, name)) != self.levels:
                raise SpaceError(
                    f"The space's {name} has {len(getattr(self, name))} lists for {self.levels} levels "
                    f"(the number of multipliers): give one list for all, or one per level."
                )
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
        return self

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self.multipliers)


_PER_LEVEL = ("width_factors", "depths", "attention")
_LISTS = (*_PER_LEVEL, "multipliers", "heads", "middle", "inner_width", "time_embedding", "default_attention")


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


def read_options(preset: str, overrides: Mapping[str, Any]) -> UNetOptions:
    """Apply a job's overrides to a preset.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """
    if preset not in PRESETS:
        raise SpaceError(f"Unknown UNet preset {preset!r}: choose one of {', '.join(PRESETS)}.")
    base = PRESETS[preset]
    changes = {name: _as_choices(name, value) if name in _LISTS else value for name, value in overrides.items()}
    levels = len(changes.get("multipliers", base.multipliers))
    for name in _PER_LEVEL:
        # One list holds for every level; the preset's own lists are stretched by their last one.
        choices = changes.get(name, getattr(base, name))
        if not any(isinstance(item, tuple) for item in choices):
            changes[name] = (choices,) * levels
        elif name not in changes:
            changes[name] = _stretch(choices, levels)
    changes["default_attention"] = _stretch(changes.get("default_attention", base.default_attention), levels)
    try:
        return UNetOptions.model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise SpaceError(_sentence(error)) from error


def _stretch(values: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return (values + values[-1:] * length)[:length]


def _as_choices(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SpaceError(f"The space's {name} is {value!r}: give a list of choices.")
    return tuple(_as_choices(name, item) if isinstance(item, list | tuple) else item for item in value)


_REMEDIES = {
    "bool_type": "give true or false",
    "float_type": "give a number",
    "greater_than_equal": "give a number of at least {ge}",
    "int_type": "give a whole number",
    "less_than": "give a number below {lt}",
    "literal_error": "choose among {expected}",
    "too_short": "give at least one choice",
    "tuple_type": "give one list for all levels, or one for each",
}


def _sentence(error: ValidationError) -> str:
    """The first finding in our words: field, value, remedy."""
    first = error.errors()[0]
    name, kind, given = str(*first["loc"][:1]), first["type"], first.get("ctx", {})
    if first["loc"][-1:] == ("int",):  # the first of the two kinds of a factor
        kind = "float_type"
    if kind == "value_error":  # of `UNetOptions._fits`
        return str(given["error"])
    if kind == "extra_forbidden":
        known = ", ".join(UNetOptions.model_fields)
        return f"Unknown option {name!r} of the UNet space: choose among preset, {known}."
    value = "empty" if kind == "too_short" else repr(first["input"])
    return f"The space's {name} is {value}: {_REMEDIES.get(kind, first['msg']).format(**given)}."
