"""The memory as the prompt shows it: best, latest and diverse trials within a token limit, the others summarised.

Notation
    limit      tokens that the section may have, as ``count`` estimates them
    shown      trials that get a line of their own
    others     scored trials that do not; they appear in a summary and in the mean score of each choice
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from nni_diffnas.api.space import Architecture, Space, same_value
from nni_diffnas.api.trial import Objective, Trial
from nni_diffnas.language_model.tokens import estimate_tokens

from .lessons import one_line
from .prompt import write_architecture, write_cost
from .repair import Rejection

__all__ = ["render_memory"]

Item = TypeVar("Item")

_REASON = 120
_POOL = 200
"""Trials among which diverse ones are looked for: the choice is quadratic."""


class _Page:
    """Lines that together stay within a number of tokens."""

    def __init__(self, limit: float, count: Callable[[str], int]) -> None:
        self.left, self.count = limit, count
        self.lines: list[str] = []

    def add(self, line: str, keep: float = 0.0) -> bool:
        """Add a line, unless fewer than ``keep`` tokens would be left."""
        tokens = self.count(line + "\n")
        if tokens > self.left - keep:
            return False
        self.left -= tokens
        self.lines.append(line)
        return True


def render_memory(
    space: Space,
    objective: Objective,
    trials: Sequence[Trial],
    rejections: Sequence[Rejection],
    limit: int,
    coming: Sequence[Architecture] = (),
    count: Callable[[str], int] = estimate_tokens,
) -> str:
    """Write the memory.

    Args:
        space: of all trials.
        objective: that ranks them.
        trials: in order of submission, pending and failed ones included; their position is their number.
        rejections: proposals that were not trained, oldest first.
        limit: tokens; fewer than 50 leave nothing to show.
        coming: about to be trained.
        count: estimates the tokens of a text.
    """
    if limit < 50:
        return "There is no room to show what was tried."
    numbers = {trial.id: number for number, trial in enumerate(trials)}
    scored = [(score, trial) for trial in trials if (score := _score(objective, trial)) is not None]
    ranked = [trial for _, trial in sorted(scored, key=lambda pair: -pair[0])]
    failed = [trial for trial in trials if trial.status == "failed"]
    pending = [trial for trial in trials if trial.status == "pending"]
    training = [*(trial.architecture for trial in pending), *coming]
    head = _Page(limit, count)
    head.add(
        f"{len(trials)} architectures so far: {len(ranked)} scored, {len(failed)} failed, {len(training)} in training."
    )
    tail = _Page(0.3 * limit, count)
    _list(tail, "In training now:", training[-16:], lambda a: f"- {write_architecture(a)}")
    _list(
        tail,
        "Failed:",
        failed[:-6:-1],
        lambda t: f"- {write_architecture(t.architecture)}: {one_line(t.reason, _REASON)}",
    )
    _list(
        tail, "Proposed and not trained:", rejections[:-7:-1], lambda r: f"- {r.proposal}: {one_line(r.why, _REASON)}"
    )
    body = _Page(head.left - (0.3 * limit - tail.left), count)
    summary_room = 0.25 * limit if len(ranked) > 4 else 0.0
    shown: list[Trial] = []
    lines: dict[str, str] = {}
    for trial in _by_interest(space, ranked, numbers):
        rank = ranked.index(trial) + 1
        line = (
            f"rank {rank}: {objective.metric} {trial.metrics[objective.metric]:.5g}, {write_cost(trial.cost)}, "
            f"trial {numbers[trial.id]}: {write_architecture(trial.architecture)}"
        )
        if not body.add(line, keep=summary_room):
            break
        shown.append(trial)
        lines[trial.id] = line
    others = [trial for trial in ranked if trial.id not in lines]
    body.lines = [lines[trial.id] for trial in ranked if trial.id in lines]
    if others:
        values = [trial.metrics[objective.metric] for trial in others]
        body.add(
            f"{len(others)} others: {objective.metric} {min(values):.5g} to {max(values):.5g}, median "
            f"{statistics.median(values):.5g}."
        )
        _means(body, space, objective, ranked)
    return "\n".join([*head.lines, *body.lines, *tail.lines])


def _score(objective: Objective, trial: Trial) -> float | None:
    return objective.score(trial.metrics) if trial.status == "succeeded" else None


def _list(page: _Page, title: str, items: Sequence[Item], write: Callable[[Item], str]) -> None:
    """A title and one line each, newest first, as far as a third of the page goes."""
    lines = [write(item) for item in items]
    room = page.left / 2
    if lines and page.add(f"{title}\n{lines[0]}"):
        for line in lines[1:]:
            if not page.add(line, keep=room):
                break


def _by_interest(space: Space, ranked: Sequence[Trial], numbers: Mapping[str, int]) -> list[Trial]:
    """Every trial, the ones worth showing first: in turn the next best (twice), the latest, the most different one."""
    if not ranked:
        return []
    latest = sorted(ranked, key=lambda trial: numbers[trial.id], reverse=True)
    pool = list(ranked[:_POOL])
    chosen: dict[str, Trial] = {}
    best = iter(ranked)
    queues = (best, best, iter(latest))
    distance = {trial.id: float("inf") for trial in pool}

    def take(trial: Trial) -> None:
        chosen[trial.id] = trial
        for other in pool:
            distance[other.id] = min(distance[other.id], _distance(space, trial.architecture, other.architecture))

    while len(chosen) < min(len(ranked), _POOL):
        for queue in queues:
            found = next((trial for trial in queue if trial.id not in chosen), None)
            if found is not None:
                take(found)
        rest = [trial for trial in pool if trial.id not in chosen]
        if rest:
            take(max(rest, key=lambda trial: distance[trial.id]))
    return list(chosen.values())


def _distance(space: Space, a: Architecture, b: Architecture) -> int:
    return sum(a.get(label) != b.get(label) for label in space.labels)


def _means(page: _Page, space: Space, objective: Objective, ranked: Sequence[Trial]) -> None:
    """Mean score of each choice over all scored trials: what the lines left out still teach."""
    title = f"Mean {objective.metric} of all scored trials by choice (number of trials):"
    if page.left < page.count(title) + 20:
        return
    page.add(title)
    for label, values in space.choices.items():
        parts = []
        for value in values:
            having = [t.metrics[objective.metric] for t in ranked if same_value(t.architecture.get(label), value)]
            if having:
                parts.append(f"{json.dumps(value)}: {statistics.fmean(having):.4g} ({len(having)})")
        if not page.add(f"- {label}: {', '.join(parts)}"):
            return
