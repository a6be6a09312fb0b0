"""How long a search will take, how much it will write and what it will spend, said before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..api.cost import Budget
from ..api.evaluation import Evaluation
from ..api.family import Family, sample_within
from .formats import format_bytes, format_seconds
from .search import Search

__all__ = ["Forecast", "forecast_lines", "forecast_search"]

NNI_SECONDS_PER_TRIAL = 3.0
"""What NNI itself adds to a trial behind the tuner door: scheduling and starting a process."""

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


def forecast_search(
    family: Family, evaluation: Evaluation, budget: Budget, trials: int, concurrency: int, whole: float | None = None
) -> Forecast:
    """Forecast from a few timed steps of networks that the search may try.

    Three are timed, spread over the MACs of those drawn: small networks spend most of their time not on MACs, so that
    the seconds of one do not tell those of another.

    Args:
        family: of the job.
        evaluation: of the job, prepared.
        budget: the windows from which architectures are drawn.
        trials: number of trials.
        concurrency: trials at once; they are taken not to slow each other down.
        whole: trials of full length that these amount to; all of them where it is not given.
    """
    rng = np.random.default_rng(0)
    drawn = sorted((sample_within(family, budget, rng) for _ in range(_DRAWN)), key=lambda each: family.cost(each).macs)
    timed = [evaluation.forecast(family.build(each), family) for each in drawn[_DRAWN // 6 :: _DRAWN // 3]]
    seconds, size = np.mean(timed, axis=0).tolist()
    full, workers = trials if whole is None else whole, max(concurrency, 1)
    waited = math.ceil(trials / workers) * NNI_SECONDS_PER_TRIAL
    return Forecast(math.ceil(full / workers) * seconds + waited, full * size, trials)


def forecast_lines(search: Search, evaluation: Evaluation | None, trials: int, concurrency: int) -> list[str]:
    """What to tell the user before a search starts: time and disk, then what the strategy itself spends.

    Args:
        search: opened.
        evaluation: prepared; ``None`` where it is a stranger's, of which nothing can be said.
        trials: number of trials.
        concurrency: trials at once.
    """
    lines = []
    if evaluation is not None and search.family is not None:
        whole = search.strategy.whole(trials)
        lines.append(str(forecast_search(search.family, evaluation, search.options.budget, trials, concurrency, whole)))
    if spent := search.strategy.forecast(max(0, trials - len(search.first()))):
        lines.append(spent)
    return lines
