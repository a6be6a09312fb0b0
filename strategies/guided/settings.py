"""`GuidedSettings`: what a user says of `DiffusionGuided`, checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nni_diffnas.api.errors import StrategyError

__all__ = ["GuidedSettings", "read_settings"]


class GuidedSettings(BaseModel):
    """Options of `DiffusionGuided`, where they are explained."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    unguided: Annotated[int, Field(ge=2)] = 4
    starts: Literal["prior", "spread", "random"] = "prior"
    strength: Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)] | None = None
    candidates: Annotated[int, Field(ge=2)] = 96
    surrogate: Literal["gp", "ensemble"] = "gp"
    guidance: Literal["denoised", "noise-aware"] = "denoised"
    objectives: Annotated[tuple[str, ...], Field(strict=False)] = ()
    promote: bool = False
    sampler_steps: Annotated[int, Field(ge=2)] = 8
    training_steps: Annotated[int, Field(ge=1)] = 200


def read_settings(given: Mapping[str, Any], objective: str) -> GuidedSettings:
    """The settings, what is not given by default.

    Args:
        given: name to value.
        objective: metric of the search, which is no further objective.

    Raises:
        StrategyError: an option out of range; one sentence.
    """
    try:
        settings = GuidedSettings.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise StrategyError(f"{name} is {first['input']!r}, which does not fit: {first['msg']}.") from error
    if objective in settings.objectives:
        raise StrategyError(f"objectives is {settings.objectives!r}: list further metrics, without {objective}.")
    return settings
