"""Renders the report: one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from ..api.errors import JobError
from ..api.trial import Trial
from ..memory.journal import understood
from ..results.verdict_text import contrast_in_words, gain_in_words, method_in_words
from ..searching.formats import format_cost, format_seconds
from ..searching.halving import part_of_rung
from . import wording
from .charts import Band, ReferenceLine, draw_curves, draw_shares, draw_worths, number
from .diagram import differences, draw_unet, is_unet, layer_kinds
from .fronts import fronts, pointed, tip
from .learning import learning
from .source import Source
from .statistics import best_so_far, expected_best
from .worth import worths

__all__ = ["drawn", "render", "render_report"]

_MOST_ROWS = 100
_MOST_BYTES = 8_000_000
"""Of all pictures in the table of trials."""
_MOST_LABELS = 8
_FEWEST_RANDOM = 3
_LEVELS = {"by hand": "hand", "recommended": "recommended", "default": ""}
"""Styles of the lines of what needs no search."""


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
    reasons = wording.reasons(source)
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
        learning=_learning(source),
        fronts=[{**chart, "drawing": drawn(chart["drawing"])} for chart in fronts(source)],
        pointed=pointed(source, reasons),
        worths=_worths(source),
        origins=wording.origins(source),
        lineage=[] if best is None else wording.lineage(source, best),
        failures=wording.failures(source),
        ledger=wording.ledger(source),
        shares=_shares(source),
        reasons=reasons,
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
    """Samples of best, what needs no search, and median, where they exist; the same trial is shown once."""
    outcome = source.outcome
    listed = {"best": outcome.best, **outcome.known, "median": outcome.median}
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
    unscored = len(pool) - len(values)
    expected = None
    if len(values) >= _FEWEST_RANDOM:
        worst = max(values) if objective.direction == "minimize" else min(values)
        expected = expected_best([*values, *[worst] * unscored], objective)
        bands.append(Band.of("random search", expected, "c1"))
    points = [(i + 1, t) for i, t in enumerate(source.ended) if source.drawable(t)]
    levels = [
        ReferenceLine(name, score, _LEVELS[name])
        for name, trial in source.outcome.known.items()
        if source.within(score := float(trial.metrics[metric]))
    ]
    drawing = draw_curves(
        [band.clipped(source.limit, lower_is_better=objective.direction == "minimize") for band in bands],
        metric,
        [(position, float(t.metrics[metric]), tip(t, metric)) for position, t in points],
        levels,
    )
    at = min(len(own), len(expected.mean)) if expected is not None else 0
    return {
        "drawing": drawn(drawing) if points else "",
        "off": len(source.outcome.ranked) - len(points),
        "pool": len(pool),
        "failed": sum(trial.status == "failed" for trial in pool),
        "stopped": unscored - sum(trial.status == "failed" for trial in pool),
        "against": None if against is None else against.name,
        "expected": expected is not None,
        "at": at,
        "ours_at": float(own[at - 1]) if at else None,
        "random_at": float(expected.mean[at - 1]) if expected is not None and at else None,
        "levels": levels,
    }


def _worths(source: Source) -> dict[str, Any] | None:
    """What choices are worth; ``None`` where too few trials were measured."""
    found = worths(source.ended, source.space, source.objective)
    if found is None:
        return None
    said = [tuple(worth for worth in group if worth.value is not None) for group in found.labels]
    told = [group for group in said if group][:_MOST_LABELS]
    return {
        "drawing": drawn(draw_worths(told, found.relative)) if found.explained > 0 else "",
        "metric": found.metric,
        "rung": part_of_rung(found.metric),
        "trials": found.trials,
        "explained": found.explained,
        "relative": found.relative,
        "more": len([group for group in said if group]) - len(told),
    }


def _learning(source: Source) -> dict[str, Any] | None:
    found = learning(source)
    return None if found is None else {**found, "drawing": drawn(found["drawing"])}


def _rows(source: Source) -> dict[str, Any]:
    """The ranked trials, best first, and what they draw, as far as a page may be large."""
    ranked = source.outcome.ranked
    pictures: dict[str, str] = {}
    left = _MOST_BYTES
    for trial in ranked[:_MOST_ROWS]:
        address = wording.samples(source, trial)
        if address and len(address) <= left:
            left -= len(address)
            pictures[trial.id] = address
    return {"trials": ranked[:_MOST_ROWS], "more": max(0, len(ranked) - _MOST_ROWS), "pictures": pictures}
