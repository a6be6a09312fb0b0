"""Grids of images as PNG, and the TensorBoard log of a trial."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

__all__ = ["TensorBoardLog", "grid", "nearest_below", "png"]


def grid(pixels: NDArray[np.uint8], side: int = 320, columns: int | None = None) -> NDArray[np.uint8]:
    """Lay images out in a near-square grid, enlarged by a whole factor.

    Args:
        pixels: uint8 ``[images, channels, height, width]``.
        side: the enlarged grid is at most this wide, in pixels, unless the images are larger by themselves.
        columns: images beside each other; by default as many as rows.

    Returns:
        uint8 ``[height, width]`` for grey, ``[height, width, 3]`` for colour.
    """
    count, channels, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    gap = 1
    canvas = np.full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 128, dtype=np.uint8)
    for index, image in enumerate(pixels):
        top, left = (index // columns) * (height + gap) + gap, (index % columns) * (width + gap) + gap
        canvas[:, top : top + height, left : left + width] = image
    factor = max(1, side // canvas.shape[2])
    canvas = canvas.repeat(factor, axis=1).repeat(factor, axis=2)
    return canvas[0] if channels == 1 else np.ascontiguousarray(canvas.transpose(1, 2, 0))


def nearest_below(samples: NDArray[np.uint8], known: NDArray[np.uint8], count: int = 3) -> NDArray[np.uint8]:
    """Samples, then the known image nearest to each (Euclidean distance of pixels), then the second nearest, and so on.

    In a `grid` of as many columns as there are samples, what was memorised shows below each.

    Args:
        samples: uint8 ``[samples, channels, height, width]``.
        known: uint8 ``[images, channels, height, width]``.
        count: known images below each sample.

    Returns:
        uint8 ``[(1 + count) * samples, channels, height, width]``, row by row.
    """
    flat = samples.reshape(len(samples), -1).astype(np.float32)
    distances = np.empty((len(samples), len(known)), dtype=np.float32)
    for start in range(0, len(known), 4096):
        part = known[start : start + 4096].reshape(-1, flat.shape[1]).astype(np.float32)
        distances[:, start : start + len(part)] = (part**2).sum(axis=1) - 2.0 * flat @ part.T
    nearest = np.argsort(distances, axis=1)[:, :count]
    return np.concatenate([samples, *(known[nearest[:, i]] for i in range(nearest.shape[1]))])


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture (``[height, width]`` or ``[height, width, 3]``) as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class TensorBoardLog:
    """Scalars and pictures for TensorBoard, through its own event writer.

    ``torch.utils.tensorboard`` offers more, at the price of over a second's imports in every trial.

    Args:
        folder: of the event file; made where missing.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write one point of a curve."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def picture(self, tag: str, picture: NDArray[np.uint8], step: int) -> None:
        """Write one picture (``[height, width]`` or ``[height, width, 3]``)."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = picture.shape[:2]
        image = Summary.Image(
            height=height,
            width=width,
            colorspace=1 if picture.ndim == 2 else 3,
            encoded_image_string=png(picture),
        )
        self._add(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def _add(self, summary: object, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
