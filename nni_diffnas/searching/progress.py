"""How far a long step is, and how long it will still take: on a terminal a bar, elsewhere nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..api.trial import Trial
from .formats import format_cost, format_seconds
from .halving import part_of_rung

__all__ = ["Pace", "progress_bar", "score_line", "trial_line"]


class Pace:
    """Forecasts the rest of a search from what it has taken so far.

    Args:
        clock: seconds that grow; the time of the call is the start.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start, self._done = clock(), 0

    def step(self, to_go: int | None, at_once: int = 1, steps: int = 1) -> str:
        """Count what has ended, one step or several, and say how long the rest takes; empty where nobody can know.

        Args:
            to_go: steps that are still to end; ``None`` where that is open.
            at_once: steps that run beside each other; before as many have ended, their pace is not known.
            steps: that have ended.

        Returns:
            For example ``about 4.0 min left``.
        """
        self._done += steps
        if not to_go or self._done < at_once:
            return ""
        return f"about {format_seconds((self._clock() - self._start) / self._done * to_go)} left"


def trial_line(trial: Trial, metric: str, *, best: bool) -> str:
    """What has become of a trial, for the terminal.

    Args:
        trial: has ended.
        metric: that ranks.
        best: it is the best so far.
    """
    if trial.status == "failed":
        what = f"failed: {trial.reason}"
    else:
        what = f"{score_line(trial, metric)}{' (best so far)' if best else ''}  {format_cost(trial.cost)}"
    return f"{trial.id} {trial.origin.kind}: {what}" + ("" if trial.seconds is None else f"  {trial.seconds:.0f} s")


def score_line(trial: Trial, metric: str) -> str:
    """Its score, or how far a trial that was stopped on its way had come, or that something else was measured.

    Args:
        trial: has succeeded.
        metric: that ranks.
    """
    if metric in trial.metrics:
        return f"{metric} {trial.metrics[metric]:.4g}"
    last = max(trial.metrics, key=part_of_rung, default="")
    if (part := part_of_rung(last)) <= 0:
        return "measured"
    return f"stopped at {part:g} % with {last.rpartition('@')[0]} {trial.metrics[last]:.4g}"


@contextmanager
def progress_bar(title: str, total: int, at_once: int = 1) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left while the block runs; yields what is called with the number of steps that ended.

    Count only steps that take their time, not what an earlier run has left: the time left is judged from them.
    The bar is drawn on stderr, and only where that is a terminal.

    Args:
        title: what is done.
        total: number of steps.
        at_once: steps that run beside each other.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # rich's own column for the time left looks at the last 30 seconds, in which no training ends.
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    console, pace = Console(stderr=True), Pace()
    with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, left="")

        def advance(steps: int) -> None:
            to_go = total - int(progress.tasks[0].completed) - steps
            progress.update(task, advance=steps, left=pace.step(to_go, at_once, steps))

        yield advance
