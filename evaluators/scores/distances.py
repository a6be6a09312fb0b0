"""Rapid FID: the Fréchet distance between few generated images and the training images, in a named feature space.

d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), means m and covariances C of features, float64.
Dowson and Landau (1982); Heusel et al. (2017), equation 6. It is called FID only for the 2048 Inception features on
the complete protocol, so never here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.errors import DataError, TrialFailure

__all__ = ["Statistics", "extrapolate", "frechet_distance", "kernel_distance", "standard_error", "statistics"]


@dataclass(frozen=True)
class Statistics:
    """Mean float64 ``[features]`` and covariance float64 ``[features, features]`` of the features of images."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    count: int

    def save(self, path: Path) -> None:
        """Write an npz that `load` reads."""
        np.savez(path, mean=self.mean, covariance=self.covariance, count=self.count)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["mean"], file["covariance"], int(file["count"]))


def statistics(features: NDArray[np.float32]) -> Statistics:
    """Statistics of features ``[images, features]``, in float64; the covariance is the unbiased one.

    Raises:
        DataError: fewer than two images.
        TrialFailure: a feature is not finite.
    """
    if len(features) < 2:
        raise DataError(f"A covariance needs two images at least, not {len(features)}: ask for more images.")
    if not np.isfinite(features).all():
        raise TrialFailure("The features of the images are not finite: the generated images hold NaN or infinity.")
    exact = features.astype(np.float64)
    return Statistics(exact.mean(axis=0), np.atleast_2d(np.cov(exact, rowvar=False)), len(features))


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """The squared Fréchet distance of two Gaussians with these statistics.

    The roots of C_1 C_2 are taken as those of R C_1 R, R = C_2^(1/2), which is symmetric and has the same eigenvalues.
    """
    root = _root(other.covariance)
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    eigenvalues = np.linalg.eigvalsh(root @ one.covariance @ root).clip(min=0.0)
    return float(np.square(one.mean - other.mean).sum() + traces - 2.0 * np.sqrt(eigenvalues).sum())


def standard_error(features: NDArray[np.float32], reference: Statistics) -> float:
    """Standard error of the distance: its spread had other images been drawn from the same network.

    The infinitesimal jackknife, std(I) / sqrt(N), with an image's influence on d^2 (d = x - m_1)
    I(x) = 2 (m_1 - m_2)^T d + d^T (1 - T) d, T = C_2^(1/2) (C_2^(1/2) C_1 C_2^(1/2))^(-1/2) C_2^(1/2), the gradient of
    d^2 in C_1 being 1 - T, the map of optimal transport. Efron, "Nonparametric Estimates of Standard Error" (1981).
    It costs two eigenvalue problems, and, unlike a bootstrap, is free of the bias that repeated images bring. Where
    images are few it is rather too large, up to a third. The training's own spread from seed to
    seed comes on top.
    """
    own = statistics(features)
    root = _root(reference.covariance)
    values, vectors = np.linalg.eigh(root @ own.covariance @ root)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    inverse_root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    gradient = np.eye(len(root)) - root @ inverse_root @ root
    centred = features.astype(np.float64) - own.mean
    influence = 2.0 * centred @ (own.mean - reference.mean) + np.einsum("ij,ij->i", centred @ gradient, centred)
    return float(influence.std(ddof=1) / math.sqrt(len(features)))


def extrapolate(features: NDArray[np.float32], reference: Statistics) -> float | None:
    """The distance for infinitely many images: the intercept of d^2(N) = d^2 + b / N, fitted to parts of the images.

    Chong and Forsyth, "Effectively Unbiased FID and Inception Score" (2020), section 4. There the subsets are random;
    here all images are split into 1, 2 and 4 disjoint parts whose distances are averaged. Every image then has equal
    weight at every N, so that, to first order, the intercept's standard error is that of the distance itself.

    Args:
        features: ``[images, features]`` in random order.
        reference: what they are compared with.

    Returns:
        The intercept; ``None`` where half of the images are fewer than three for each feature: the distance of so few
        is not linear in 1/N.
    """
    count, dimensions = features.shape
    sizes, distances = [], []
    for parts in (1, 2, 4):
        if parts > 1 and count // parts < 3 * dimensions:
            break
        pieces = np.array_split(features, parts)
        distances.append(np.mean([frechet_distance(statistics(piece), reference) for piece in pieces]))
        sizes.append(np.mean([1.0 / len(piece) for piece in pieces]))
    if len(sizes) < 2:
        return None
    return float(np.polyfit(sizes, distances, 1)[1])


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric square root of a symmetric, positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T
    return root


def kernel_distance(features: NDArray[np.float32], reference: NDArray[np.float32], seed: int = 0) -> float:
    """Kernel distance (KID), unbiased, through torch-fidelity: mean over 20 subsets of at most 500 images.

    Binkowski et al., "Demystifying MMD GANs" (2018), section 4, with its cubic kernel.
    """
    import torch
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        kid_features_to_metric,
    )

    size = min(500, len(features), len(reference))
    result = kid_features_to_metric(
        torch.from_numpy(features),
        torch.from_numpy(reference),
        kid_subsets=20,
        kid_subset_size=size,
        rng_seed=seed,
        verbose=False,
    )
    return float(result[KEY_METRIC_KID_MEAN])
