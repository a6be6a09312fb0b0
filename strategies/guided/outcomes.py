"""What surrogates learn: scores turned into targets that a few ruinous architectures do not distort."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outcomes"]


class Outcomes:
    """A monotone map from scores (more is better) to targets of mean 0 and standard deviation 1.

    Above the median nothing is bent. Below it, ``u = (y - median) / (best - median)`` becomes ``-log(1 - u)``: that a
    network failed to learn is bad, but how bad must not decide what is modelled of the good ones.

    Args:
        scores: ``n`` finite scores, at least one.
    """

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self.median = float(np.median(scores))
        self.unit = float(scores.max() - self.median) or float(np.std(scores)) or 1.0
        bent = self._bend(scores)
        self.mean, self.deviation = float(bent.mean()), float(bent.std()) or 1.0

    def _bend(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        u = (scores - self.median) / self.unit
        bent: NDArray[np.float64] = np.where(u < 0, -np.log1p(np.maximum(-u, 0)), u)
        return bent

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets of ``scores``."""
        return (self._bend(scores) - self.mean) / self.deviation
