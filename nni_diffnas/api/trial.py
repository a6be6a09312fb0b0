"""`Trial`: everything that is known of one trained (or failed) architecture; `Objective`: what is wanted of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from .cost import Cost
from .ending import Ending
from .errors import JobError
from .space import Architecture, Value

__all__ = [
    "BY_HAND",
    "RECOMMENDED",
    "REFERENCE",
    "UNRANKED",
    "Direction",
    "Metrics",
    "Objective",
    "Origin",
    "Status",
    "Suggestion",
    "Trial",
    "ranked_together",
    "standing",
]

Metrics = Mapping[str, Any]
"""What a trial reports, by name: numbers; the one exception is a block trial's front, lists of numbers in a list."""

UNRANKED = "unranked"
"""Metric by which a trial says that it cannot be ranked: it measured something else, or is a `REFERENCE`."""

REFERENCE = "reference"
"""Origin and setting of a trial that others are compared with and that must not win: the default network where the
budget forbids it, the teacher of students."""

BY_HAND = "by hand"
"""Origin of a trial of the default network scaled to the budget, as a person would do it in a minute."""

RECOMMENDED = "recommended"
"""Origin of a trial of a network that the family knows to do well at the budget."""

_LAST_PLACE = 1e9
"""What NNI is told of an unranked trial: it wants a number, and this one must not win."""

Status = Literal["pending", "succeeded", "failed"]
Direction = Literal["minimize", "maximize"]


def standing(settings: Mapping[str, Value]) -> dict[str, float]:
    """What a trial with these settings adds to its metrics: `UNRANKED` where it is a `REFERENCE`."""
    return {UNRANKED: 1.0} if settings.get(REFERENCE) else {}


@dataclass(frozen=True)
class Objective:
    """The metric that ranks trials, and its direction."""

    metric: str = "rfid"
    direction: Direction = "minimize"

    def score(self, metrics: Metrics) -> float | None:
        """The metric turned so that more is better; ``None`` where it is missing, not finite, or not to be ranked."""
        value: float | None = metrics.get(self.metric)
        if value is None or not math.isfinite(value) or metrics.get(UNRANKED):
            return None
        return -value if self.direction == "minimize" else value

    def default(self, metrics: Metrics, *, maximize: bool) -> float:
        """NNI's ``default`` for a door that maximises (the NAS door) or reads ``optimize_mode`` (the tuner door).

        A trial that reports `UNRANKED` is told to be last.

        Raises:
            JobError: the evaluator did not report the objective.
        """
        if metrics.get(UNRANKED):
            return -_LAST_PLACE if maximize or self.direction == "maximize" else _LAST_PLACE
        if self.metric not in metrics:
            raise JobError(
                f"The objective is {self.metric!r}, but the trial reports {', '.join(sorted(metrics))}: "
                f"name one of these in the job's objective."
            )
        value = float(metrics[self.metric])
        return -value if maximize and self.direction == "minimize" else value


@dataclass(frozen=True)
class Origin:
    """Where an architecture came from.

    Args:
        strategy: name of the strategy that suggested it.
        kind: how, e.g. ``random``, ``mutation``, ``proposal``, ``generated``, ``default``.
        parent: id of the trial it was derived from.
    """

    strategy: str
    kind: str
    parent: str | None = None


@dataclass(frozen=True)
class Suggestion:
    """What a strategy wants trained.

    Args:
        architecture: any assignment that the space validates.
        kind, parent: become the trial's `Origin`.
        settings: further scalars that the trial needs (they travel with its parameters under ``run.`` names).
        candidate: whether it may win; only then it has to keep the budget.
    """

    architecture: Architecture
    kind: str
    parent: str | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    candidate: bool = True


@dataclass(frozen=True)
class Trial:
    """One architecture on its way through training.

    Args:
        id: unique in a memory.
        experiment: the NNI experiment (or driver run) it belongs to.
        architecture: canonical assignment.
        origin: who suggested it.
        status: ``pending`` until it has reported or failed.
        metrics: everything the evaluator reported, by name.
        cost: known before training; ``None`` where the space cannot say it.
        settings: scalars beyond the architecture that the trial was run with.
        protocol: what its scores mean (extractor, images, sampler steps, recipe); scores of different protocols are
            never ranked together.
        reason: why it failed, in a sentence.
        seconds: wall-clock from submission to report.
        job_id: NNI's trial job id, which names its output folder.
        ending: how it failed, where it has not said why itself.
    """

    id: str
    experiment: str
    architecture: Architecture
    origin: Origin
    status: Status = "pending"
    metrics: Metrics = field(default_factory=dict)
    cost: Cost | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    protocol: str = ""
    reason: str = ""
    seconds: float | None = None
    job_id: str = ""
    ending: Ending | None = None

    @property
    def open(self) -> bool:
        """Whether a result may still come."""
        given_up = self.status == "failed" and self.ending is not None and self.ending.may_report
        return self.status == "pending" or given_up

    def succeeded(self, metrics: Metrics, **changes: Any) -> Trial:
        """The same trial with its results."""
        return replace(self, status="succeeded", metrics=dict(metrics), reason="", ending=None, **changes)

    def failed(self, reason: str | Ending, **changes: Any) -> Trial:
        """The same trial with the reason of its failure: a sentence, or how it ended where it has said none."""
        ending = reason if isinstance(reason, Ending) else None
        return replace(self, status="failed", reason=ending.sentence if ending else reason, ending=ending, **changes)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, read back by `from_json`, from NNI's checkpoints as well, which hold no types of ours."""
        return {**asdict(self), "ending": None if self.ending is None else self.ending.value}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Trial:
        """Inverse of `to_json`; version 0.1 recorded endings as their sentences."""
        cost, ending = body["cost"], body["ending"] if "ending" in body else Ending.of_sentence(body["reason"])
        parts = {
            "origin": Origin(**body["origin"]),
            "cost": None if cost is None else Cost(**cost),
            "ending": None if ending is None else Ending(ending),
        }
        read = cls(**{**body, **parts})
        if odd := next((name for name, fits in read._fits() if not fits), ""):
            raise ValueError(f"{odd} of a trial cannot be {str(getattr(read, odd))[:100]!r}")
        return read

    def _fits(self) -> Iterator[tuple[str, bool]]:
        """Names of fields, and whether what was read of them is of their type."""
        for name in ("id", "experiment", "protocol", "reason", "job_id"):
            yield name, isinstance(getattr(self, name), str)
        yield "status", self.status in get_args(Status)
        yield "seconds", self.seconds is None or _number(self.seconds)
        made = self.origin
        yield "origin", all(isinstance(text, str) for text in (made.strategy, made.kind, made.parent or ""))
        yield "cost", self.cost is None or all(map(_number, self.cost.as_metrics().values()))
        for name in ("architecture", "settings"):
            yield name, _all(getattr(self, name), lambda value: isinstance(value, bool | int | float | str))
        yield "metrics", _all(self.metrics, lambda value: _number(value) or isinstance(value, list))


def _all(values: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(values, Mapping) and all(map(fits, values.values()))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ranked_together(trials: Sequence[Trial]) -> list[Trial]:
    """Those of the trials of one space whose scores mean the same as the latest one's: they have its protocol.

    The one rule of what can be ranked together, everywhere; nothing else compares scores of several trials.
    """
    return [trial for trial in trials if trial.protocol == trials[-1].protocol]
