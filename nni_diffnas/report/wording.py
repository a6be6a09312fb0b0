"""What a report says in tables and sentences, computed from a `Source`."""

from __future__ import annotations

import base64
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..api.cost import COSTS, Cost
from ..api.space import Architecture, Value
from ..api.trial import BY_HAND, Trial
from ..language_model.reading import shares
from ..results.read import SAMPLES
from ..searching.formats import format_count, format_seconds
from ..searching.progress import score_line
from ..trial.result_file import TrialRecord
from .charts import number
from .diagram import differences
from .source import Source, start_body

__all__ = [
    "asked",
    "choices",
    "costs_of",
    "evaluation",
    "failures",
    "headline",
    "ledger",
    "lineage",
    "objectives",
    "origins",
    "picture",
    "reasons",
    "reproduction",
    "title",
    "why_stopped",
]


def objectives(source: Source) -> list[str]:
    """What the strategy was asked to minimise beside the objective."""
    listed = (start_body(source).get("options") or {}).get("objectives") or ()
    return [str(name) for name in listed] if isinstance(listed, list | tuple) else []


def costs_of(trial: Trial, further: Sequence[str] = ()) -> dict[str, float]:
    """What is known of a trial's cost: what was measured goes before what was computed.

    Args:
        trial: of a search.
        further: metrics that count as costs.
    """
    known = dict((trial.cost or Cost(0, 0)).as_metrics())
    found = {name: trial.metrics.get(name) for name in (*COSTS, *further)}
    measured = {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
    return {name: value for name, value in {**known, **measured}.items() if value and math.isfinite(value)}


def relative(value: float, reference: float) -> str:
    """The change from a reference in percent, signed."""
    return "" if not reference else f"{(value - reference) / abs(reference):+.0%}".replace("-", "\u2212")


def headline(source: Source) -> list[tuple[str, str, str]]:
    """The numbers that matter: ``(what, value, remark)``."""
    outcome, metric = source.outcome, source.objective.metric
    best, default = outcome.best, outcome.default
    found: list[tuple[str, str, str]] = []
    if best is not None:
        remarks = [_against(source, best, name, rival) for name, rival in outcome.known.items()]
        found.append((f"best {metric}", number(float(best.metrics[metric])), ", ".join(remarks)))
    for name, rival in outcome.known.items():
        middle = outcome.median if name == "default" else None
        remark = "" if middle is None else f"median of the scored trials {number(float(middle.metrics[metric]))}"
        found.append((f"{name} {metric}", number(float(rival.metrics[metric])), remark))
    if best is not None:
        ours, theirs = costs_of(best), {} if default is None else costs_of(default)
        for name in ("macs", "params"):
            if name in ours:
                remark = f"{relative(ours[name], theirs[name])} against the default" if name in theirs else ""
                title = {"macs": "MACs of the best", "params": "its parameters"}[name]
                found.append((title, format_count(ours[name]), "" if best is default else remark))
    return found


def _against(source: Source, best: Trial, name: str, rival: Trial) -> str:
    """How the best score stands to that of a network which has to be beaten."""
    if rival.id == best.id:
        return "the network by hand itself" if name == BY_HAND else f"the {name} network itself"
    ours, theirs = (float(trial.metrics[source.objective.metric]) for trial in (best, rival))
    return f"{relative(ours, theirs)} against {name if name == BY_HAND else f'the {name}'}"


def evaluation(source: Source, trial: Trial) -> Mapping[str, Any]:
    """What a trial's evaluator wrote down; empty where its folder is not here, or holds something else."""
    output = source.output(trial)
    file = None if output is None else output / "evaluation.json"
    # A link may lead to a file of the reader's.
    return {} if file is None or file.is_symlink() else TrialRecord.read(file)


def why_stopped(source: Source, trial: Trial) -> str:
    """Why a trial ended itself on its way: its own sentence where its folder is here, or else how far it came."""
    sentence = evaluation(source, trial).get("stopped")
    return str(sentence) if sentence else score_line(trial, source.objective.metric)


def origins(source: Source) -> list[dict[str, Any]]:
    """One row for each way in which architectures came about, in the order in which they did.

    Trials that cannot be ranked with the others have rows of their own, marked ``apart``.
    """
    metric, sign = source.objective.metric, source.objective
    groups: dict[tuple[bool, str, str, str], list[Trial]] = {}
    for apart, listed in ((True, source.others), (False, source.ended)):
        for trial in listed:
            if trial.status != "pending":
                key = (apart, trial.protocol if apart else "", trial.origin.strategy, trial.origin.kind)
                groups.setdefault(key, []).append(trial)
    rows = []
    for (apart, _, strategy, kind), trials in groups.items():
        scored = [t for t in trials if t.status == "succeeded" and sign.score(t.metrics) is not None]
        values = [float(t.metrics[metric]) for t in scored]
        best = max(scored, key=lambda t: sign.score(t.metrics) or 0.0, default=None)
        rows.append(
            {
                "strategy": strategy,
                "kind": kind,
                "apart": apart,
                "count": len(trials),
                "failed": sum(t.status == "failed" for t in trials),
                "best": "" if best is None else number(float(best.metrics[metric])),
                "median": number(median(values)) if values else "",
                "winner": source.outcome.best is not None and source.outcome.best in trials,
            }
        )
    return rows


def lineage(source: Source, trial: Trial) -> list[Trial]:
    """The trial and what it was derived from, the oldest first."""
    known = {t.id: t for t in source.trials}
    chain = [trial]
    while (parent := known.get(chain[-1].origin.parent or "")) is not None and parent not in chain:
        chain.append(parent)
    return chain[::-1]


def failures(source: Source) -> list[tuple[str, int, str]]:
    """Reasons of failed trials with their number and the first trial: ``(reason, count, trial)``."""
    failed = [trial for trial in source.ended if trial.status == "failed"]
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for trial in failed:
        reason = trial.reason or "no reason was recorded"
        counts[reason] += 1
        first.setdefault(reason, trial.id)
    return [(reason, count, first[reason]) for reason, count in counts.most_common()]


def ledger(source: Source) -> list[dict[str, Any]]:
    """What language models were asked, one row for each model and outcome; empty where none was."""
    rows = [event.body for event in source.events if event.kind == "ledger"]
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((str(row["model"]), str(row["outcome"])), []).append(row)
    return [
        {
            "model": model,
            "outcome": outcome,
            "requests": len(listed),
            "prompt": sum(int(row["prompt_tokens"]) for row in listed),
            "completion": sum(int(row["completion_tokens"]) for row in listed),
            "seconds": format_seconds(sum(float(row["latency_s"]) for row in listed)),
            "cost": None
            if any(row["cost_usd"] is None for row in listed)
            else sum(float(row["cost_usd"]) for row in listed),
        }
        for (model, outcome), listed in sorted(groups.items())
    ]


def asked(source: Source) -> list[tuple[int, int, int, int]]:
    """By round of a language model: its proposals, those after repairs, and what filled places; see `shares`."""
    made = [event.body for event in source.events if event.kind == "proposal"]
    proposals = [(body["round"], body.get("step", 0)) for body in made]
    return shares(proposals, [event.body["round"] for event in source.events if event.kind == "fallback"])


def reasons(source: Source) -> dict[str, str]:
    """Why a language model proposed what was trained, in its words, by trial."""
    given = {
        source.space.key_of(event.body["architecture"]): str(event.body.get("reason", ""))
        for event in source.events
        if event.kind == "proposal"
    }
    proposed = [trial for trial in source.trials if trial.origin.kind == "proposal"]
    found = {trial.id: given.get(source.space.key_of(trial.architecture), "") for trial in proposed}
    return {trial: reason for trial, reason in found.items() if reason}


def choices(source: Source, architecture: Architecture, default: Mapping[str, Value] | None) -> list[dict[str, Any]]:
    """All choices of an architecture with their meaning: rows for a table."""
    changed = differences(architecture, default)
    return [
        {
            "label": label,
            "value": value,
            "default": "absent" if label in changed and changed[label] is None else changed.get(label, value),
            "changed": label in changed,
            "meaning": meaning if (meaning := source.describe(label)) != label else "",
        }
        for label, value in architecture.items()
    ]


def picture(file: Path | None) -> str:
    """A PNG file as a data address; empty where there is none, or a link, which may lead anywhere."""
    if file is None or not file.is_file() or file.is_symlink():
        return ""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


def samples(source: Source, trial: Trial | None) -> str:
    """Images that a trial's network drew, as a data address; empty where there are none."""
    output = None if trial is None else source.output(trial)
    return picture(None if output is None else output / SAMPLES)


def _strategy(source: Source) -> str:
    return str(start_body(source).get("strategy", ", ".join(sorted({t.origin.strategy for t in source.trials}))))


def title(source: Source) -> str:
    """Who searched, and on what: the heading of the page."""
    strategy = _strategy(source)
    data = "" if source.job is None else str(source.job.data.get("source", ""))
    return f"{strategy} on {Path(data).name}" if data else strategy


def reproduction(source: Source) -> dict[str, Any]:
    """What it takes to do it all again: job, strategy, versions, machine, protocol, commands."""
    import yaml

    body = start_body(source)
    best = source.outcome.best
    recorded = {} if best is None else evaluation(source, best)
    computing = recorded.get("computing")
    job = None if source.job is None else source.job.model_dump(mode="json", exclude_defaults=True)
    return {
        "job": None if job is None else yaml.safe_dump(job, sort_keys=False, allow_unicode=True),
        "strategy": _strategy(source),
        "options": yaml.safe_dump(dict(body.get("options") or {}), sort_keys=False).strip()
        if "options" in body
        else "",
        "versions": ", ".join(f"{name} {value}" for name, value in body.get("versions", {}).items()),
        "device": computing.get("device", "") if isinstance(computing, dict) else "",
        "seed": None if source.job is None else source.job.seed,
        "trial_seed": recorded.get("seed"),
        "protocol": source.trials[-1].protocol,
        "architecture": "" if best is None else json.dumps(best.architecture, indent=1),
        "experiment": source.name if source.folder is not None else "",
    }
