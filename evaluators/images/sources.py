"""Decoders of the image sources: scikit-learn's and torchvision's data sets, npz files, folders, archives."""

from __future__ import annotations

import gzip
import importlib.util
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.errors import DataError
from nni_diffnas.process.terminal import printable

from .listing import LeftOut, is_archive, list_pictures, opened
from .pixels import Picture, decode_picture, to_array
from .settings import DataSettings

__all__ = ["Decoded", "decode", "source_state"]

TORCHVISION = {"cifar10": "CIFAR10", "mnist": "MNIST"}
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
"""Those that scikit-learn brings, 640x427 pixels each; the classes of ``patches`` in this order."""
PATCH = 8
DIGITS = "data/digits.csv.gz"
SKLEARN = {"digits": DIGITS, "patches": f"images/{PHOTOGRAPHS[0]}"}
"""Sources that scikit-learn brings, to the file that tells whether they have changed."""
DARKEST = 32
"""Images none of whose pixels reach it are a mistake of range: zeros and ones, masks, 16 levels."""

_POINTER = b"version https://git-lfs"
"""What Git puts in place of a large file until somebody fetches it."""

_POINTED = "is a pointer of Git LFS, for which 'git lfs pull' fetches the file"


@dataclass(frozen=True)
class Decoded:
    """A source's images.

    Args:
        pixels: uint8 ``[images, channels, height, width]``.
        labels: int64 ``[images]``, positions in ``names``; ``None`` without labels.
        names: of the classes, as the source calls them.
        left_out: files of the source that are not among the images.
        enlarged: images that were smaller than they are here.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    names: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    enlarged: int = 0


def source_state(settings: DataSettings) -> list[tuple[Any, ...]]:
    """Names, sizes and times of the source's files, so that a changed source is decoded anew.

    Raises:
        DataError: there is no such source.
    """
    if settings.source in TORCHVISION:
        return []
    inside = SKLEARN.get(settings.source)
    path = Path(settings.source) if inside is None else _sklearn_file(settings.source, inside)
    if not os.path.isfile(path) and not os.path.isdir(path):  # a device has no end
        raise DataError(
            f"data.source {settings.source[:300]!r} is neither a file or folder nor one of digits, patches, cifar10, "
            f"mnist: "
            f"name one that exists (relative paths start at {str(Path.cwd())!r})."
        )
    if path.is_file():
        files, left_out = [path], ""
    else:
        listing = list_pictures(path)
        files, left_out = [path / name for name, _ in listing.pictures], listing.left_out.describe()
    states = ((file, file.stat()) for file in files)
    return [(left_out,), *((str(file.absolute()), state.st_size, state.st_mtime_ns) for file, state in states)]


def decode(settings: DataSettings) -> Decoded:
    """Decode the whole source.

    Raises:
        DataError: it cannot be decoded as the settings say.
    """
    path = Path(settings.source)
    if settings.source == "digits":
        decoded = _digits(settings)
    elif settings.source == "patches":
        decoded = _patches(settings)
    elif settings.source in TORCHVISION:
        decoded = _torchvision(settings)
    elif path.is_dir() or is_archive(path):
        decoded = _pictures(settings)
    else:
        decoded = _npz(settings)
    if len(decoded.pixels) < 2:
        left = f"; left out: {described}" if (described := decoded.left_out.describe()) else ""
        raise DataError(
            f"data.source {settings.source!r} holds {len(decoded.pixels)} images: give it two at least{left}."
        )
    if not decoded.pixels.size:
        raise DataError(f"The images of data.source {settings.source!r} have no pixels: store the images themselves.")
    darkest, brightest = int(decoded.pixels.min()), int(decoded.pixels.max())
    if brightest == 0 or darkest == 255:
        blank = "store images as uint8, 0 to 255" if brightest == 0 else "give images that are not blank or transparent"
        raise DataError(f"The pixels of data.source {settings.source!r} are all {darkest}: {blank}.")
    if darkest != brightest and brightest < DARKEST:
        raise DataError(
            f"The pixels of data.source {settings.source!r} are {darkest} to {brightest}, which is black of 255: "
            f"multiply them by {255 // brightest} when you store them."
        )
    return decoded if settings.labels is not False else replace(decoded, labels=None, names=())


def _sklearn_file(source: str, name: str) -> Path:
    """A data file inside scikit-learn, found without importing it (which takes a second and loads scipy)."""
    spec = importlib.util.find_spec("sklearn")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        file = Path(folder) / "datasets" / name
        if file.is_file():
            return file
    raise DataError(f"data.source {source!r} is scikit-learn's data set, which is not there: install scikit-learn.")


def _digits(settings: DataSettings) -> Decoded:
    with gzip.open(_sklearn_file("digits", DIGITS), "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    if table.ndim != 2 or table.shape[1] != 65:
        raise DataError(f"scikit-learn's digits have the shape {table.shape}, not (1797, 65): reinstall scikit-learn.")
    # The digits count 4x4 blocks of black pixels, 0 to 16.
    pixels = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return _from_array(pixels, table[:, 64].astype(np.int64), settings, "data.source 'digits'")


def _patches(settings: DataSettings) -> Decoded:
    """Non-overlapping squares of scikit-learn's photographs, each labelled with its photograph's position."""
    from PIL import Image

    patches: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for label, name in enumerate(PHOTOGRAPHS):
        with Image.open(_sklearn_file("patches", f"images/{name}")) as photograph:
            pixels = np.asarray(photograph.convert("RGB"))
        rows, columns = pixels.shape[0] // PATCH, pixels.shape[1] // PATCH
        cut = pixels[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH, 3)
        patches.append(cut.transpose(0, 2, 1, 3, 4).reshape(-1, PATCH, PATCH, 3))
        labels += [label] * (rows * columns)
    return _from_array(np.concatenate(patches), np.array(labels), settings, "data.source 'patches'")


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
    if Path(path).suffix != ".npz" and not zipfile.is_zipfile(path):
        raise DataError(
            f"data.source {path!r} is none of what can be read, a folder, zip or tar of pictures or an .npz: store the "
            f"images as one of these."
        )
    if not zipfile.is_zipfile(path) and not _starts_with(Path(path), np.lib.format.MAGIC_PREFIX):
        what = _POINTED if _starts_with(Path(path), _POINTER) else "is cut off, or no npz at all"
        raise DataError(f"data.source {path!r} {what}: fetch it again, or write it with numpy.savez(file, images=...).")
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is not an npz archive")
            keys = list(file.keys())
            named = f"{', '.join(keys[:10])}{', ...' if len(keys) > 10 else ''}"
            key = settings.key or next((name for name in ("images", "train_images") if name in keys), "images")
            if key not in keys:
                remedy = "set data.key to the one that holds the images"
                raise DataError(f"data.source {path!r} has no array {key!r}, only {named}: {remedy}.")
            labels_key = settings.labels or key.replace("images", "labels")
            if settings.labels and labels_key not in keys:
                remedy = "set data.labels to the one that holds the labels"
                raise DataError(f"data.source {path!r} has no array {labels_key!r}, only {named}: {remedy}.")
            wanted = settings.labels is not False and labels_key in keys and labels_key != key
            array, labels = file[key], file[labels_key] if wanted else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        reason = "it holds Python objects" if "pickle" in str(error) else str(error)[:100]
        raise DataError(
            f"data.source {path!r} cannot be read as an npz of plain arrays ({reason}): "
            f"write it with numpy.savez(file, images=..., labels=...)."
        ) from error
    decoded = _from_array(array, labels, settings, f"array {key!r} of {path!r}")
    for name in sorted(set(keys) - {key, labels_key}):
        decoded.left_out.add("other arrays", name)
    return decoded


def _starts_with(file: Path, sign: bytes) -> bool:
    with file.open("rb") as opened_file:
        return opened_file.read(len(sign)) == sign


def _from_array(array: NDArray[Any], labels: NDArray[Any] | None, settings: DataSettings, name: str) -> Decoded:
    if array.dtype != np.uint8:
        times = " (zeros and ones times 255)" if array.dtype == np.bool_ else ""
        raise DataError(f"The {name} is of type {array.dtype}: store the pixels as uint8, 0 to 255{times}.")
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] in (1, 3):
        raise DataError(
            f"The {name} has the shape {array.shape}, in which the second or the last number may be that of the "
            f"channels: give images of more than 3 pixels a side."
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise DataError(
            f"The {name} has the shape {array.shape}: "
            f"store images as [count, height, width] or [count, height, width, channels] with 1 or 3 channels."
        )
    if labels is not None and labels.shape == (len(array), 1):
        labels = labels[:, 0]
    if labels is not None and (labels.shape != array.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise DataError(
            f"The labels of the {name} have the shape {labels.shape} and type {labels.dtype}: "
            f"store one integer an image, or set data.labels to false to go without them."
        )
    channels = settings.channels or array.shape[1]
    enlarged = len(array) if settings.size is not None and min(array.shape[2:]) < settings.size else 0
    if (settings.size is not None and array.shape[2:] != (settings.size, settings.size)) or channels != array.shape[1]:
        from PIL import Image

        pictures = [Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, 2)) for image in array]
        array = np.stack([to_array(image, settings, name) for image in pictures])
    if labels is None:
        return Decoded(np.ascontiguousarray(array), None, enlarged=enlarged)
    classes, codes = np.unique(labels, return_inverse=True)
    names = tuple(str(number) for number in classes)
    return Decoded(np.ascontiguousarray(array), codes.astype(np.int64), names, enlarged=enlarged)


def _pictures(settings: DataSettings) -> Decoded:
    source = Path(settings.source)
    listing = list_pictures(source)
    left_out = listing.left_out
    pixels: list[NDArray[np.uint8]] = []
    classes: list[str] = []
    enlarged = 0
    with opened(source) as open_picture:
        for name, kind in listing.pictures:
            decoded = _decoded(open_picture, name, settings)
            if isinstance(decoded, str):
                if settings.on_corrupt == "refuse":
                    raise DataError(
                        f"The image {str(source / name)!r} {decoded}: remove it, or set data.on_corrupt to skip."
                    )
                left_out.add(f"that {decoded}", name)
                continue
            array = decoded.pixels
            if pixels and array.shape != pixels[0].shape:
                first, other = _describe(pixels[0]), _describe(array)
                what = "size" if array.shape[1:] != pixels[0].shape[1:] else "channels"
                raise DataError(
                    f"The images of data.source {str(source)!r} differ: {Path(listing.pictures[0][0]).name} is "
                    f"{first}, {Path(name).name} is {other}: set data.{what} (--{what}) to convert them."
                )
            if decoded.further:
                left_out.add("further frames", name, decoded.further)
            enlarged += decoded.enlarged
            pixels.append(array)
            classes.append(kind)
    if not pixels:
        raise DataError(
            f"None of the {len(listing.pictures)} images in data.source {str(source)!r} can be decoded: check them."
        )
    return Decoded(np.stack(pixels), *_coded(classes, [kind for _, kind in listing.pictures]), left_out, enlarged)


def _decoded(open_picture: Callable[[str], BinaryIO], name: str, settings: DataSettings) -> Picture | str:
    """A picture of a listing, see `decode_picture`, or why there is none."""
    try:
        file = open_picture(name)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    with file:
        decoded = decode_picture(file, str(Path(settings.source) / name), settings)
        if decoded is not None:
            return decoded
        file.seek(0)
        return _POINTED if file.read(len(_POINTER)) == _POINTER else "cannot be decoded"


def _coded(classes: Sequence[str], all_classes: Sequence[str]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Position of each image's class among all, and their names; ``None`` and nothing without class folders."""
    names = sorted(set(all_classes))
    if names == [""]:
        return None, ()
    return np.array([names.index(name) for name in classes], dtype=np.int64), tuple(printable(name) for name in names)


def _describe(array: NDArray[np.uint8]) -> str:
    channels, height, width = array.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"
