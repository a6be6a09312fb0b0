"""``nni-diffnas verdict``: what a search has gained over doing it by hand."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from .arguments import ExperimentArgument, find_architecture, make_folder

__all__ = ["verdict"]

MOST_SEEDS = 1000
"""Each is a whole training of several networks."""


def _looks(seeds: str) -> tuple[int, ...]:
    from ..api.errors import JobError
    from ..results.intervals import LOOKS

    if seeds == "auto":
        return LOOKS
    if not seeds.isdecimal() or len(seeds) > len(str(MOST_SEEDS)) or not 2 <= int(seeds) <= MOST_SEEDS:
        raise JobError(f"--seeds is {seeds[:40]!r}: give a number from 2 to {MOST_SEEDS}, or auto.")
    return (int(seeds),)


def verdict(
    experiment: ExperimentArgument,
    seeds: Annotated[
        str,
        typer.Option(
            help="Fresh seeds for which each network is trained; 'auto' takes 3, and 3 more until winner and by hand "
            "are told apart, 12 at most.",
            metavar="N|auto",
        ),
    ] = "3",
    by: Annotated[
        str | None, typer.Option(help="Metric to compare, less is better; the job's objective without it.")
    ] = None,
    longer: Annotated[float, typer.Option(help="Training as a multiple of a trial's.", min=0.01, max=1e6)] = 1.0,
    paired: Annotated[
        bool, typer.Option("--paired", help="Intervals of differences seed by seed: where common seeds help.")
    ] = False,
    arch: Annotated[
        list[Path] | None,
        typer.Option(
            help="Architecture file (JSON), or the name of a network that 'nni-diffnas cost JOB' lists: judged, too; "
            "may be repeated.",
            metavar="FILE|NAME",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Trainings at once.", min=1)] = 2,
    output: Annotated[Path | None, typer.Option(help="Folder; <experiment>/verdict without it.")] = None,
    trial: Annotated[str | None, typer.Option(help="Id of another trial than the best.")] = None,
) -> None:
    """Say what the search gained over doing it by hand: winner, by hand and default trained with fresh seeds.

    All are scored on held-out images. A verdict that was killed goes on by the same command.
    """
    from ..memory.experiment_folder import find_experiment
    from ..results.judging import challenger, contestants, expected_seconds, judge
    from ..results.read import read_search
    from ..results.verdict_text import describe_verdict, look_in_words
    from ..searching.formats import format_seconds

    looks = _looks(seeds)
    search = read_search(find_experiment(experiment))
    given = Counter(file.stem for file in arch or ())
    family, budget = search.job.make_family(), search.job.make_budget()
    also = {
        file.stem if given[file.stem] == 1 else str(file): find_architecture(file, family, budget)
        for file in arch or ()
    }
    folder = make_folder(output or search.folder.path / "verdict")
    chosen = search.pick(trial) if trial else challenger(search.job, search.trials)
    best = search.outcome.best
    if not trial and best is not None and chosen is not best:
        print(f"The best trial, {best.id}, is one of the networks to beat: the next best, {chosen.id}, is judged.")
    judged = contestants(search.job, chosen, search.trials, also)
    most = expected_seconds(search.job, judged, search.trials, max(looks) * longer, workers)
    if math.isfinite(most):
        each, least = f"{looks[0]} to {looks[-1]}" if len(looks) > 1 else f"{looks[0]}", "at most " * (len(looks) > 1)
        took = f"{least}about {format_seconds(most)} by the trials of the search, less what is there already"
        print(f"{len(judged)} networks, {each} seeds each: {took}.", flush=True)
    found = judge(
        search.job, chosen, folder, looks, workers, trials=search.trials, also=also, longer=longer, paired=paired,
        metric=by, described=search.described,
        watch=lambda verdict: print(look_in_words(verdict), flush=True) if len(looks) > 1 else None,
    )  # fmt: skip
    print(describe_verdict(found))
