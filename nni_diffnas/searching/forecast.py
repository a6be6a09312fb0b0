"""How long a search will take, how much it will write and what it will spend, said before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..api.cost import Budget
from ..api.evaluation import Evaluation
from ..api.family import Family, sample_within
from ..api.space import Architecture
from ..api.trial import Suggestion
from .formats import format_bytes, format_seconds
from .halving import Halving
from .search import Search

__all__ = ["Forecast", "forecast_lines", "forecast_search", "to_be_timed", "whole_trainings"]

NNI_SECONDS_PER_TRIAL = 6.0
"""What NNI itself adds to a trial behind the tuner door: scheduling, and starting a process that imports torch."""

_DRAWN = 18


@dataclass(frozen=True)
class Forecast:
    """Wall-clock seconds and bytes on disk of a search; NaN where the evaluator cannot say."""

    seconds: float
    disk_bytes: float
    trials: int

    def __str__(self) -> str:
        if not math.isfinite(self.seconds):
            return f"{self.trials} trials; the evaluator does not say how long they take"
        return (
            f"{self.trials} trials will take about {format_seconds(self.seconds)} "
            f"and write about {format_bytes(self.disk_bytes)}"
        )


def to_be_timed(family: Family, budget: Budget, seed: int = 0) -> list[Architecture]:
    """Three networks that a search may try, spread over the MACs of those drawn.

    Small networks spend most of their time not on MACs, so that the seconds of one do not tell those of another.

    Args:
        family: of the job.
        budget: the windows from which they are drawn.
        seed: of the draws.

    Raises:
        BudgetError: no network meets the budget.
    """
    rng = np.random.default_rng(seed)
    drawn = sorted((sample_within(family, budget, rng) for _ in range(_DRAWN)), key=lambda each: family.cost(each).macs)
    return drawn[_DRAWN // 6 :: _DRAWN // 3]


def whole_trainings(trials: float, first: Sequence[Suggestion], halving: Halving | None) -> float:
    """To how many whole trainings so many trials amount, where halving ends some early.

    Args:
        trials: of the search, those that are short by plan as the part that they are (`StrategyHooks.whole`).
        first: of them, what is trained first, to its end: what is not spared is among the best.
        halving: of the strategy.
    """
    ended = min(len(first), trials)
    return trials if halving is None else ended + halving.whole(trials - ended)


def forecast_search(
    family: Family,
    evaluation: Evaluation,
    budget: Budget,
    trials: int,
    concurrency: int,
    seed: int = 0,
    whole: float | None = None,
) -> Forecast:
    """Forecast from a few timed steps of the networks `to_be_timed`.

    Args:
        family: of the job.
        evaluation: of the job, prepared.
        budget: the windows from which architectures are drawn.
        trials: number of trials.
        concurrency: trials at once; they are taken not to slow each other down.
        seed: of the architectures that stand for the search.
        whole: trainings that the trials amount to, see `whole_trainings`; by default all are whole.
    """
    timed = [evaluation.forecast(family.build(each), family) for each in to_be_timed(family, budget, seed)]
    seconds, size = np.mean(timed, axis=0).tolist()
    rounds, part = math.ceil(trials / max(concurrency, 1)), 1.0 if whole is None else whole / trials
    return Forecast(rounds * (part * seconds + NNI_SECONDS_PER_TRIAL), trials * size, trials)


def forecast_lines(search: Search, evaluation: Evaluation | None, trials: int, concurrency: int) -> list[str]:
    """What to tell the user before a search starts: time and disk, then what the strategy itself spends.

    Args:
        search: opened.
        evaluation: prepared; ``None`` where it is a stranger's, of which nothing can be said.
        trials: number of trials.
        concurrency: trials at once.
    """
    lines, options, first = [], search.options, search.first()
    if evaluation is not None and search.family is not None:
        whole = whole_trainings(search.strategy.whole(trials), first, options.halving)
        found = forecast_search(search.family, evaluation, options.budget, trials, concurrency, whole=whole)
        lines.append(str(found))
    if spent := search.strategy.forecast(max(0, trials - len(first))):
        lines.append(spent)
    return lines
