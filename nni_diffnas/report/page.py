"""Renders the report: one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ..api.cost import COSTS
from ..api.errors import JobError
from ..api.pareto import pareto_front
from ..api.trial import Trial
from ..memory.journal import understood
from ..results.verdict_text import contrast_in_words, gain_in_words, method_in_words
from ..searching.formats import format_cost, format_seconds
from . import wording
from .charts import Band, Dot, ReferenceLine, draw_curves, draw_front, draw_importances, draw_shares, number
from .diagram import differences, draw_unet, is_unet, layer_kinds
from .source import Source
from .statistics import TOO_FEW, best_so_far, expected_best, importances

__all__ = ["drawn", "render", "render_report"]

_MOST_ROWS = 100
_MOST_PICTURES = 12
_FEWEST_RANDOM = 3


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("nni_diffnas.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    templates = files("nni_diffnas.report") / "templates"
    for name in ("style.css", "point.js"):
        environment.globals[name.partition(".")[0]] = Markup((templates / name).read_text())
    environment.globals["policy"] = _policy((templates / "point.js").read_text())
    return environment


def _policy(script: str) -> str:
    """Content security policy of our pages: they load nothing, and of all scripts only ours runs.

    Names and texts of a memory are a stranger's; what escaping should ever let through, the browser still refuses.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        f"base-uri 'none'; form-action 'none'"
    )


def render(template: str, **context: Any) -> str:
    """Fill one of the templates; everything but our own drawings is escaped."""
    return str(_environment().get_template(template).render(**context))


def drawn(svg: str) -> Any:
    """Mark a drawing of ours as HTML that needs no escaping."""
    from markupsafe import Markup

    return Markup(svg)  # made by `svg.Drawing`, which escapes what it is given


def render_report(source: Source, against: Source | None = None) -> str:
    """Render the page of a search.

    Args:
        source: the search; at least one trial.
        against: a random search of the same space and protocol, from which the expectation is drawn; without it, the
            random trials of the search itself.

    Returns:
        The HTML text.

    Raises:
        JobError: ``against`` was scored by another protocol, or holds no random trials.
        MemoryFileError: what the search noted is none of what searches note.
    """
    if against is not None:
        same = (against.space.key, against.trials[-1].protocol) == (source.space.key, source.trials[-1].protocol)
        if not same or not _random(against.ended):
            raise JobError(
                f"{against.name!r} cannot be compared with: it needs random trials of the same space and protocol "
                f"({source.trials[-1].protocol or 'none recorded'})."
            )
    with understood(source.memory):
        return _filled(source, against)


def _filled(source: Source, against: Source | None) -> str:
    outcome = source.outcome
    best = outcome.best
    planned = source.planned or len(source.trials)
    first, last = (source.events[0].time, source.events[-1].time) if source.events else (None, None)
    return render(
        "report.html",
        title=wording.title(source),
        source=source,
        outcome=outcome,
        metric=source.objective.metric,
        lower_is_better=source.objective.direction == "minimize",
        written=time.strftime("%Y-%m-%d %H:%M"),
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(first)) if first and last else "",
        planned=planned,
        running=any(trial.status == "pending" for trial in source.trials) and len(source.ended) < planned,
        headline=wording.headline(source),
        best=best,
        architecture=None if best is None else _architecture(source, best),
        pictures=_pictures(source),
        verdict=_verdict(source),
        curve=_curve(source, against),
        fronts=_fronts(source),
        shown=_shown(source),
        mattered=_mattered(source),
        origins=wording.origins(source),
        lineage=[] if best is None else wording.lineage(source, best),
        failures=wording.failures(source),
        ledger=wording.ledger(source),
        shares=_shares(source),
        reasons=wording.reasons(source),
        rejected=sum(event.kind in ("rejected", "proposal rejected") for event in source.events),
        reproduction=wording.reproduction(source),
        rows=_rows(source),
        cost=format_cost,
        seconds=format_seconds,
        spent=sum(trial.seconds or 0.0 for trial in source.ended),
    )


def _random(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.origin.kind == "random"]


def _shares(source: Source) -> dict[str, Any] | None:
    rounds = wording.asked(source)
    sums = {name: sum(round[i] for round in rounds) for i, name in enumerate(("proposed", "repaired", "filled"), 1)}
    return {"drawing": drawn(draw_shares(rounds)), "rounds": len(rounds), **sums} if rounds else None


def _architecture(source: Source, best: Trial) -> dict[str, Any]:
    unet = is_unet(best.architecture)
    return {
        "drawing": drawn(draw_unet(best.architecture, source.default)) if unet else "",
        "kinds": layer_kinds(best.architecture) if unet else [],
        "choices": wording.choices(source, best.architecture, source.default),
        "changed": len(differences(best.architecture, source.default)),
        "compared": source.default is not None,
    }


def _pictures(source: Source) -> list[dict[str, Any]]:
    """Samples of best, by hand, median and default, where they exist; the same trial is shown once."""
    outcome = source.outcome
    listed = {"best": outcome.best, "by hand": outcome.by_hand, "median": outcome.median, "default": outcome.default}
    found: dict[str, dict[str, Any]] = {}
    for title, trial in listed.items():
        address = wording.samples(source, trial)
        if trial is not None and address:
            shown = found.setdefault(trial.id, {"titles": [], "image": address, "trial": trial})
            shown["titles"].append(title)
    return list(found.values())


def _verdict(source: Source) -> dict[str, Any] | None:
    verdict = source.verdict
    if verdict is None:
        return None
    pictures = [verdict.output / run / "nearest.png" for run in verdict.winner.runs]
    return {
        "sentence": gain_in_words(verdict),
        "method": method_in_words(verdict),
        "trial": verdict.winner.trial,
        "rows": [
            (network, "" if network is verdict.winner else contrast_in_words(verdict.against(network)))
            for network in verdict.networks
        ],
        "nearest": next((picture for file in pictures if (picture := wording.picture(file))), ""),
    }


def _curve(source: Source, against: Source | None) -> dict[str, Any]:
    metric, objective = source.objective.metric, source.objective
    own = best_so_far(source.ended, objective)
    bands = [Band("this search", own.tolist())]
    pool = _random((against or source).ended)
    values = [
        float(t.metrics[metric]) for t in pool if t.status == "succeeded" and objective.score(t.metrics) is not None
    ]
    failed = len(pool) - len(values)
    expected = None
    if len(values) >= _FEWEST_RANDOM:
        worst = max(values) if objective.direction == "minimize" else min(values)
        expected = expected_best([*values, *[worst] * failed], objective)
        bands.append(Band.of("random search", expected, "c1"))
    points = [(i + 1, t) for i, t in enumerate(source.ended) if source.drawable(t)]
    levels = [
        ReferenceLine(name, score, style)
        for name, trial, style in (("by hand", source.outcome.by_hand, "hand"), ("default", source.outcome.default, ""))
        if trial is not None and source.within(score := float(trial.metrics[metric]))
    ]
    drawing = draw_curves(
        [band.clipped(source.limit, lower_is_better=objective.direction == "minimize") for band in bands],
        metric,
        [(position, float(t.metrics[metric]), _tip(source, t)) for position, t in points],
        levels,
    )
    at = min(len(own), len(expected.mean)) if expected is not None else 0
    return {
        "drawing": drawn(drawing) if points else "",
        "off": len(source.outcome.ranked) - len(points),
        "pool": len(pool),
        "failed": failed,
        "against": None if against is None else against.name,
        "expected": expected is not None,
        "at": at,
        "ours_at": float(own[at - 1]) if at else None,
        "random_at": float(expected.mean[at - 1]) if expected is not None and at else None,
        "levels": levels,
    }


def _tip(source: Source, trial: Trial) -> str:
    metric = source.objective.metric
    return f"{trial.id} ({trial.origin.kind}): {metric} {trial.metrics[metric]:.4g}, {format_cost(trial.cost)}"


def _fronts(source: Source) -> list[dict[str, Any]]:
    """A chart for each cost, and for what else the strategy minimises, where it is known and differs between trials."""
    metric, objective, outcome = source.objective.metric, source.objective, source.outcome
    found = []
    further = [name for name in wording.objectives(source) if name not in COSTS]
    for name, called in {**COSTS, **dict(zip(further, further, strict=True))}.items():
        title = f"{called} in ms" if name == "latency_ms" else called
        listed = [(t, known[name]) for t in outcome.ranked if name in (known := wording.costs_of(t, further))]
        if len({cost for _, cost in listed}) < 2:
            continue
        scores = [objective.score(trial.metrics) or 0.0 for trial, _ in listed]
        positions = pareto_front([(cost, -score) for (_, cost), score in zip(listed, scores, strict=True)])
        front = set(positions)
        dots = []
        for i, (trial, cost) in enumerate(listed):
            if not source.drawable(trial):
                continue
            kind = "front" if i in front else ""
            kind = "default" if trial is outcome.default else kind
            kind = "best" if trial is outcome.best else kind
            dots.append(Dot(cost, float(trial.metrics[metric]), trial.id, _tip(source, trial), kind))
        reference = outcome.default
        if (
            reference is not None
            and reference not in outcome.ranked
            and name in (known := wording.costs_of(reference, further))
        ):
            score = float(reference.metrics[metric])
            if source.within(score):
                dots.append(Dot(known[name], score, reference.id, _tip(source, reference), "default"))
        line = [(listed[i][1], float(listed[i][0].metrics[metric])) for i in positions if source.drawable(listed[i][0])]
        window = None if source.job is None else source.job.budget.get(name)
        bounds = None if window is None else (window.min, window.max)
        drawing = draw_front(dots, line, title, metric, bounds)
        found.append({"title": title, "drawing": drawn(drawing), "front": [listed[i][0].id for i in positions]})
    return found


def _shown(source: Source) -> str:
    """What the page shows of a trial that is pointed at: JSON by id."""
    front = dict.fromkeys(i for chart in _fronts(source) for i in chart["front"])
    with_picture = [*list(front)[:_MOST_PICTURES], *(t.id for t in (source.outcome.best, source.outcome.default) if t)]
    shown = {}
    for trial in source.outcome.ranked:
        changed = differences(trial.architecture, source.default)
        shown[trial.id] = {
            "score": f"{source.objective.metric} {number(float(trial.metrics[source.objective.metric]))}",
            "cost": format_cost(trial.cost),
            "origin": f"{trial.origin.kind} by {trial.origin.strategy}"
            + (f", from {trial.origin.parent}" if trial.origin.parent else ""),
            "changed": [f"{label} {trial.architecture[label]}" for label in changed],
            "image": wording.samples(source, trial) if trial.id in with_picture else "",
        }
    # Inside a script element only "<" can begin something else: its end, or a comment that hides the end.
    return json.dumps(shown).replace("<", "\\u003c")


def _mattered(source: Source) -> dict[str, Any]:
    found, explained = importances(source.ended, source.space, source.objective)
    return {
        "drawing": drawn(draw_importances(found[:16])) if found and explained > 0 else "",
        "explained": explained,
        "scored": len(source.outcome.ranked),
        "needed": TOO_FEW,
        "more": max(0, len(found) - 16),
        "certain": [importance.label for importance in found if importance.certain],
    }


def _rows(source: Source) -> dict[str, Any]:
    ranked = source.outcome.ranked
    return {"trials": ranked[:_MOST_ROWS], "more": max(0, len(ranked) - _MOST_ROWS)}
