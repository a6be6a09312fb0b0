"""`DataSettings`: the ``data`` section of a job that learns from images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from nni_diffnas.api.paths import MadeIfMissing, Names
from nni_diffnas.api.section import Section
from nni_diffnas.job import NAMED_SOURCES

__all__ = ["DataSettings"]


class DataSettings(Section):
    """The ``data`` section of a job.

    Args:
        source: ``digits`` (scikit-learn's 1,797 real handwritten digits, 8x8), ``patches`` (8,480 squares of 8x8
            pixels, in colour, of the two photographs that scikit-learn brings), torchvision's ``cifar10`` or
            ``mnist``, or a path: a folder of images or of class folders, a zip or tar of either, an ``.npz``.
        root: folder that torchvision's data sets are kept in, or downloaded to.
        key: array of the ``.npz`` that holds the images; ``images`` or ``train_images`` where it is not said.
        labels: array of the ``.npz`` that holds the labels; the images' key with ``labels`` for ``images`` where
            it is not said and there is one. ``false``: go without the labels that the source has.
        class_numbers: what a class is called by networks and prompts that count from 0. ``kept``: as the source numbers
            it (classes 3 and 7 are 3 and 7); class folders whose names are no numbers are numbered in the order of
            their names. ``in_turn``: the classes that occur are numbered 0, 1, 2..., as in experiments of version 0.1.
        size: pixels; cut the central square and resize it to size x size. Unset: all images must have one size.
        channels: 1 turns colour to grey, 3 grey to colour (transparency becomes white). Unset: as they are.
        upright: turn photographs as their EXIF orientation says.
        on_corrupt: what to do with an image that cannot be decoded: refuse the data, or skip (and name) it.
        held_out: fraction of the images that is never trained on, in expectation; 0 to 0.9.
        split_seed: of the choice of the held-out images.
        split: what decides whether an image is held out. ``content``: its own pixels, so that it stays on its side
            whatever happens to the others. ``position``: its place among the others, as in experiments of version 0.1.
    """

    source: Annotated[str, Names(*NAMED_SOURCES)] = Field(min_length=1)
    root: Annotated[Path, MadeIfMissing()] | None = None
    key: str | None = None
    labels: str | Literal[False] | None = None
    class_numbers: Literal["kept", "in_turn"] = "kept"
    size: int | None = Field(default=None, ge=1, le=4096)
    channels: Literal[1, 3] | None = None
    upright: bool = True
    on_corrupt: Literal["refuse", "skip"] = "refuse"
    held_out: float = Field(default=0.1, ge=0.0, le=0.9)
    split_seed: int = Field(default=0, ge=0)
    split: Literal["content", "position"] = "content"

    @field_validator("source")
    @classmethod
    def _from_home(cls, source: str) -> str:
        return os.path.expanduser(source)
