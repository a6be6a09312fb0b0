"""Images by name or by path, decoded once into arrays that trials map into memory without any image library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.errors import DataError
from nni_diffnas.cache import cache_folder, cached_folder, fingerprint

from .settings import DataSettings
from .sources import decode, source_state

__all__ = ["ImageSet", "images"]

# At most so many held-out images rank candidates; the others are left to a verdict.
RANKING_IMAGES = 256
_SOURCES, _CONTENTS = "sources-3", "images-2"
"""Folders of the cache; their number rises with what lies in them."""

_LONGEST_CLASS = 6
"""Digits of a class number: a network has weights for each class up to the highest."""

_NAMED = 12
"""Of more classes only the first are named."""


@dataclass(frozen=True)
class ImageSet:
    """Decoded images, mapped into memory.

    Args:
        pixels: uint8 ``[images, channels, height, width]``.
        labels: int64 ``[images]``, 0 to below ``classes``; ``None`` where the source has none.
        classes: number of classes that occur; 0 without labels.
        class_names: what the source calls them, by label.
        class_numbers: what networks and prompts that count from 0 call them, by label; int64 ``[classes]``.
        in_turn: whether it was asked for that they are numbered in turn.
        content: hash of pixels and labels.
        training: indices of the images to train on, ascending.
        held_out: indices of the images that are never trained on, ascending.
        left_out: files of the source that are not among the images, in words; empty where there are none.
        enlarged: images that were smaller than they are here.
        levels: darkest, brightest and mean value of all pixels.
        source: their name or path, for messages.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: int
    class_names: tuple[str, ...]
    class_numbers: NDArray[np.int64]
    in_turn: bool
    content: str
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    left_out: str
    enlarged: int
    levels: tuple[int, int, float]
    source: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def split(self) -> str:
        """Name of the content, of the part that is trained on, and of what its classes are called."""
        in_turn = np.array_equal(self.class_numbers, np.arange(self.classes))
        return fingerprint(self.content, self.training.tobytes(), *([] if in_turn else self.class_numbers.tolist()))

    def numbers_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Class numbers of the images at ``indices``, the same shape; ``None`` without labels."""
        return None if self.labels is None else self.class_numbers[self.labels[indices]]

    def numbers_in_turn(self, count: int) -> NDArray[np.int64] | None:
        """Class numbers ``[count]`` for images to be generated: every class in turn; ``None`` without labels."""
        return None if self.labels is None else self.class_numbers[np.arange(count) % self.classes]

    @property
    def last_class(self) -> int:
        """Highest class number; -1 without labels."""
        return int(self.class_numbers.max()) if self.classes else -1

    @property
    def numbered_by_source(self) -> bool:
        """Whether the class numbers are the source's own, and no order of names."""
        return all(
            name.isdigit() and int(name) == n for name, n in zip(self.class_names, self.class_numbers, strict=True)
        )

    def describe(self) -> list[str]:
        """What the images are, in lines for a person; where something was, also what was enlarged and left out."""
        channels, height, width = self.shape
        darkest, brightest, mean = self.levels
        kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        lines = [
            f"{len(self.pixels):,} images of {width}x{height} pixels in {kind}, {len(self.held_out):,} of them held "
            f"out; pixels are {darkest} to {brightest}, {mean:.0f} on average"
        ]
        if self.labels is not None:
            named = [
                name if name == str(number) else f"{name} as {number}"
                for name, number in zip(self.class_names, self.class_numbers, strict=True)
            ]
            more = ", ..." if self.classes > _NAMED else ""
            lines.append(f"{self.classes} classes: {', '.join(named[:_NAMED])}{more}")
        if self.enlarged:
            lines.append(f"enlarged: {self.enlarged:,} images, which are smaller than {width}x{height} pixels")
        if self.left_out:
            lines.append(f"left out of {self.source}: {self.left_out}")
        return lines

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
    described = settings.model_dump(mode="json", exclude={"held_out", "split_seed", "split", "class_numbers"})
    state = fingerprint(sorted(described.items()), source_state(settings))

    def make_index(folder: Path) -> None:
        decoded = decode(settings)
        digest = hashlib.sha256(repr(decoded.pixels.shape).encode() + decoded.pixels.tobytes())
        if decoded.labels is not None:
            digest.update(decoded.labels.tobytes())
        content = digest.hexdigest()[:16]

        def make_content(content_folder: Path) -> None:
            np.save(content_folder / "pixels.npy", decoded.pixels)
            np.save(content_folder / "hashes.npy", _hashes(decoded.pixels))
            if decoded.labels is not None:
                np.save(content_folder / "labels.npy", decoded.labels)

        cached_folder(f"{_CONTENTS}/{content}", make_content)
        pixels = decoded.pixels
        levels = int(pixels.min()), int(pixels.max()), float(pixels.mean(dtype=np.float64))
        left_out = decoded.left_out.describe()
        index = {
            "content": content, "classes": decoded.names, "left_out": left_out, "enlarged": decoded.enlarged,
            "levels": levels,
        }  # fmt: skip
        (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")

    place = cached_folder(f"{_SOURCES}/{state}", make_index)
    try:
        index: dict[str, Any] = json.loads((place / "index.json").read_text(encoding="utf-8"))
        folder = cache_folder() / _CONTENTS / index["content"]
        pixels = np.load(folder / "pixels.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy") if (folder / "labels.npy").exists() else None
        hashes = np.load(folder / "hashes.npy")
    except (OSError, EOFError, ValueError) as error:  # of a disk that failed, or somebody who tidied up
        raise DataError(
            f"The decoded images in the cache {str(cache_folder())!r} are damaged ({str(error)[:100]}): delete its "
            f"folders {_SOURCES} and {_CONTENTS}, and they are decoded again."
        ) from error
    held_out = _held_out(settings, hashes)
    names = tuple(index["classes"])
    return ImageSet(
        pixels=pixels,
        labels=labels,
        classes=len(names),
        class_names=names,
        class_numbers=_numbers(names, settings),
        in_turn=settings.class_numbers == "in_turn",
        content=index["content"],
        training=np.flatnonzero(~held_out),
        held_out=np.flatnonzero(held_out),
        left_out=index["left_out"],
        enlarged=index.get("enlarged", 0),  # earlier versions did not count
        levels=tuple(index["levels"]),
        source=settings.source,
    )


def _numbers(names: tuple[str, ...], settings: DataSettings) -> NDArray[np.int64]:
    """Number of each class, see `DataSettings.class_numbers`.

    Raises:
        DataError: two share one, or one is too large to be meant.
    """
    in_turn = np.arange(len(names), dtype=np.int64)
    if settings.class_numbers == "in_turn" or not all(name.isascii() and name.isdigit() for name in names):
        return in_turn
    odd = ""
    if large := next((name for name in names if len(name.lstrip("0")) > _LONGEST_CLASS), ""):
        odd = f"a class of number {large[:40]}"
    elif len({name.lstrip("0") for name in names}) < len(names):
        odd = f"two classes of one number among {', '.join(names[:_NAMED])}"
    if odd:
        raise DataError(
            f"data.source {settings.source!r} has {odd}: rename its folders, or set data.class_numbers to in_turn."
        )
    numbers = [int(name) for name in names]
    return np.array(numbers, dtype=np.int64)


def _hashes(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Hash ``[images]`` of each image's own pixels."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in pixels)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's next output for each state (Steele, Lea and Flood, OOPSLA 2014): all bits depend on all bits."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _held_out(settings: DataSettings, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each image is held out; equal images always share a side.

    Raises:
        DataError: the images all fall on one side.
    """
    given = f"data.held_out {settings.held_out:g} with data.split_seed {settings.split_seed}"
    of = f"of the {len(hashes)} images of data.source {settings.source!r}"
    if settings.split == "position":
        order = np.random.default_rng(settings.split_seed).permutation(len(hashes))
        held_out = np.zeros(len(hashes), dtype=bool)
        held_out[order[: round(settings.held_out * len(hashes))]] = True
    else:
        seed = _mixed(np.array([settings.split_seed % 2**64], dtype=np.uint64))
        uniform = (_mixed(hashes ^ seed) >> np.uint64(11)) * 2.0**-53
        held_out = uniform < settings.held_out
        if settings.held_out > 0 and not held_out.any():
            remedy = "raise held_out, give more images that differ, or set held_out to 0 and go without a verdict"
            raise DataError(f"{given} holds out none {of}: {remedy}.")
    if held_out.all():
        raise DataError(f"{given} leaves none {of} to train on: lower held_out, or give more images that differ.")
    return held_out
