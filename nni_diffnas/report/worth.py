"""What each choice is worth: an additive model of the score over the trials of a search.

Notation
    n   trials that were measured
    p   pairs of a label and one of its values that occur
    x   one-hot rows ``[n, p]``, y scores ``[n]``: logarithms where all are positive
    w   effects ``[p]``, of one prior for all of them, normal around 0

Bayesian linear regression, the widths of prior and noise from the evidence: MacKay, "Bayesian Interpolation" (1992).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api.space import Space, Value
from ..api.trial import Objective, Trial
from ..searching.halving import part_of_rung
from .statistics import fence

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOO_FEW", "Worth", "Worths", "worths"]

TOO_FEW = 20
"""Below so many measured trials nothing is said of what choices are worth."""

_FOLDS = 10
_NORMAL = 1.96
_MOST_TRIALS = 600


@dataclass(frozen=True)
class Worth:
    """How networks with one value of a choice compare with the average network of the search, all else being equal.

    Args:
        label: of the choice.
        value: ``None`` where the label does not apply.
        trials: that had it.
        effect: on the score: a share of it (0.05 is 5 % more) where scores are positive, otherwise a difference.
        low: lower end of the 95 % interval of the effect.
        high: its upper end.
    """

    label: str
    value: Value | None
    trials: int
    effect: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Worths:
    """The worth of all choices that vary.

    Args:
        metric: that was compared: the objective, or what it was at the first rung, where more trials have that.
        trials: that have it.
        labels: by label its values, the labels with the widest spread of effects first.
        explained: share of the variance of trials that the model was not fitted to.
        relative: whether effects are shares of the score.
    """

    metric: str
    trials: int
    labels: tuple[tuple[Worth, ...], ...]
    explained: float
    relative: bool


def worths(trials: Sequence[Trial], space: Space, objective: Objective) -> Worths | None:
    """Fit the model; the same trials give the same worths.

    Args:
        trials: in order of submission; the latest 600 that were measured are used.
        space: of the trials.
        objective: that was searched for.

    Returns:
        ``None`` where there are fewer than `TOO_FEW` trials, or where nothing varies.
    """
    metric, measured = _measured(trials, objective)
    measured = measured[-_MOST_TRIALS:]
    if len(measured) < TOO_FEW:
        return None
    chosen = [trial.architecture for trial, _ in measured]
    pairs = [
        (label, value)
        for label, values in space.choices.items()
        if len({architecture.get(label) for architecture in chosen}) > 1
        for value in (*values, None)
        if any(architecture.get(label) == value for architecture in chosen)
    ]
    scores = np.array([score for _, score in measured])
    worst = fence(scores.tolist(), objective)  # one diverged network must not decide everything
    scores = np.minimum(scores, worst) if objective.direction == "minimize" else np.maximum(scores, worst)
    if not pairs or np.ptp(scores) == 0:
        return None
    relative = bool((scores > 0).all())
    y = np.log(scores) if relative else scores
    x = np.array([[float(architecture.get(label) == value) for label, value in pairs] for architecture in chosen])
    # Each effect is that of its value against the label's average, so that a label's effects cannot all rise together.
    groups = [[i for i, (other, _) in enumerate(pairs) if other == label] for label in dict(pairs)]
    contrast = np.eye(len(pairs))
    for group in groups:
        contrast[np.ix_(group, group)] -= x[:, group].mean(axis=0)
    model = _fit(x, y)
    effects = contrast @ model.coef_
    spread = _NORMAL * np.sqrt(np.diag(contrast @ model.sigma_ @ contrast.T))
    change = np.expm1 if relative else np.asarray
    ends = [change(effects), change(effects - spread), change(effects + spread)]
    counts = x.sum(axis=0)
    found = [
        Worth(label, value, int(counts[i]), *(float(end[i]) for end in ends)) for i, (label, value) in enumerate(pairs)
    ]
    labels = sorted(
        (tuple(found[i] for i in group) for group in groups), key=lambda group: np.ptp([w.effect for w in group])
    )
    return Worths(metric, len(measured), tuple(labels[::-1]), _explained(x, y), relative)


def _measured(trials: Sequence[Trial], objective: Objective) -> tuple[str, list[tuple[Trial, float]]]:
    """The name of what most trials have: the objective, or what it was at the first rung; and who has it."""
    succeeded = [trial for trial in trials if trial.status == "succeeded"]
    rungs = {name for t in succeeded for name in t.metrics if name.startswith(f"{objective.metric}@")}
    listed = {objective.metric: [t for t in succeeded if objective.score(t.metrics) is not None]}
    for rung in sorted(rungs, key=part_of_rung)[:1]:
        listed[rung] = [t for t in succeeded if math.isfinite(t.metrics.get(rung, math.nan))]
    name = max(listed, key=lambda name: len(listed[name]))
    return name, [(trial, float(trial.metrics[name])) for trial in listed[name]]


def _fit(x: NDArray[np.float64], y: NDArray[np.float64]) -> Any:
    from sklearn.linear_model import BayesianRidge

    return BayesianRidge(max_iter=1000).fit(x, y)


def _explained(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Share of the variance explained of trials that were left out, a tenth at a time."""
    folds = np.random.default_rng(0).permutation(len(y)) % _FOLDS
    left = np.zeros(len(y))
    for fold in range(_FOLDS):
        out = folds == fold
        left[out] = y[out] - _fit(x[~out], y[~out]).predict(x[out])
    return float(1 - np.mean(left**2) / np.var(y))
