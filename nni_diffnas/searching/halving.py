"""Low-fidelity stops: a trial that falls behind the others at a rung of its training ends itself.

Asynchronous successive halving without promotion: Li et al., "A System for Massively Parallel Hyperparameter Tuning"
(2020), algorithm 2, where a trial at a rung goes on if it is among the best 1/eta that have come there. Here it
decides by itself, while it trains, by a threshold that came with its parameters; so nothing has to be kept and resumed,
and no door has to be asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..api.errors import StrategyError
from ..api.evaluation import Evaluation
from ..api.space import Value
from ..api.trial import REFERENCE, Objective, Trial

__all__ = ["Halving", "check_halving", "part_of_rung", "rung_metric", "rung_setting"]


_RUNGS = 3
"""Rungs that a training has, evenly spread, where nobody says otherwise."""


def rung_metric(metric: str, fraction: float) -> str:
    """Name of a metric measured when this part of the budget is spent, e.g. ``rfid@25``."""
    return f"{metric}@{round(100 * fraction)}"


def part_of_rung(name: str) -> float:
    """Per cent of the budget after which a metric of a rung is measured; -1 where it is of none."""
    try:
        return float(name.rpartition("@")[2])
    except ValueError:
        return -1.0


def rung_setting(name: str) -> str:
    """Setting of a trial that ends it where the metric of this name is larger."""
    return f"stop.{name}"


@dataclass(frozen=True)
class Halving:
    """At every rung, only trials that are among the best 1/eta so far go on.

    Args:
        eta: above 1; 2 is NNI's median rule, 3 the usual choice.
        metric: that is compared at the rungs, where less is better, e.g. ``held_out_loss``; ``None``: the objective.
    """

    eta: float
    metric: str | None = None

    @classmethod
    def of(cls, given: float | Mapping[str, Any] | None) -> Halving | None:
        """What a strategy's argument says: a number, or ``eta`` and ``metric`` by name.

        Raises:
            StrategyError: something else is named, or a value is out of range.
        """
        if given is None:
            return None
        named: Mapping[str, Any] = given if isinstance(given, Mapping) else {"eta": given}
        eta, metric = named.get("eta"), named.get("metric")
        named_well = isinstance(metric, str | None) and named.keys() <= {"eta", "metric"}
        if not isinstance(eta, int | float) or isinstance(eta, bool) or not named_well:
            raise StrategyError(f"halving is {given!r}: give a number above 1, or eta and metric by these names.")
        return cls(eta, metric)

    def whole(self, trials: float) -> float:
        """To how many whole trainings so many trials amount.

        The first eta of them come before any threshold; of the others one of eta goes on at each rung. On trained
        networks that is right within 2 % of their training (docs/studies/2026-11-loss-ranking.md).
        """
        unstopped = min(trials, self.eta)
        return unstopped + (trials - unstopped) * sum(self.eta**-rung for rung in range(_RUNGS + 1)) / (_RUNGS + 1)

    def compared(self, objective: Objective) -> str:
        """Name of the metric that is compared at the rungs."""
        return self.metric or objective.metric

    def __post_init__(self) -> None:
        if not 1 < self.eta < math.inf:
            raise StrategyError(f"halving is {self.eta:g}: give a number above 1, of which one trial goes on.")

    def settings(self, trials: Sequence[Trial], objective: Objective) -> dict[str, Value]:
        """Thresholds for the next trial, from what earlier ones measured at each rung, once eta of them came there.

        Only for what is minimised: a larger metric is worse. A `REFERENCE` is no competitor.
        """
        if self.metric is None and objective.direction != "minimize":
            return {}
        rungs: dict[str, list[float]] = {}
        for trial in (trial for trial in trials if trial.origin.kind != REFERENCE):
            for name, value in trial.metrics.items():
                if name.startswith(f"{self.compared(objective)}@"):
                    rungs.setdefault(name, []).append(value)
        thresholds: dict[str, Value] = {}
        for name, values in rungs.items():
            if len(values) >= self.eta:
                thresholds[rung_setting(name)] = sorted(values)[max(1, int(len(values) / self.eta)) - 1]
        return thresholds


def check_halving(halving: Halving | None, objective: Objective, evaluation: Evaluation | None) -> None:
    """Refuse a halving that would never stop a trial; the doors call it before any.

    Args:
        halving: of the strategy.
        objective: likewise.
        evaluation: of the trials; ``None`` where a stranger's evaluator may measure what it wants.

    Raises:
        StrategyError: what is compared is maximised, or the evaluation does not measure it on the way.
    """
    if halving is None:
        return
    if halving.metric is None and objective.direction != "minimize":
        raise StrategyError(
            f"halving is {halving.eta:g}, but {objective.metric} is maximised, and trials end themselves only where "
            f"less is better: leave halving out."
        )
    if evaluation is not None and halving.compared(objective) not in evaluation.rungs:
        raise StrategyError(
            f"halving is {halving.eta:g}, but the evaluator does not measure {halving.compared(objective)} while it "
            f"trains (only {', '.join(evaluation.rungs) or 'at the end'}): leave halving out, or compare rfid or "
            f"held_out_loss with evaluator.curve_points of 1 at least."
        )
