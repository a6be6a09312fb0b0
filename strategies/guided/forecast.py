"""What a trial that was stopped on its way would have scored, by what others had measured there.

A straight line from the score at a rung to the final one, fitted to the trials that have both; a line that can be drawn
through few points only shifts. What it leaves is the doubt of the forecast, so that a surrogate learns from what was
trained briefly as much as it is worth: the auto-regressive model of two fidelities (Kennedy & O'Hagan 2000), with a
difference between them that has no structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nni_diffnas.api.trial import Trial

__all__ = ["Forecast", "forecast"]

_ENOUGH = 5
"""So many trials with both scores give a line its slope; fewer only shift it."""


@dataclass(frozen=True)
class Forecast:
    """Score that a stopped trial would have had, more is better, and the deviation of that."""

    trial: Trial
    score: float
    deviation: float


def forecast(
    stopped: Sequence[Trial], complete: Sequence[Trial], metric: str, score: Callable[[Trial], float | None]
) -> list[Forecast]:
    """Forecasts of those stopped trials that have reached a rung where two complete ones at least were measured.

    Args:
        stopped: trials without a score.
        complete: trials with one.
        metric: measured at the rungs, as ``metric@25``; less is better.
        score: of a complete trial, more is better.
    """
    found = []
    for trial in stopped:
        last = max((name for name in trial.metrics if name.startswith(f"{metric}@")), key=_at, default=None)
        if last is None:
            continue
        pairs = [(-float(t.metrics[last]), s) for t in complete if last in t.metrics and (s := score(t)) is not None]
        finite = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2)
        value = -float(trial.metrics[last])
        if len(finite) < 2 or not np.isfinite(value):
            continue
        x, y = finite.T
        slope, free = 1.0, 1
        if len(x) >= _ENOUGH and np.ptp(x) > 0:
            free = 2
            slope = max(float(np.cov(x, y)[0, 1] / x.var(ddof=1)), 0.0)
        left = y - slope * x
        found.append(Forecast(trial, slope * value + float(left.mean()), float(left.std(ddof=free))))
    return found


def _at(name: str) -> float:
    """The part of the training after which a metric of a rung is measured."""
    try:
        return float(name.rpartition("@")[2])
    except ValueError:
        return -1.0
