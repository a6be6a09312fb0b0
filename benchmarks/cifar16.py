"""CIFAR-10 at 16x16: images on which networks of equal cost differ, and that a CPU can train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["averaged"]


def averaged(folder: Path, data: Path) -> Path:
    """File of the 20,000 images of both shards, averaged 2x2 to 16x16, with their labels; made where missing.

    Args:
        folder: of the file.
        data: of the shards, see README.md.
    """
    file = folder / "cifar10_16.npz"
    if not file.exists():
        shards = [np.load(data / f"cifar10_train_{index}.npz") for index in range(2)]
        pixels = np.concatenate([shard["images"] for shard in shards]).astype(np.float32)
        means = pixels.reshape(len(pixels), 16, 2, 16, 2, 3).mean(axis=(2, 4))
        folder.mkdir(parents=True, exist_ok=True)
        labels = np.concatenate([shard["labels"] for shard in shards])
        np.savez(file, images=np.rint(means).astype(np.uint8), labels=labels)
    return file
