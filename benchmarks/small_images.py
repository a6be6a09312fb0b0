"""Images averaged down to 16x16 pixels, on which networks of equal cost differ, for a CPU's patience."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["NAMES", "averaged"]

NAMES = ("cifar10", "mnist", "twemoji")


def averaged(folder: Path, data: Path, size: int = 16, name: str = "cifar10") -> Path:
    """File of images averaged to a smaller size, with their labels where they have some; made where missing.

    Args:
        folder: of the file.
        data: of the files that they are made of, see README.md.
        size: of the images in pixels: 16 (means of 2x2) or 32 (as they are; MNIST's in a frame of two pixels).
        name: one of `NAMES`: 20,000 images of CIFAR-10, 60,000 of MNIST, 4,009 drawings of Twemoji.
    """
    file = folder / f"{name}_{size}.npz"
    if not file.exists():
        pixels, labels = _read(data, name)
        count, channels = len(pixels), pixels.shape[-1]
        means = pixels.reshape(count, size, 32 // size, size, 32 // size, channels).mean(axis=(2, 4))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, images=np.rint(means).astype(np.uint8), **labels)
    return file


def _read(data: Path, name: str) -> tuple[NDArray[np.float32], dict[str, NDArray[np.uint8]]]:
    """Images of 32x32 pixels, channels last, and their labels by the name ``labels``, if any."""
    if name == "mnist":
        mnist = np.load(data / "mnist.npz")
        framed = np.pad(mnist["train_images"], ((0, 0), (2, 2), (2, 2)))[..., None]
        return framed.astype(np.float32), {"labels": mnist["train_labels"]}
    if name == "twemoji":
        return np.load(data / "twemoji.npz")["images"].astype(np.float32), {}
    shards = [np.load(data / f"cifar10_train_{index}.npz") for index in range(2)]
    pixels = np.concatenate([shard["images"] for shard in shards]).astype(np.float32)
    return pixels, {"labels": np.concatenate([shard["labels"] for shard in shards])}
