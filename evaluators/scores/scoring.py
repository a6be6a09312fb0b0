"""Scores of generated images: reference images, features of both, distances between them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from nni_diffnas.api.errors import DataError
from nni_diffnas.cache import cached_folder, fingerprint

from ..images.image_set import ImageSet
from .distances import Statistics, extrapolate, frechet_distance, kernel_distance, standard_error, statistics
from .features import Extractor, ExtractorKind, labels_extractor, random_extractor

__all__ = ["ReferenceName", "Scoring", "make_extractor"]

ReferenceName = Literal["training", "held_out", "all"]

# Features of this many reference images are kept for the kernel distance.
KERNEL_IMAGES = 2000


def make_extractor(kind: ExtractorKind, images: ImageSet, seed: int = 0, weights: Path | None = None) -> Extractor:
    """Feature space of this kind; its network is trained now where it was not before.

    Args:
        kind: of the extractor.
        images: that the networks of ``labels`` and ``random`` are made for.
        seed: of these two.
        weights: file of the Inception weights.

    Raises:
        DataError: no labels to learn from, or weights that cannot be used.
    """
    if kind == "labels":
        return labels_extractor(images, seed=seed)
    if kind == "random":
        return random_extractor(images, seed)
    from .fidelity import inception_extractor

    return inception_extractor("2048" if kind == "inception" else "768", weights)


@dataclass(frozen=True)
class Scoring:
    """Compares generated images with reference images.

    Args:
        images: the data.
        reference: the part of it that samples are compared with.
        extractor: feature space of the comparison.
        device: that computes the features.
        count: of the reference images, drawn by chance; ``None``: all of that part.

    Of the held-out images those are left out that candidates may be ranked by, see `ImageSet.unseen`.
    """

    images: ImageSet
    reference: ReferenceName
    extractor: Extractor
    device: torch.device
    count: int | None = None

    @property
    def indices(self) -> NDArray[np.int64]:
        """Of the reference images, ascending."""
        part = self.images.training if self.reference == "training" else self.images.unseen
        if self.reference == "all":
            part = np.arange(len(self.images.pixels))
        if self.count is None:
            return part
        return np.sort(np.random.default_rng(0).permutation(part)[: self.count])

    @property
    def part(self) -> str:
        """Name of the part of the data that samples are compared with, unique to its images within a split."""
        return self.reference if self.reference != "held_out" else f"held_out {len(self.images.unseen)}"

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features ``[images, features]`` of uint8 images ``[images, channels, height, width]``."""
        size = 256 if self.extractor.layer == "features" else 32
        return self.features_of(pixels[start : start + size] for start in range(0, len(pixels), size))

    def features_of(self, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The same of batches."""
        from .fidelity import extract

        return extract(self.extractor, iter(batches), self.device)

    def seconds_per_image(self) -> float:
        """Of computing features, judged from a few reference images."""
        pixels = self.images.pixels[self.indices[:64]]
        began = time.monotonic()
        self.features(pixels)
        return (time.monotonic() - began) / len(pixels)

    def score(self, pixels: NDArray[np.uint8]) -> dict[str, float]:
        """Metrics of uint8 images ``[images, channels, height, width]``; see `score_features`."""
        return self.score_features(self.features(pixels))

    def score_features(self, features: NDArray[np.float32]) -> dict[str, float]:
        """Distances of features ``[images, features]``.

        Returns:
            ``rfid``; ``rfid_se``, its standard error over images; ``rfid_inf``, extrapolated to infinitely many images
            (only where they suffice, see `extrapolate`); ``kid``.
        """
        folder = self.prepare()
        reference = Statistics.load(folder / "statistics.npz")
        extrapolated = extrapolate(features, reference)
        return {
            "rfid": frechet_distance(statistics(features), reference),
            "rfid_se": standard_error(features, reference),
            **({} if extrapolated is None else {"rfid_inf": extrapolated}),
            "kid": kernel_distance(features, np.load(folder / "features.npy")),
        }

    def prepare(self) -> Path:
        """Folder with the statistics of the reference images, and the features of some; made now where missing.

        Raises:
            DataError: there are too few of them, or they do not differ.
        """
        found = len(self.indices)
        if found < 2:
            raise DataError(
                f"evaluator.reference {self.reference!r} has {found} images: "
                f"change data.held_out so that there are more."
            )
        if self.count is not None and found < self.count:
            raise DataError(
                f"evaluator.reference_images is {self.count}, but evaluator.reference {self.reference!r} of "
                f"data.source {self.images.source!r} has {found}: lower it."
            )

        def make(folder: Path) -> None:
            features = self.features(self.images.pixels[self.indices])
            reference = statistics(features)
            if not np.trace(reference.covariance) > 0:
                raise DataError(
                    f"All reference images of data.source {self.images.source!r} have the same features, so that no "
                    f"distance can be told: give images that differ."
                )
            reference.save(folder / "statistics.npz")
            chosen = np.random.default_rng(0).permutation(len(features))[:KERNEL_IMAGES]
            np.save(folder / "features.npy", features[chosen])

        weights = fingerprint(str(self.extractor.weights)) if self.extractor.layer != "features" else ""
        key = fingerprint(self.images.split, self.part, self.count, self.extractor.name, weights)
        return cached_folder(f"statistics/{key}", make)
