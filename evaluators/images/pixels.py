"""One picture of any kind, by Pillow, as an array of the wanted shape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.errors import DataError

from .settings import DataSettings

__all__ = ["Picture", "decode_picture", "to_array"]

LARGEST = 500_000_000
"""Pixels of a picture: 1.5 GB of colours. Pillow itself stops at 179 million, which sound scans exceed."""


LONGEST_TEXT = 1 << 25
"""Bytes of a text beside a PNG's pixels: editors keep whole workflows there. Pillow itself stops at one million."""


class Picture(NamedTuple):
    """A decoded picture.

    Args:
        pixels: uint8 ``[channels, height, width]``.
        further: frames beyond the first.
        enlarged: whether it was smaller than it is here.
    """

    pixels: NDArray[np.uint8]
    further: int
    enlarged: bool


@contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator[Any]:
    """A picture whose header has been read.

    Raises:
        DataError: it has too many pixels to be decoded here.
    """
    from PIL import Image, PngImagePlugin

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    text, PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_CHUNK, LONGEST_TEXT
    try:
        with Image.open(file) as image:
            if image.width * image.height > LARGEST:
                raise DataError(
                    f"The image {name!r} has {image.width} x {image.height} pixels, more than {LARGEST:,}: shrink it."
                )
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before, text


def decode_picture(file: BinaryIO, name: str, settings: DataSettings) -> Picture | None:
    """Decode the first frame of a picture; ``None`` where it cannot be decoded.

    Args:
        file: open for reading.
        name: for messages.
        settings: wanted size and channels.

    Raises:
        DataError: too many pixels, or numbers without a known range.
    """
    try:
        with _opened(file, name) as image:
            frames = int(getattr(image, "n_frames", 1))
            image.load()
            enlarged = settings.size is not None and min(image.size) < settings.size
            return Picture(to_array(image, settings, name), frames - 1, enlarged)
    except DataError:
        raise
    except Exception:  # Pillow's readers raise whatever their parsing of a broken file ends in
        return None


def to_array(image: Any, settings: DataSettings, name: str) -> NDArray[np.uint8]:
    """Convert one Pillow image to uint8 ``[channels, height, width]``: upright, transparency white, square, size.

    Raises:
        DataError: its numbers have no known range.
    """
    from PIL import Image, ImageOps

    if settings.upright:
        ImageOps.exif_transpose(image, in_place=True)
    # PIL keeps grey of 16 bits as I;16, older releases that of PNG files as I, and cuts off instead of scaling.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        deep = np.asarray(image).astype(np.int64)
        deep = np.where(deep == image.info.get("transparency"), 65535, deep)
        image = Image.fromarray(np.rint(deep / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(
            f"The image {name!r} of data.source {settings.source!r} holds "
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
