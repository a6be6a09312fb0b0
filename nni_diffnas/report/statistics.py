"""The numbers of a report: the search curve, and what random search would have found.

Notation
    n   trials that have ended
    m   random trials that the expectation is drawn from
    k   draws
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.trial import Objective, Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Expectation", "best_so_far", "expected_best", "fence"]


def best_so_far(trials: Sequence[Trial], objective: Objective) -> NDArray[np.float64]:
    """The best value of the objective after each ended trial ``[n]``; NaN before the first score."""
    scores = [objective.score(trial.metrics) if trial.status == "succeeded" else None for trial in trials]
    filled = np.array([-np.inf if score is None else score for score in scores], dtype=np.float64)
    curve = np.maximum.accumulate(filled) if len(filled) else filled
    sign = -1.0 if objective.direction == "minimize" else 1.0
    return np.where(np.isfinite(curve), sign * curve, np.nan)


def fence(values: Sequence[float], objective: Objective) -> float:
    """The worst value worth drawing: Tukey's fence on the bad side, 1.5 interquartile ranges beyond the quartile.

    NaN where there are no values.
    """
    if not len(values):
        return math.nan
    low, high = np.quantile(np.asarray(values, dtype=np.float64), (0.25, 0.75))
    return float(high + 1.5 * (high - low) if objective.direction == "minimize" else low - 1.5 * (high - low))


@dataclass(frozen=True)
class Expectation:
    """The best of ``k`` draws without replacement from ``m`` random trials, for ``k`` = 1 ... ``m``.

    Args:
        mean: expected best ``[m]``.
        low: 10 % quantiles of the best ``[m]``.
        high: 90 % quantiles of it.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def expected_best(values: Sequence[float], objective: Objective) -> Expectation:
    """Exact expectation and quantiles of best-of-``k`` over all subsets of the given values.

    With the values sorted from best to worst, the ``i``-th (from 0) is the best of a subset of size ``k`` with
    probability ``C(m - 1 - i, k - 1) / C(m, k)``. Beyond ``k = m`` nothing is known, and nothing is said.

    Args:
        values: of the objective, one for each random trial ``[m]``; a failed one counts as the worst of them.
        objective: says what is best.
    """
    from scipy.special import gammaln

    m = len(values)
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    if objective.direction == "maximize":
        ranked = ranked[::-1]
    draws, rank = np.arange(1, m + 1)[:, None], np.arange(m)[None, :]

    def log_choose(a: Any, b: Any) -> Any:
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)

    possible = rank <= m - draws
    with np.errstate(invalid="ignore"):
        logs = log_choose(m - 1 - rank, draws - 1) - log_choose(m, draws)
    weights = np.where(possible, np.exp(np.where(possible, logs, 0.0)), 0.0)
    below = np.cumsum(weights, axis=1)
    quantiles = [ranked[np.minimum((below < q - 1e-12).sum(axis=1), m - 1)] for q in (0.1, 0.9)]
    return Expectation(weights @ ranked, np.minimum(*quantiles), np.maximum(*quantiles))
