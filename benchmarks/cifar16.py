"""CIFAR-10, averaged down to 16x16 where asked: images on which networks of equal cost differ, for a CPU's patience."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["averaged"]


def averaged(folder: Path, data: Path, size: int = 16) -> Path:
    """File of the 20,000 images of both shards, averaged to a smaller size, with their labels; made where missing.

    Args:
        folder: of the file.
        data: of the shards, see README.md.
        size: of the images in pixels, 16 (means of 2x2) or 32 (as they are).
    """
    file = folder / f"cifar10_{size}.npz"
    if not file.exists():
        shards = [np.load(data / f"cifar10_train_{index}.npz") for index in range(2)]
        pixels = np.concatenate([shard["images"] for shard in shards]).astype(np.float32)
        means = pixels.reshape(len(pixels), size, 32 // size, size, 32 // size, 3).mean(axis=(2, 4))
        folder.mkdir(parents=True, exist_ok=True)
        labels = np.concatenate([shard["labels"] for shard in shards])
        np.savez(file, images=np.rint(means).astype(np.uint8), labels=labels)
    return file
