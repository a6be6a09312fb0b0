"""Options of the UNet search space: presets, what a job may override, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nni_diffnas.api.errors import SpaceError

from .layers import Resample, Skips
from .plan import KERNELS, Attention, BlockKind, Middle, UpDepth
from .presets import PRESETS, STOCK

__all__ = ["UNetOptions", "read_options"]


Choice = TypeVar("Choice")
Count = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=1, le=100)]
Factor = Annotated[int | float, Field(ge=1e-3)]
NonEmpty = Annotated[tuple[Choice, ...], Field(min_length=1)]
Levels = tuple[NonEmpty[Choice], ...]
"""A list of choices for each level."""


class UNetOptions(BaseModel):
    """What a UNet search space is made of; the ``space`` section of a job.

    A choice "per level" is one list for all levels, or one list for each.

    Args:
        choices: ``all``, or ``stock`` for what there was to choose in version 0.1: widths, depths, inner width, heads,
            middle, time embedding and softmax attention of diffusers' residual blocks, everything below left at stock.
        sample_size: height and width of the images, in pixels; divisible by ``patch * 2 ** (levels - 1)``.
        in_channels: channels of the images.
        num_classes: condition the network on so many class labels; ``None`` for none.
        learned_sigma: also predict the variance of each step (IDDPM): twice as many output channels as input channels.
        base_width: channels that the factors below refer to.
        multipliers: of the base width, one per level; their number is the number of levels.
        width_factors: choices of a level's width per level, as factors of its base width.
        width_multiple: widths are rounded to a multiple of this; every choice of heads divides it.
        depths: choices of residual layers per level on the way down.
        attention: choices of attention per level, among ``none``, ``softmax`` and ``linear``; false and true stand for
            the first two.
        blocks: choices of the kind of residual layers per level, among ``residual``, ``gated`` and ``convnext``.
        kernels: choices of the depthwise kernel per level where the block is ``convnext``, among 3, 5, 7; 5 and
            7 only where the level's feature map is as large.
        expansion: choices of the expansion of ``convnext`` blocks, among 2, 3, 4.
        resample: choices of what leads from level to level, among ``convolution``, ``pool`` and ``shuffle``.
        skips: choices of what the way up reads of the way down, among ``all``, ``level`` and ``added``.
        up_depth: choices of the depth of the way up where not all skips are read: one ``more``, the ``same``, ``one``.
        patch: choices of the patch that the stem makes one pixel of, among 1 and 2.
        heads: choices of attention heads.
        middle: choices of the middle block, among ``none``, ``residual``, ``attention``.
        inner_width: choices of the width between the two convolutions of a residual or gated block, as factors of the
            block's width.
        time_embedding: choices of the time embedding's width, as factors of the base width.
        norm_groups: groups of each normalisation; the greatest common divisor with the channels where they do not
            divide these.
        scale_shift: whether the time embedding scales and shifts the features of residual blocks (IDDPM), or is only
            added.
        dropout: probability in the residual blocks, in [0, 1).
        default_depth: blocks per level of the default network.
        default_attention: attention per level of the default network.
        default_heads: of the default network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    choices: Literal["all", "stock"]
    sample_size: Count
    in_channels: Count
    num_classes: Count | None
    learned_sigma: bool
    base_width: Count
    multipliers: NonEmpty[Factor]
    width_factors: Levels[Factor]
    width_multiple: Count
    depths: Levels[Depth]
    attention: Levels[Attention]
    blocks: Levels[BlockKind]
    kernels: Levels[Literal[3, 5, 7]]
    expansion: NonEmpty[Literal[2, 3, 4]]
    resample: NonEmpty[Resample]
    skips: NonEmpty[Skips]
    up_depth: NonEmpty[UpDepth]
    patch: NonEmpty[Literal[1, 2]]
    heads: NonEmpty[Count]
    middle: NonEmpty[Middle]
    inner_width: NonEmpty[Factor]
    time_embedding: NonEmpty[Factor]
    norm_groups: Count
    scale_shift: bool
    dropout: Annotated[float, Field(ge=0, lt=1)]
    default_depth: Depth
    default_attention: tuple[Attention, ...]
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
        if self.sample_size % (max(self.patch) << (self.levels - 1)):
            raise SpaceError(
                f"Images of {self.sample_size} pixels cannot be cut into patches of {max(self.patch)} and then halved "
                f"{self.levels - 1} times: set patch to [1], or give fewer multipliers."
            )
        for level, (blocks, kernels) in enumerate(zip(self.blocks, self.kernels, strict=True)):
            largest = self.largest_kernel(level)
            if "convnext" in blocks and max(kernels) > largest:
                raise SpaceError(
                    f"The space's kernels has {max(kernels)} for level {level}, whose feature map may have only "
                    f"{self.side(level)} pixels on a side: give kernels of at most {largest} there."
                )
        if self.choices == "stock":
            for name, stock in STOCK.items():
                offered = getattr(self, name)
                values = {value for each in offered for value in (each if isinstance(each, tuple) else (each,))}
                if name not in _IDLE and values != {stock}:
                    raise SpaceError(
                        f"The space's choices is 'stock', but its {name} has {sorted(map(str, values))}: leave one out."
                    )
            if any("linear" in values for values in self.attention):
                raise SpaceError("The space's choices is 'stock', but its attention has 'linear': leave one out.")
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

    def side(self, level: int) -> int:
        """The smallest side that a level's feature map can have, in pixels."""
        return (self.sample_size // max(self.patch)) >> level

    def largest_kernel(self, level: int) -> int:
        """The largest kernel that a level can have; 3 goes with any feature map, as in the stock network."""
        return max(self.side(level), KERNELS[0])


_PER_LEVEL = ("width_factors", "depths", "attention", "blocks", "kernels")
_LISTS = (
    *(*_PER_LEVEL, "multipliers", "heads", "middle", "inner_width", "time_embedding", "default_attention"),
    *("expansion", "resample", "skips", "up_depth", "patch"),
)
_IDLE = ("kernels", "expansion", "up_depth")
"""What nothing reads where the other choices are stock."""

_SMALLEST_PATCHED = 32
"""Images of fewer pixels are not cut into patches unless a job asks for it."""


def read_options(preset: str, overrides: Mapping[str, Any]) -> UNetOptions:
    """Apply a job's overrides to a preset.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """
    if preset not in PRESETS:
        raise SpaceError(f"Unknown UNet preset {preset!r}: choose one of {', '.join(PRESETS)}.")
    base = PRESETS[preset]
    changes = {name: _as_choices(name, value) if name in _LISTS else value for name, value in overrides.items()}
    for name in ("attention", "default_attention"):
        if name in changes:
            changes[name] = _in_words(changes[name])
    levels = len(changes.get("multipliers", base["multipliers"]))
    for name in _PER_LEVEL:
        # One list holds for every level; the preset's own lists are stretched by their last one.
        choices = changes.get(name, base[name])
        if not any(isinstance(item, tuple) for item in choices):
            changes[name] = (choices,) * levels
        elif name not in changes:
            changes[name] = _stretch(choices, levels)
    changes["default_attention"] = _stretch(changes.get("default_attention", base["default_attention"]), levels)
    try:
        options = UNetOptions.model_validate({**base, **changes, **_fitting({**base, **changes}, overrides)})
    except ValidationError as error:
        raise SpaceError(_sentence(error)) from error
    return options


def _fitting(options: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of the preset's own choices on these images, and where the job wants stock only."""
    found: dict[str, Any] = {}
    levels, size = max(len(options["multipliers"]), 1), options["sample_size"]
    if options.get("choices") == "stock":
        for name in ("blocks", "resample", "skips", "patch"):
            found[name] = ((STOCK[name],),) * levels if name in _PER_LEVEL else (STOCK[name],)
        found["attention"] = tuple(
            tuple(value for value in values if value != "linear") for values in options["attention"]
        )
        found["width_factors"] = (options["width_factors"][-1],) * levels
    elif isinstance(size, int) and (size < _SMALLEST_PATCHED or size % (2 << (levels - 1))):
        found["patch"] = (1,)
    found = {name: values for name, values in found.items() if name not in overrides}
    if "kernels" not in overrides and isinstance(size, int):
        patch = 2 if 2 in found.get("patch", options["patch"]) else 1
        found["kernels"] = tuple(
            tuple(kernel for kernel in values if kernel <= max(KERNELS[0], (size // patch) >> level))
            for level, values in enumerate(options["kernels"])
        )
    return found


def _in_words(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Truth values of attention, as version 0.1 wrote them, become words."""
    words = {False: "none", True: "softmax"}
    return tuple(
        _in_words(value) if isinstance(value, tuple) else words[value] if isinstance(value, bool) else value
        for value in values
    )


def _stretch(values: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return (values + values[-1:] * length)[:length]


def _as_choices(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SpaceError(f"The space's {name} is {value!r}: give a list of choices.")
    return tuple(_as_choices(name, item) if isinstance(item, list | tuple) else item for item in value)


_REMEDIES = {
    "bool_type": "give true or false",
    "finite_number": "give a number",
    "float_type": "give a number",
    "greater_than_equal": "give a number of at least {ge}",
    "int_type": "give a whole number",
    "less_than_equal": "give a number of at most {le}",
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
