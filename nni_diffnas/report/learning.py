"""The learning curves of all trials: what each had reached at the rungs of its training, and who was stopped where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..api.trial import REFERENCE, UNRANKED, Trial
from ..searching.halving import part_of_rung
from . import wording
from .charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_axes, number
from .source import Source, start_body
from .svg import Drawing, LogScale, Scale

__all__ = ["LearningCurve", "curves_of", "draw_learning", "learning"]


@dataclass(frozen=True)
class LearningCurve:
    """One trial on its way.

    Args:
        trial: whose curve it is.
        points: per cent of the training, and the metric then; by rising per cent, never empty.
        stopped: whether it ended itself at the last of them.
        style: class of its line.
    """

    trial: Trial
    points: tuple[tuple[float, float], ...]
    stopped: bool
    style: str = ""

    @property
    def end(self) -> float:
        """Per cent of the training after which it ended, or was measured last."""
        return self.points[-1][0]


def curves_of(source: Source) -> tuple[str, list[LearningCurve]]:
    """The metric by which trials are stopped, or else the objective, and the curves of all trials that have rungs."""
    metric = _compared(source)
    found = []
    for trial in source.ended:
        rungs = {part_of_rung(name): value for name, value in trial.metrics.items() if name.startswith(f"{metric}@")}
        whole = metric in trial.metrics
        measured = {**rungs, **({100.0: trial.metrics[metric]} if whole else {})}
        points = tuple((part, float(measured[part])) for part in sorted(measured) if math.isfinite(measured[part]))
        if rungs and points:
            stopped = not whole and bool(trial.metrics.get(UNRANKED)) and trial.origin.kind != REFERENCE
            found.append(LearningCurve(trial, points, stopped, source.roles.get(trial.id, "")))
    return metric, found


def _compared(source: Source) -> str:
    halving = (start_body(source).get("options") or {}).get("halving")
    named = halving.get("metric") if isinstance(halving, dict) else None
    return str(named or source.objective.metric)


def learning(source: Source) -> dict[str, Any] | None:
    """What the page says of the curves; ``None`` where no trial was measured on its way."""
    metric, curves = curves_of(source)
    if not curves:
        return None
    rungs = sorted({part for curve in curves for part, _ in curve.points if part < 100})
    stopped = [curve for curve in curves if curve.stopped]
    return {
        "metric": metric,
        "drawing": draw_learning(curves, metric, {c.trial.id: _tip(source, c, metric) for c in curves}),
        "styles": {curve.style for curve in curves},
        "whole": sum(curve.end >= 100 for curve in curves),
        "stopped": {curve.trial.id: wording.why_stopped(source, curve.trial) for curve in stopped},
        "rungs": [
            (
                part,
                sum(any(at == part for at, _ in curve.points) for curve in curves),
                [curve.trial.id for curve in stopped if curve.end == part],
            )
            for part in rungs
        ],
    }


def _tip(source: Source, curve: LearningCurve, metric: str) -> str:
    name = f"{curve.trial.id} ({curve.trial.origin.kind})"
    if curve.stopped:
        return f"{name}: {wording.why_stopped(source, curve.trial)}"
    return f"{name}: {metric} {number(curve.points[-1][1])}"


def draw_learning(curves: Sequence[LearningCurve], metric: str, tips: dict[str, str]) -> str:
    """A line for each trial over its training; a cross where one was stopped.

    Args:
        curves: of the trials; those with a style are drawn last, on top.
        metric: name of the vertical axis, logarithmic where all values are positive.
        tips: what is known of a trial, by id.
    """
    values = [value for curve in curves for _, value in curve.points]
    first = min(part for curve in curves for part, _ in curve.points)
    x = Scale(first - 4.0, 103.0, LEFT, RIGHT)
    y = (LogScale if min(values) > 0 else Scale).around(values, BOTTOM, TOP + 6)
    picture = Drawing(WIDTH, HEIGHT, f"{metric} of every trial over its training")
    draw_axes(picture, x, y, "% of the training", metric)
    for curve in sorted(curves, key=lambda curve: (bool(curve.style), not curve.stopped)):
        at = [(x(part), y(value)) for part, value in curve.points]
        tip = tips.get(curve.trial.id, curve.trial.id)
        style = curve.style or ("stopped" if curve.stopped else "whole")
        picture.line(at, f"learning {style}", tip)
        (a, b), size = at[-1], 2.6
        if curve.stopped:
            for turn in (1, -1):
                picture.line([(a - size, b - turn * size), (a + size, b + turn * size)], "cross", tip)
        else:
            picture.add("circle", None, tip, cx=a, cy=b, r=2.4, class_=f"end {style}")
    return str(picture)
