"""Images by name or by path, decoded once into arrays that trials map into memory without any image library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nni_diffnas.cache import cache_folder, cached_folder, fingerprint

from .sources import decode, source_state

__all__ = ["DataSettings", "ImageSet", "images"]


class DataSettings(BaseModel):
    """The ``data`` section of a job.

    Args:
        source: ``digits`` (scikit-learn's 1,797 real handwritten digits, 8x8), torchvision's ``cifar10`` or ``mnist``,
            or a path: a folder of images, a folder of class folders, an ``.npz``.
        root: folder that torchvision's data sets are kept in, or downloaded to.
        key: array of the ``.npz`` that holds the images; ``images`` or ``train_images`` where it is not said.
        labels: array of the ``.npz`` that holds the labels; the images' key with ``labels`` for ``images`` where
            it is not said and there is one.
        size: pixels; cut the central square and resize it to size x size. Unset: all images must have one size.
        channels: 1 turns colour to grey, 3 grey to colour (transparency becomes white). Unset: as they are.
        on_corrupt: what to do with an image that cannot be decoded: refuse the data, or skip (and name) it.
        held_out: fraction of the images that is never trained on; 0 to 0.9.
        split_seed: of the choice of the held-out images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    root: Path | None = None
    key: str | None = None
    labels: str | None = None
    size: int | None = Field(default=None, ge=1, le=4096)
    channels: Literal[1, 3] | None = None
    on_corrupt: Literal["refuse", "skip"] = "refuse"
    held_out: float = Field(default=0.1, ge=0.0, le=0.9)
    split_seed: int = 0


@dataclass(frozen=True)
class ImageSet:
    """Decoded images, mapped into memory.

    Args:
        pixels: uint8 ``[images, channels, height, width]``.
        labels: int64 ``[images]``; ``None`` where the source has none.
        classes: number of classes; 0 without labels.
        content: hash of pixels and labels.
        training: indices of the images to train on, ascending.
        held_out: indices of the images that are never trained on, ascending.
        skipped: files that could not be decoded.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: int
    content: str
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def split(self) -> str:
        """Name of the content and of the part that is trained on."""
        return fingerprint(self.content, self.training.tobytes())


def images(settings: DataSettings) -> ImageSet:
    """Return the images of a source, from the cache where they were decoded before.

    Raises:
        DataError: the source does not exist, is empty, has images of several sizes, cannot be decoded...
    """
    described = settings.model_dump(mode="json", exclude={"held_out", "split_seed"})
    state = fingerprint(sorted(described.items()), source_state(settings))

    def make_index(folder: Path) -> None:
        decoded = decode(settings)
        digest = hashlib.sha256(repr(decoded.pixels.shape).encode() + decoded.pixels.tobytes())
        if decoded.labels is not None:
            digest.update(decoded.labels.tobytes())
        content = digest.hexdigest()[:16]

        def make_content(content_folder: Path) -> None:
            np.save(content_folder / "pixels.npy", decoded.pixels)
            if decoded.labels is not None:
                np.save(content_folder / "labels.npy", decoded.labels)

        cached_folder(f"images/{content}", make_content)
        index = {"content": content, "classes": decoded.classes, "skipped": decoded.skipped}
        (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")

    index_file = cached_folder(f"sources/{state}", make_index) / "index.json"
    index: dict[str, Any] = json.loads(index_file.read_text(encoding="utf-8"))
    folder = cache_folder() / "images" / index["content"]
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy") if (folder / "labels.npy").exists() else None
    order = np.random.default_rng(settings.split_seed).permutation(len(pixels))
    count = round(settings.held_out * len(pixels))
    return ImageSet(
        pixels=pixels,
        labels=labels,
        classes=index["classes"],
        content=index["content"],
        training=np.sort(order[count:]),
        held_out=np.sort(order[:count]),
        skipped=tuple(index["skipped"]),
    )
