"""Several searches side by side: the best so far of each arm, with a confidence band over its seeds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

import numpy as np

from ..api.errors import JobError
from ..api.trial import Objective
from ..results.intervals import contrast
from .charts import Band, ReferenceLine, draw_curves, number
from .page import drawn, render
from .source import Source, start_body
from .statistics import best_so_far

__all__ = ["Arm", "Comparison", "compare"]

STYLES = ("c0", "c2", "c4", "c3", "c5", "c1")


@dataclass(frozen=True)
class Arm:
    """Searches that differ in their seed only.

    Args:
        name: of the strategy, with what tells the arm from others.
        curves: best objective so far after each ended trial, one list for each search.
        sources: names of the searches.
        by_hand: objective of the network by hand, of each search that trained one.
    """

    name: str
    curves: tuple[tuple[float, ...], ...]
    sources: tuple[str, ...]
    by_hand: tuple[float, ...] = ()

    @property
    def length(self) -> int:
        """Trials that all its searches have."""
        return min(len(curve) for curve in self.curves)

    def best(self, trials: int) -> tuple[float, ...]:
        """Best objective after so many trials, search by search; NaN where none had a score."""
        return tuple(curve[trials - 1] for curve in self.curves)

    def band(self, style: str) -> Band:
        """Mean over the searches, with its 95 % interval (Student t); no interval for a single search."""
        table = np.array([curve[: self.length] for curve in self.curves])
        mean = table.mean(axis=0)
        if len(table) < 2:
            return Band(self.name, mean.tolist(), style=style)
        half = _t(len(table) - 1) * table.std(axis=0, ddof=1) / math.sqrt(len(table))
        return Band(self.name, mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), style)


def _t(degrees: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


@dataclass(frozen=True)
class Comparison:
    """Arms of one objective, space and protocol.

    Args:
        objective: that all were searched for.
        protocol: of all scores.
        arms: in the order in which they were named.
    """

    objective: Objective
    protocol: str
    arms: tuple[Arm, ...]

    @cached_property
    def length(self) -> int:
        """Trials that all searches have: the arms are compared after these."""
        return min(arm.length for arm in self.arms)

    @property
    def by_hand(self) -> tuple[float, ...]:
        """Objective of the network by hand in all searches that trained one: what an arm has to beat."""
        return tuple(value for arm in self.arms for value in arm.by_hand)

    @property
    def without_score(self) -> list[str]:
        """Searches none of whose first `length` trials has a score; a mean over them is NaN."""
        found = (zip(arm.sources, arm.best(self.length), strict=True) for arm in self.arms)
        return [name for arm in found for name, best in arm if math.isnan(best)]

    def difference(self, a: Arm, b: Arm) -> tuple[float, float, float] | None:
        """Mean of ``a`` minus mean of ``b`` after `length` trials, with its 95 % interval (Welch's t).

        ``None`` where an arm has a single search, which has no spread, or one without a score by then.
        """
        if min(len(a.curves), len(b.curves)) < 2:
            return None
        ours, theirs = a.best(self.length), b.best(self.length)
        if not all(map(math.isfinite, (*ours, *theirs))):
            return None
        found = contrast(ours, theirs).difference
        return found.value, found.low, found.high

    def rows(self) -> list[dict[str, Any]]:
        """One row for each arm; differences are to the first arm."""
        found = []
        for arm in self.arms:
            best = arm.best(self.length)
            difference = None if arm is self.arms[0] else self.difference(arm, self.arms[0])
            sure = difference is not None and not difference[1] <= 0 <= difference[2]
            found.append(
                {
                    "name": arm.name,
                    "searches": len(arm.curves),
                    "trials": arm.length,
                    "mean": float(np.mean(best)),
                    "low": min(best),
                    "high": max(best),
                    "difference": difference,
                    "sure": sure,
                }
            )
        return found

    def describe(self) -> str:
        """Write the comparison for the terminal."""
        metric = self.objective.metric
        width = max(len(name) for name in ("by hand", *(arm.name for arm in self.arms)))
        lines = [
            f"{metric} ({self.objective.direction}) after {self.length} trials; "
            f"scores are {self.protocol or 'unnamed'}:"
        ]
        for row in self.rows():
            seeds = f"{row['searches']} search{'es' * (row['searches'] != 1)}"
            spread = f"{number(row['low'])} to {number(row['high'])}"
            line = f"  {row['name']:{width}}  {number(row['mean'])}  ({spread}, {seeds})"
            if row["difference"] is not None:
                mean, low, high = row["difference"]
                line += f"  {mean:+.4g} to the first, 95 % interval [{low:+.4g}, {high:+.4g}]"
            lines.append(line)
        if self.by_hand:
            mean, low, high = (number(value) for value in (fmean(self.by_hand), min(self.by_hand), max(self.by_hand)))
            seeds = f"{len(self.by_hand)} search{'es' * (len(self.by_hand) != 1)}"
            lines.append(f"  {'by hand':{width}}  {mean}  ({low} to {high}, {seeds})")
        if self.without_score:
            names = ", ".join(self.without_score)
            lines.append(f"No score after {self.length} trials, so that no interval can be told: {names}.")
        if any(len(arm.curves) < 2 for arm in self.arms):
            lines.append("An arm of one search has no interval: run it with more seeds.")
        return "\n".join(lines)

    def render(self) -> str:
        """The comparison as one self-contained HTML page."""
        bands = [arm.band(STYLES[i % len(STYLES)]) for i, arm in enumerate(self.arms)]
        lower = self.objective.direction == "minimize"
        limit = axis_limit(bands, lower_is_better=lower)
        shown = [band.clipped(limit, lower_is_better=lower) for band in bands]
        levels = [ReferenceLine("by hand", fmean(self.by_hand), "hand")] if self.by_hand else []
        return render(
            "compare.html",
            metric=self.objective.metric,
            lower_is_better=lower,
            protocol=self.protocol,
            length=self.length,
            rows=self.rows(),
            arms=self.arms,
            styles=[STYLES[i % len(STYLES)] for i in range(len(self.arms))],
            drawing=drawn(draw_curves(shown, self.objective.metric, levels=levels)),
            by_hand=self.by_hand,
            without_score=self.without_score,
            single=any(len(arm.curves) < 2 for arm in self.arms),
            written=time.strftime("%Y-%m-%d %H:%M"),
        )


def axis_limit(bands: Sequence[Band], *, lower_is_better: bool) -> float:
    """The worst value that is drawn: the first trials of a search are as bad as any, and would flatten the rest.

    The axis starts where half of all curves have got to in their first tenth, and shows the whole interval of what was
    reached in the end.
    """
    worst = max if lower_is_better else min
    starts = [value for band in bands for value in band.mean[: max(1, len(band.mean) // 10)]]
    ends = [value for band in bands for value in (band.high if lower_is_better else band.low)[-1:]]
    known = [value for value in starts if math.isfinite(value)]
    limits = [float(np.median(known))] if known else []
    limits += [value for value in ends if math.isfinite(value)]
    return worst(limits, default=math.inf if lower_is_better else -math.inf)


def _searches(source: Source) -> list[Source]:
    """The searches of a source one by one: a memory may hold several."""
    found = []
    for experiment in dict.fromkeys(trial.experiment for trial in source.trials):
        own = tuple(trial for trial in source.trials if trial.experiment == experiment)
        events = tuple(event for event in source.events if event.experiment == experiment)
        name = source.name if source.folder is not None else f"{source.name}:{experiment}"
        found.append(replace(source, name=name, trials=own, events=events))
    return found


def _setup(source: Source) -> dict[str, Any]:
    """What makes an arm: strategy, options and job, but not the seed and not where the files lie."""
    body = start_body(source)
    job = {k: v for k, v in dict(body.get("job", {})).items() if k not in ("seed", "memory")}
    strategies = sorted({trial.origin.strategy for trial in source.trials})
    return {
        "strategy": body.get("strategy", ", ".join(strategies)),
        "options": dict(body.get("options", {})),
        "job": job,
    }


def compare(sources: Sequence[Source]) -> Comparison:
    """Group searches into arms and set them side by side.

    Searches with the same strategy, options and job belong to one arm, whatever their seed.

    Args:
        sources: at least two searches, in one or several memories.

    Raises:
        JobError: fewer than two searches, one that is named twice, other objectives, spaces or protocols, or a search
            without an ended trial.
    """
    searches = [search for source in sources for search in _searches(source)]
    if len(searches) < 2:
        raise JobError("A comparison needs at least two searches: name another experiment or memory.")
    first, seen = searches[0], set[str]()
    for search in searches:
        named = {trial.id for trial in search.trials}
        if named & seen:
            raise JobError(
                f"{search.name!r} is named twice (NNI's '_latest' is a link to an experiment, a copy is no other): "
                f"name each search once."
            )
        seen |= named
        for what, ours, theirs in (
            ("objective", first.objective, search.objective),
            ("search space", first.space.key, search.space.key),
            ("protocol", first.trials[-1].protocol, search.trials[-1].protocol),
        ):
            if ours != theirs:
                raise JobError(f"{search.name!r} has another {what} than {first.name!r}: {theirs} instead of {ours}.")
        if not search.outcome.ranked:
            raise JobError(f"{search.name!r} has no scored trial yet: leave it out, or wait for one.")
    groups: dict[str, list[Source]] = {}
    for search in searches:
        groups.setdefault(json.dumps(_setup(search), sort_keys=True), []).append(search)
    setups = [json.loads(key) for key in groups]
    arms = tuple(
        Arm(
            _name(setup, setups, members),
            tuple(tuple(best_so_far(member.ended, member.objective).tolist()) for member in members),
            tuple(member.name for member in members),
            tuple(
                float(trial.metrics[first.objective.metric])
                for member in members
                if (trial := member.outcome.by_hand) is not None
            ),
        )
        for setup, members in zip(setups, groups.values(), strict=True)
    )
    return Comparison(first.objective, first.trials[-1].protocol, arms)


def _name(setup: dict[str, Any], setups: Sequence[dict[str, Any]], members: Sequence[Source]) -> str:
    """The strategy's name, with its options where others share it, with its searches where that is not enough."""
    alike = [other for other in setups if other["strategy"] == setup["strategy"]]
    name = str(setup["strategy"])
    if len(alike) > 1 and setup["options"]:
        name += " " + ", ".join(f"{option} {value}" for option, value in setup["options"].items())
    if sum(other["options"] == setup["options"] for other in alike) > 1:
        name += f" ({', '.join(member.name for member in members)})"
    return name
