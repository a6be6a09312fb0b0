"""The numbers of a report: search curve, what random search would have found, importance of choices.

Notation
    n   trials that have ended
    m   random trials that the expectation is drawn from
    k   draws
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.space import Space
from ..api.trial import Objective, Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Expectation", "Importance", "best_so_far", "expected_best", "fence", "importances"]

TOO_FEW = 20
"""Below so many scored trials nothing is said of which choices mattered."""

_RESAMPLES = 24
_TREES = 60
_MOST_TRIALS = 600


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
        low, high: 10 % and 90 % quantiles of the best ``[m]``.
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


@dataclass(frozen=True)
class Importance:
    """How much one choice mattered.

    Args:
        label: of the choice.
        mean: share of the objective's variance that the forest loses when the choice is shuffled, over the resamples.
        low, high: 5 % and 95 % quantiles over the resamples.
    """

    label: str
    mean: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0


def importances(
    trials: Sequence[Trial], space: Space, objective: Objective, seed: int = 0
) -> tuple[list[Importance], float]:
    """Permutation importance of every choice that varies, by random forests on bootstrap resamples of the trials.

    Each forest is fitted to one resample and judged on the trials left out of it, so that nothing is learned by heart.
    Scores are replaced by their ranks: a diverged network must not decide everything.

    Args:
        trials: in order of submission; the latest 600 that have a score are used.
        space: of the trials.
        objective: that was searched for.
        seed: of resamples and forests.

    Returns:
        Importances, the largest first, and the median share of the variance that the forests explain on trials left
        out. No importances where there are fewer than `TOO_FEW` trials, or where nothing varies.
    """
    scored = [(t, s) for t in trials if t.status == "succeeded" and (s := objective.score(t.metrics)) is not None]
    scored = scored[-_MOST_TRIALS:]
    if len(scored) < TOO_FEW:
        return [], 0.0
    from scipy.stats import rankdata
    from sklearn.ensemble import RandomForestRegressor

    columns = {label: _column(label, values, [t for t, _ in scored]) for label, values in space.choices.items()}
    columns = {label: column for label, column in columns.items() if len(np.unique(column, axis=0)) > 1}
    if not columns:
        return [], 0.0
    x = np.concatenate(list(columns.values()), axis=1)
    bounds = np.cumsum([0, *(column.shape[1] for column in columns.values())])
    y = rankdata([score for _, score in scored]) / len(scored)
    rng = np.random.default_rng(seed)
    lost: list[list[float]] = []
    explained: list[float] = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(0, len(y), len(y))
        out = np.setdiff1d(np.arange(len(y)), rows)
        forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=int(rng.integers(2**31)))
        forest.fit(x[rows], y[rows])
        variance = float(np.var(y[out])) or 1.0
        error = float(np.mean((forest.predict(x[out]) - y[out]) ** 2))
        explained.append(1 - error / variance)
        losses = []
        for start, end in itertools.pairwise(bounds):
            shuffled = x[out].copy()
            shuffled[:, start:end] = shuffled[rng.permutation(len(out)), start:end]
            losses.append((float(np.mean((forest.predict(shuffled) - y[out]) ** 2)) - error) / variance)
        lost.append(losses)
    table = np.array(lost)
    low, high = np.quantile(table, (0.05, 0.95), axis=0)
    found = [
        Importance(label, float(table[:, i].mean()), float(low[i]), float(high[i])) for i, label in enumerate(columns)
    ]
    return sorted(found, key=lambda importance: importance.mean, reverse=True), float(np.median(explained))


def _column(label: str, values: Sequence[Any], trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Numbers as they are, words one-hot; an absent label is a value of its own ``[n, columns]``."""
    chosen = [trial.architecture.get(label) for trial in trials]
    if any(isinstance(value, str) for value in values):
        return np.array([[float(value == option) for option in values] for value in chosen])
    absent = min(float(value) for value in values) - 1.0
    return np.array([[absent if value is None else float(value)] for value in chosen])
