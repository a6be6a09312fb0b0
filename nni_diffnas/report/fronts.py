"""Charts of what trials score against what they cost, and what is said of a trial that is pointed at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..api.cost import COSTS
from ..api.pareto import pareto_front
from ..api.trial import Objective, Trial
from ..searching.formats import format_cost
from . import wording
from .charts import Dot, draw_front, number
from .diagram import differences
from .source import Source
from .statistics import fence

__all__ = ["fronts", "pointed", "tip"]

_DISTANCE = Objective("rfid", "minimize")
"""Drawn beside another objective, where trials measure it: a loss ranks well, but does not say how images look."""


def fronts(source: Source) -> list[dict[str, Any]]:
    """A chart for each cost, and for what else the strategy minimises, where it is known and differs between trials.

    Where trials are ranked by something else and measure the distance too, it has charts against MACs and latency.
    """
    further = [name for name in wording.objectives(source) if name not in COSTS]
    names = {**COSTS, **dict(zip(further, further, strict=True))}
    charts = [_front(source, source.objective, name, called, further) for name, called in names.items()]
    if source.objective.metric != _DISTANCE.metric:
        charts += [_front(source, _DISTANCE, name, COSTS[name]) for name in ("macs", "latency_ms")]
    return [chart for chart in charts if chart]


def _front(
    source: Source, objective: Objective, name: str, called: str, further: Sequence[str] = ()
) -> dict[str, Any] | None:
    """One chart of an objective against a cost."""
    metric, title = objective.metric, f"{called} in ms" if name == "latency_ms" else called
    costs = {t.id: c for t in source.trials if (c := wording.costs_of(t, further).get(name)) is not None}
    scored = {t.id: s for t in source.outcome.ranked if (s := objective.score(t.metrics)) is not None}
    listed = [trial for trial in source.outcome.ranked if trial.id in costs and trial.id in scored]
    if len({costs[trial.id] for trial in listed}) < 2:
        return None
    positions = pareto_front([(costs[trial.id], -scored[trial.id]) for trial in listed])
    front = [listed[i] for i in positions]
    limit = fence([float(trial.metrics[metric]) for trial in listed], objective)

    def drawable(trial: Trial) -> bool:
        value = float(trial.metrics[metric])
        return value <= limit if objective.direction == "minimize" else value >= limit

    default = source.outcome.default
    beside = default is not None and default not in listed and default.id in costs and metric in default.metrics
    drawn = [trial for trial in (*listed, *([default] if default is not None and beside else [])) if drawable(trial)]
    crowd = {trial.id: "front" for trial in front}
    dots = [
        Dot(
            costs[trial.id],
            float(trial.metrics[metric]),
            trial.id,
            tip(trial, metric),
            source.roles.get(trial.id, crowd.get(trial.id, "")),
        )
        for trial in drawn
    ]
    line = [(costs[trial.id], float(trial.metrics[metric])) for trial in front if drawable(trial)]
    window = None if source.job is None else source.job.budget.get(name)
    bounds = None if window is None else (window.min, window.max)
    return {
        "title": title,
        "metric": metric,
        "drawing": draw_front(dots, line, title, metric, bounds),
        "front": [trial.id for trial in front],
        "off": len(listed) - sum(drawable(trial) for trial in listed),
        "kinds": {dot.kind for dot in dots},
        "bounded": bounds is not None,
    }


def tip(trial: Trial, metric: str) -> str:
    """A scored trial in one line."""
    return f"{trial.id} ({trial.origin.kind}): {metric} {trial.metrics[metric]:.4g}, {format_cost(trial.cost)}"


def pointed(source: Source, reasons: Mapping[str, str]) -> str:
    """What the page shows of a trial that is pointed at: JSON by id.

    Args:
        source: the search.
        reasons: of a language model, by trial.
    """
    shown = {}
    default = source.outcome.default
    listed = {trial.id: trial for trial in (*source.outcome.ranked, *([default] if default is not None else []))}
    for trial in listed.values():
        changed = differences(trial.architecture, source.default)
        shown[trial.id] = {
            "score": f"{source.objective.metric} {number(float(trial.metrics[source.objective.metric]))}",
            "cost": format_cost(trial.cost),
            "origin": f"{trial.origin.kind} by {trial.origin.strategy}"
            + (f", from {trial.origin.parent}" if trial.origin.parent else ""),
            "changed": [f"{label} {trial.architecture[label]}" for label in changed],
            "reason": reasons.get(trial.id, ""),
        }
    # Inside a script element only "<" can begin something else: its end, or a comment that hides the end.
    return json.dumps(shown).replace("<", "\\u003c")
