"""Images by name or by path, decoded once into arrays that trials map into memory without any image library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.cache import cache_folder, cached_folder, fingerprint

from .sources import DataSettings, decode, source_state

__all__ = ["DataSettings", "ImageSet", "images"]

# At most so many held-out images rank candidates; the others are left to a verdict.
RANKING_IMAGES = 256


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
        source: their name or path, for messages.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: int
    content: str
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    skipped: tuple[str, ...] = ()
    source: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def split(self) -> str:
        """Name of the content and of the part that is trained on."""
        return fingerprint(self.content, self.training.tobytes())

    @property
    def validation(self) -> NDArray[np.int64]:
        """Indices of the held-out images that candidates may be ranked by, in random order: a quarter, 256 at most."""
        return self._shuffled()[: min(len(self.held_out) // 4, RANKING_IMAGES)]

    @property
    def unseen(self) -> NDArray[np.int64]:
        """Indices of the held-out images by which nothing is ranked, ascending: a verdict is found on these alone."""
        return np.sort(self._shuffled()[len(self.validation) :])

    def _shuffled(self) -> NDArray[np.int64]:
        return np.random.default_rng(0).permutation(self.held_out)


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
        source=settings.source,
    )
