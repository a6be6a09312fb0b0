"""Decoders of the image sources: digits, torchvision's data sets, npz files and folders. Only `prepare` needs them."""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from nni_diffnas.api.errors import DataError

__all__ = ["Decoded", "decode", "source_state"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
TORCHVISION = {"cifar10": "CIFAR10", "mnist": "MNIST"}


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
        held_out: fraction of the images that is never trained on, in expectation; 0 to 0.9.
        split_seed: of the choice of the held-out images.
        split: what decides whether an image is held out. ``content``: its own pixels, so that it stays on its side
            whatever happens to the others. ``position``: its place among the others, as in experiments of version 0.1.
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
    split_seed: int = Field(default=0, ge=0)
    split: Literal["content", "position"] = "content"


@dataclass(frozen=True)
class Decoded:
    """A source's uint8 pixels ``[images, channels, height, width]``, and int64 labels ``[images]`` or ``None``."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: int
    skipped: tuple[str, ...] = ()


def source_state(settings: DataSettings) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the source's files, so that a changed source is decoded anew.

    Raises:
        DataError: there is no such source.
    """
    if settings.source in TORCHVISION:
        return []
    path = _digits_file() if settings.source == "digits" else Path(settings.source)
    if not path.exists():
        raise DataError(
            f"data.source {settings.source!r} is neither a file or folder nor one of digits, cifar10, mnist: "
            f"name one that exists (relative paths start at {str(Path.cwd())!r})."
        )
    files = [path] if path.is_file() else [file for file, _ in _folder_files(path)]
    states = ((file, file.stat()) for file in files)
    return [(str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states]


def decode(settings: DataSettings) -> Decoded:
    """Decode the whole source.

    Raises:
        DataError: it cannot be decoded as the settings say.
    """
    if settings.source == "digits":
        decoded = _digits(settings)
    elif settings.source in TORCHVISION:
        decoded = _torchvision(settings)
    elif Path(settings.source).is_dir():
        decoded = _folder(settings)
    else:
        decoded = _npz(settings)
    if len(decoded.pixels) < 2:
        raise DataError(f"data.source {settings.source!r} holds {len(decoded.pixels)} images: give it two at least.")
    return decoded


def _digits_file() -> Path:
    """The data file inside scikit-learn, found without importing it (which takes a second and loads scipy)."""
    spec = importlib.util.find_spec("sklearn")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return file
    raise DataError("data.source 'digits' is scikit-learn's data set, which is not there: install scikit-learn.")


def _digits(settings: DataSettings) -> Decoded:
    with gzip.open(_digits_file(), "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    if table.ndim != 2 or table.shape[1] != 65:
        raise DataError(f"scikit-learn's digits have the shape {table.shape}, not (1797, 65): reinstall scikit-learn.")
    # The digits count 4x4 blocks of black pixels, 0 to 16.
    pixels = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return _from_array(pixels, table[:, 64].astype(np.int64), settings, "data.source 'digits'")


def _torchvision(settings: DataSettings) -> Decoded:
    from torchvision import datasets

    if settings.root is None:
        raise DataError(f"data.source {settings.source!r} needs data.root: the folder to keep the downloaded files in.")
    try:
        data = getattr(datasets, TORCHVISION[settings.source])(str(settings.root), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"data.source {settings.source!r} is not in data.root {str(settings.root)!r} and cannot be downloaded "
            f"({str(error).splitlines()[0]}): put torchvision's files there, or use an .npz of the images."
        ) from error
    return _from_array(np.asarray(data.data), np.asarray(data.targets), settings, f"data.source {settings.source!r}")


def _npz(settings: DataSettings) -> Decoded:
    path = settings.source
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is not an npz archive")
            keys = list(file.keys())
            key = settings.key or next((name for name in ("images", "train_images") if name in keys), "images")
            if key not in keys:
                remedy = "set data.key to the one that holds the images"
                raise DataError(f"data.source {path!r} has no array {key!r}, only {', '.join(keys)}: {remedy}.")
            labels_key = settings.labels or key.replace("images", "labels")
            if settings.labels and labels_key not in keys:
                remedy = "set data.labels to the one that holds the labels"
                raise DataError(f"data.source {path!r} has no array {labels_key!r}, only {', '.join(keys)}: {remedy}.")
            array = file[key]
            labels = file[labels_key] if labels_key in keys and labels_key != key else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"data.source {path!r} cannot be read as an npz of plain arrays ({error}): "
            f"write it with numpy.savez(file, images=..., labels=...)."
        ) from error
    return _from_array(array, labels, settings, f"array {key!r} of {path!r}")


def _from_array(array: NDArray[Any], labels: NDArray[Any] | None, settings: DataSettings, name: str) -> Decoded:
    if array.dtype != np.uint8:
        raise DataError(f"The {name} is of type {array.dtype}: store the pixels as uint8, 0 to 255.")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(
            f"The {name} has the shape {array.shape}: "
            f"store images as [count, height, width] or [count, height, width, channels] with 1 or 3 channels."
        )
    if labels is not None and (labels.shape != array.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise DataError(
            f"The labels of the {name} have the shape {labels.shape} and type {labels.dtype}: "
            f"store one integer an image."
        )
    channels = settings.channels or array.shape[1]
    if (settings.size is not None and array.shape[2:] != (settings.size, settings.size)) or channels != array.shape[1]:
        from PIL import Image

        pictures = [Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)) for image in array]
        array = np.stack([_to_array(image, settings) for image in pictures])
    if labels is None:
        return Decoded(np.ascontiguousarray(array), None, classes=0)
    classes, codes = np.unique(labels, return_inverse=True)
    return Decoded(np.ascontiguousarray(array), codes.astype(np.int64), classes=len(classes))


def _folder_files(folder: Path) -> list[tuple[Path, str]]:
    """Image files with the name of their class folder (empty: none), sorted."""

    def own(place: Path) -> Iterator[Path]:
        return (file for file in sorted(place.iterdir()) if file.is_file() and file.suffix.lower() in SUFFIXES)

    direct = [(file, "") for file in own(folder)]
    subfolders = [place for place in sorted(folder.iterdir()) if place.is_dir() and not place.name.startswith(".")]
    nested = [(file, place.name) for place in subfolders for file in own(place)]
    if direct and nested:
        raise DataError(
            f"data.source {str(folder)!r} holds images ({direct[0][0].name}) beside class folders ({nested[0][1]}): "
            f"use either."
        )
    return direct or nested


def _folder(settings: DataSettings) -> Decoded:
    from PIL import Image, UnidentifiedImageError

    folder = Path(settings.source)
    files = _folder_files(folder)
    if not files:
        raise DataError(
            f"data.source {str(folder)!r} holds no images: put {', '.join(sorted(SUFFIXES))} files into it, "
            f"or into one folder for each class."
        )
    pixels: list[NDArray[np.uint8]] = []
    names: list[str] = []
    skipped: list[str] = []
    for file, name in files:
        try:
            with Image.open(file) as image:
                image.load()
                array = _to_array(image, settings)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            if settings.on_corrupt == "skip":
                skipped.append(str(file))
                continue
            raise DataError(
                f"The image {str(file)!r} cannot be decoded: remove it, or set data.on_corrupt to skip."
            ) from error
        if pixels and array.shape != pixels[0].shape:
            first, other = _describe(pixels[0]), _describe(array)
            remedy = "set data.size" if array.shape[1:] != pixels[0].shape[1:] else "set data.channels"
            raise DataError(
                f"The images of data.source {str(folder)!r} differ: {files[0][0].name} is {first}, "
                f"{file.name} is {other}: {remedy} to convert them."
            )
        pixels.append(array)
        names.append(name)
    if not pixels:
        raise DataError(f"None of the {len(skipped)} images in data.source {str(folder)!r} can be decoded: check them.")
    if not names[0]:
        return Decoded(np.stack(pixels), None, 0, tuple(skipped))
    classes = sorted({name for _, name in files})
    codes = np.array([classes.index(name) for name in names], dtype=np.int64)
    return Decoded(np.stack(pixels), codes, len(classes), tuple(skipped))


def _describe(array: NDArray[np.uint8]) -> str:
    channels, height, width = array.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"


def _to_array(image: Any, settings: DataSettings) -> NDArray[np.uint8]:
    """Convert one PIL image to uint8 ``[channels, height, width]``: transparency to white, central square, size.

    Raises:
        DataError: its numbers have no known range.
    """
    from PIL import Image

    # PIL keeps grey of 16 bits as I;16, older releases that of PNG files as I, and cuts off instead of scaling.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        deep = np.asarray(image).astype(np.int64)
        deep = np.where(deep == image.info.get("transparency"), 65535, deep)
        image = Image.fromarray(np.rint(deep / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(
            f"The image {getattr(image, 'filename', '')!r} of data.source {settings.source!r} holds "
            f"{'32-bit integers' if image.mode == 'I' else 'floating-point numbers'}, whose range is not known: "
            f"convert it to 8 or 16 bits."
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    grey = image.mode in ("1", "L") if settings.channels is None else settings.channels == 1
    image = image.convert("L" if grey else "RGB")
    if settings.size is not None and image.size != (settings.size, settings.size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        image = image.resize((settings.size, settings.size), Image.Resampling.LANCZOS, box=box)
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
