"""`Settings`: the ``evaluator`` section of a job, and how what a job says becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.section import Section

from .sampling.solvers import Spacing
from .scores.features import ExtractorKind
from .scores.scoring import ReferenceName
from .training.compute import DeviceName
from .training.recipe import Recipe

__all__ = ["Settings", "spacing_of", "validated"]

Model = TypeVar("Model", bound=BaseModel)


class Settings(Section):
    """The ``evaluator`` section of a job.

    Args:
        training: how networks are trained, and for how long.
        extractor: feature space of the distance.
        extractor_weights: file of the Inception weights.
        extractor_seed: of the ``labels`` and ``random`` networks.
        score_images: generated for the final score.
        sampler: ``dpm-solver++``, ``ddim``, or any scheduler of diffusers by the name of its class.
        sampler_steps: network evaluations an image.
        spacing: of the timesteps of ``dpm-solver++`` and ``ddim``, see `sampling_timesteps`; unset: ``log-snr``, and
            ``trailing`` where ``data.split`` is ``position``, since both were so in experiments of version 0.1. With
            ``trailing`` the noises are drawn one by one, too, not in antithetic pairs.
        sampling_batch: images generated at once; halved while the memory does not suffice.
        reference: part of the data that samples are compared with.
        reference_images: so many of them, drawn by chance. Unset: all.
        curve_points: how many of the intermediate reports carry scores, evenly spread.
        curve_images: generated for each of these; 0: none, so that they carry no RFID.
        loss_images: noised to each of 8 levels for ``held_out_loss``, at the end and at each of these points; 0: none.
            Each costs 8 forward passes, as much as 3 images of training.
        gap_training: length of the training of the reference denoiser, relative to a trial's, for ``prediction_gap``,
            which is measured where ``held_out_loss`` is; 0: none. The first trial trains it.
        threads: of the CPU. Unset: ``OMP_NUM_THREADS``, else 1, so that concurrent trials do not hinder each other.
        device: ``auto`` takes a CUDA GPU where there is one.
    """

    training: Recipe = Recipe(images=16_000)
    extractor: ExtractorKind = "labels"
    extractor_weights: Path | None = None
    extractor_seed: int = 0
    score_images: int = Field(default=1000, ge=2)
    sampler: str = "dpm-solver++"
    sampler_steps: int = Field(default=10, ge=1)
    spacing: Spacing | None = None
    sampling_batch: int = Field(default=256, ge=1)
    reference: ReferenceName = "training"
    reference_images: int | None = Field(default=None, ge=2)
    curve_points: int = Field(default=3, ge=0)
    curve_images: int = Field(default=200, ge=0)
    loss_images: int = Field(default=128, ge=0)
    gap_training: float = Field(default=0.0, ge=0)
    threads: int | None = Field(default=None, ge=1, le=1024)
    device: DeviceName = "auto"

    @field_validator("curve_images")
    @classmethod
    def _enough(cls, images: int) -> int:
        if images == 1:
            raise ValueError("a distance needs two images at least: give 2 or more, or 0 for none")
        return images

    @model_validator(mode="after")
    def _noised(self) -> Self:
        if self.gap_training and not self.loss_images:
            raise ValueError("gap_training compares predictions for loss_images, which is 0: raise it or leave it out")
        return self


def spacing_of(asked: Spacing | None, split: str) -> Spacing:
    """Spacing of our solvers' timesteps: as asked, else by the rules that go with the data's split; see `Settings`."""
    return asked or ("trailing" if split == "position" else "log-snr")


def validated(kind: type[Model], section: str, values: Mapping[str, Any]) -> Model:
    """Settings from what a job says in a section.

    Raises:
        JobError: an unknown field, or a value out of range.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([section, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise JobError(f"{field} is no option: the options of {section} are {known}.") from error
        raise JobError(f"{field} is {first['input']!r}, which does not fit: {first['msg']}.") from error
