"""Rapid FID: the Fréchet distance between few generated images and the training images, in a named feature space.

d^2 = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)), means m and covariances C of features, float64.
Dowson and Landau (1982); Heusel et al. (2017), equation 6. It is called FID only for the 2048 Inception features on
the complete protocol, so never here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.errors import DataError, TrialFailure

__all__ = ["Statistics", "frechet_distance", "kernel_distance", "statistics"]


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
    """Statistics of features ``[images, features]``, through torch-fidelity, in float64.

    Raises:
        DataError: fewer than two images.
    """
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics

    if len(features) < 2:
        raise DataError(f"A covariance needs two images at least, not {len(features)}: ask for more images.")
    if not np.isfinite(features).all():
        raise TrialFailure("The features of the images are not finite: the generated images hold NaN or infinity.")
    result = fid_features_to_statistics(torch.from_numpy(features.astype(np.float64)))
    return Statistics(result["mu"], result["sigma"], len(features))


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """The squared Fréchet distance of two Gaussians with these statistics, through torch-fidelity."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    stats = [{"mu": each.mean, "sigma": each.covariance} for each in (one, other)]
    return float(fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID])


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
