"""How many trials of which length fit into a time: the rule behind ``nni-diffnas new`` and `nni_diffnas.search`.

| symbol | meaning |
|---|---|
| T | seconds for the whole search, a tenth of which is left for its ends, when workers idle |
| w | trials at a time |
| i, r | seconds a trial needs for each image of its training, and for all else, timed with w trials side by side |
| s | what NNI needs to start a trial |
| n, m | number of trials, images that each is trained on |
| e(n) | whole trainings to which they amount: `forecast.whole_trainings` |

.. math:: e(n) (i m + r) + n s = 0.9 T w

A search needs ``SHORTEST`` images times the side of an image (10,000 at 8 pixels, as the main job has it, 20,000 at 16
pixels: docs/studies/2026-11-loss-ranking.md) before its ranking means much, and ``FEWEST`` trials, or
``FOR_EACH_WORKER`` for each worker, since a strategy learns from trials that have ended. What time is left then goes to
both alike: four times the time is twice as many trials, each of them twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..api.errors import JobError
from ..api.trial import Suggestion
from ..searching.forecast import NNI_SECONDS_PER_TRIAL, whole_trainings
from ..searching.formats import format_seconds
from ..searching.halving import Halving

__all__ = ["RULE", "Sizes", "TrialPace", "sizes_for"]

SHORTEST = 1_250
FEWEST = 12
FOR_EACH_WORKER = 4
_USED = 0.9

RULE = (
    f"A trial trains on {SHORTEST:,} images or more for each pixel of a side, and there are {FEWEST} trials or more, "
    f"{FOR_EACH_WORKER} at least for each that trains at the same time; what time is left goes to both alike."
)
"""The rule in a sentence."""


@dataclass(frozen=True)
class TrialPace:
    """How fast trials go when they train side by side.

    Args:
        image: seconds for each image of a trial's training.
        rest: seconds of a trial for all else.
        workers: trials at a time with which this was timed.
    """

    image: float
    rest: float
    workers: int


@dataclass(frozen=True)
class Sizes:
    """Trials, the images that each is trained on, trials at a time, and the seconds that the search takes.

    The seconds are NaN where nothing was timed.
    """

    trials: int
    images: int
    workers: int
    seconds: float = math.nan

    def __str__(self) -> str:
        time = f": about {format_seconds(self.seconds)}" if math.isfinite(self.seconds) else ""
        return f"{self.trials} trials of {self.images:,} images, {self.workers} at a time{time}"


def sizes_for(
    pace: TrialPace,
    seconds: float,
    side: int,
    first: Sequence[Suggestion],
    halving: Halving | None,
    trials: int | None = None,
    images: int | None = None,
) -> Sizes:
    """Sizes of a search that fits into a time, by the rule above.

    Args:
        pace: of the trials.
        seconds: for the whole search.
        side: of an image, in pixels.
        first: what the search trains first; halving spares the default and the networks by hand.
        halving: of the strategy.
        trials: their number, where the user says it and not the rule.
        images: that a trial trains on, likewise.

    Raises:
        JobError: the time is too short.
    """

    def taken(count: int, length: float) -> float:
        training = whole_trainings(count, first, halving) * (length * pace.image + pace.rest)
        return (training + count * NNI_SECONDS_PER_TRIAL) / pace.workers / _USED

    def length(count: int) -> int:
        for_training = seconds * _USED * pace.workers - count * NNI_SECONDS_PER_TRIAL
        found = (for_training / whole_trainings(count, first, halving) - pace.rest) / pace.image
        return images or _rounded(found)

    fewest = trials or max(FEWEST, FOR_EACH_WORKER * pace.workers)
    shortest = images or SHORTEST * side
    least = taken(fewest, shortest)
    if least > seconds:
        raise JobError(
            f"{format_seconds(seconds)} are too short for {fewest} trials of {shortest:,} images, {pace.workers} at a "
            f"time, which take {_at_least(least)} on this machine: give that, a smaller preset or a smaller size."
        )
    most = trials or math.floor(fewest * (seconds / least if images else math.sqrt(seconds / least)))
    count = next(
        (n for n in range(most, fewest, -1) if length(n) >= shortest and taken(n, shortest) <= seconds), fewest
    )
    chosen = max(length(count), shortest)
    return Sizes(count, chosen, pace.workers, _USED * taken(count, chosen))


def _at_least(seconds: float) -> str:
    """A time that is no shorter, as one can write it for ``nni-diffnas new``."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes}m" if minutes < 90 else f"{math.ceil(seconds / 360) / 10:g}h"


def _rounded(images: float) -> int:
    """The next number below that has two digits and zeros."""
    unit = int(10 ** max(math.floor(math.log10(max(images, 1.0))) - 1, 0))
    return math.floor(images / unit) * unit
