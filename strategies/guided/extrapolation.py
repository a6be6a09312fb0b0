"""What a trial that was stopped on its way would have scored, by what others had measured there.

A straight line from the score at a rung to the final one, fitted to the trials that have both; a line that can be drawn
through few points only shifts, and a slope is held to be near 1, since trials that went on lie close together and tell
little of it. What it leaves is the doubt of the extrapolation, so that a surrogate learns from what was
trained briefly as much as it is worth: the auto-regressive model of two fidelities (Kennedy & O'Hagan 2000), with a
difference between them that has no structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.trial import Trial
from nni_diffnas.searching.halving import part_of_rung

__all__ = ["Extrapolated", "extrapolate"]

_ENOUGH = 5
"""So many trials with both scores give a line its slope; fewer only shift it."""

_SLOPE_DEVIATION = 0.5
"""Of what is thought of the slope beforehand; its mean is 1."""


@dataclass(frozen=True)
class Extrapolated:
    """Score that a stopped trial would have had, more is better, and the deviation of that."""

    trial: Trial
    score: float
    deviation: float


def extrapolate(
    stopped: Sequence[Trial], complete: Sequence[Trial], metric: str, score: Callable[[Trial], float | None]
) -> list[Extrapolated]:
    """Extrapolations of those stopped trials that have reached a rung where two complete ones at least were measured.

    Args:
        stopped: trials without a score.
        complete: trials with one.
        metric: measured at the rungs, as ``metric@25``; less is better.
        score: of a complete trial, more is better.
    """
    found = []
    for trial in stopped:
        last = max((name for name in trial.metrics if name.startswith(f"{metric}@")), key=part_of_rung, default=None)
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
            slope = _slope(x, y)
        left = y - slope * x
        found.append(Extrapolated(trial, slope * value + float(left.mean()), float(left.std(ddof=free))))
    return found


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The most likely slope of a line, by the points and by what is thought beforehand; not below 0."""
    x, y = x - x.mean(), y - y.mean()
    squares = float(x @ x)
    left = y - float(x @ y) / squares * x
    prior = float(left @ left) / (len(x) - 2) / _SLOPE_DEVIATION**2
    return max((float(x @ y) + prior) / (squares + prior), 0.0)
