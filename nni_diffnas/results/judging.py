"""Judges a search: its winner, the networks by hand and the default, trained with fresh seeds on held-out images.

Every finished training is one file in its own folder, keyed by network, seed and protocol: a verdict that was killed
goes on by the same command, and one that takes more seeds keeps those that it has.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ..api.blocks import BlockFamily
from ..api.cost import Cost
from ..api.errors import DataError, JobError, TrialFailure
from ..api.evaluation import Evaluation, TrialContext
from ..api.family import Family
from ..api.space import Architecture, Value
from ..api.trial import BY_HAND, RECOMMENDED, Metrics, Objective, Trial
from ..cache import fingerprint
from ..files.whole_file import written_whole
from ..job import Job, refuse_missing
from ..process.workers import worker_pool
from ..searching.halving import rung_setting
from ..searching.progress import progress_bar
from ..searching.ranking import Outcome
from ..trial.life import checked_metrics
from ..trial.result_file import TrialRecord
from ..trial.run import build_seeded
from .verdict import DEFAULT, WINNER, Judged, Verdict

__all__ = ["FRESH_SEED", "Contestant", "challenger", "contestants", "expected_seconds", "judge", "rivals"]

FRESH_SEED = 10_000
"""First of the fresh seeds, above the job's: far from those that searches use."""

_RESULT = "result.json"
"""In the folder of a training that has ended: its metrics, and what they are of."""


@dataclass(frozen=True)
class Contestant:
    """A network before it is judged.

    Args:
        name, kind, cost, trial, recommended: as of `Judged`.
        architecture: canonical.
        settings: of its trainings.
    """

    name: str
    kind: str
    architecture: Architecture
    cost: Cost
    settings: Mapping[str, Value] = field(default_factory=dict)
    trial: str = ""
    recommended: bool = False


_Run = tuple[Job, Contestant, int, float, Path]
"""Arguments of `_train`."""


def _ignore(verdict: Verdict) -> None:
    """Nobody watches."""


def judge(
    job: Job,
    winner: Trial,
    output: Path,
    looks: Sequence[int] = (3,),
    workers: int = 2,
    *,
    trials: Sequence[Trial] = (),
    also: Mapping[str, Architecture] | None = None,
    longer: float = 1.0,
    paired: bool = False,
    metric: str | None = None,
    described: str = "",
    watch: Callable[[Verdict], None] = _ignore,
) -> Verdict:
    """Train the winner, the networks by hand and the default again, seed by seed, and score them on held-out images.

    By hand is the best trial of that origin in the search; where it has none, and the budget forbids the default, all
    that `Family.scaled` makes of the default are judged. A student is compared with its teacher, which is not trained
    again: only its samples differ from seed to seed.

    Args:
        job: of the search.
        winner: its best trial; trained again with the same settings.
        output: folder for samples and weights; what an earlier verdict has finished there is not trained again.
        looks: numbers of seeds, rising; after each the verdict ends if the winner and what it has to beat are told
            apart. One number is a fixed number of seeds; `intervals.LOOKS` is what ``--seeds auto`` takes.
        workers: processes that train at once, of several GPUs each on one.
        trials: of the search, where a network by hand may be.
        also: further networks by name, judged beside.
        longer: training as a multiple of a trial's.
        paired: take the intervals of differences seed by seed; worth it only where common seeds reduce their scatter.
        metric: that is compared, where less is better; ``None``: the job's objective.
        described: what the data was when the search began; empty where nobody knows.
        watch: called with the verdict after each look.

    Raises:
        DataError: the data has changed since, so that images that are held out now may have been trained on.
        JobError: the evaluator holds no images out, cannot train longer or does not measure ``metric``, or the winner
            is one of the networks that it would be compared with.
        SpaceError: one of ``also`` is not of the space.
        TrialFailure: a training failed.
    """
    refuse_missing(job)
    judged, evaluation = contestants(job, winner, trials, also), _evaluation(job, longer)
    if changed := evaluation.changed_since(winner.protocol, described):
        raise DataError(f"{changed}, so that no image is sure to be unseen: put it back as it was, or search anew.")
    evaluation.prepare()
    keys = [_key(job, evaluation, contestant, longer) for contestant in judged]
    quantity, objective = next(iter(job.budget), "macs"), _compared(job, evaluation, metric)
    with worker_pool(workers) as pool:
        for look in looks:
            seeds = [job.seed + FRESH_SEED + i for i in range(look)]
            folders = [[output / f"{key}-{seed}" for seed in seeds] for key in keys]
            missing = [
                (job, contestant, seed, longer, own[i])
                for i, seed in enumerate(seeds)
                for contestant, own in zip(judged, folders, strict=True)
                if objective.metric not in _metrics(own[i])
            ]
            _train_all(pool, missing, workers)
            networks = tuple(
                _judged(contestant, own, objective.metric) for contestant, own in zip(judged, folders, strict=True)
            )
            verdict = Verdict(objective, networks, output, quantity, paired, tuple(looks), longer)
            verdict.save()
            watch(verdict)
            if verdict.better is not None:
                break
    return verdict


def _compared(job: Job, evaluation: Evaluation, metric: str | None) -> Objective:
    if metric is None:
        return job.make_objective()
    if metric not in evaluation.measures:
        raise JobError(f"The evaluator does not measure {metric!r}: name one of {', '.join(evaluation.measures)}.")
    return Objective(metric, "minimize")


def _evaluation(job: Job, longer: float) -> Evaluation:
    evaluation = job.make_evaluation()
    return (evaluation if longer == 1 else evaluation.longer(longer)).held_out()


def challenger(job: Job, trials: Sequence[Trial]) -> Trial:
    """The best trial that is none of the networks which a search has to beat.

    Raises:
        JobError: there is none.
    """
    known = [rival.architecture for rival in rivals(job, trials)]
    found = Outcome.of(trials, job.make_objective()).found
    best = next((trial for trial in found if trial.architecture not in known), None)
    if best is None:
        raise JobError(
            f"The search has no successful trial beside the default network and those by hand yet "
            f"({len(trials)} trials): there is nothing to compare with them."
        )
    return best


def contestants(
    job: Job, winner: Trial, trials: Sequence[Trial] = (), also: Mapping[str, Architecture] | None = None
) -> list[Contestant]:
    """Everybody who is judged, the winner first; arguments and errors as of `judge`."""
    family = job.make_family()
    found, beaten = _of_search(family, "winner", WINNER, winner), rivals(job, trials)
    for rival in beaten:
        if rival.architecture == found.architecture:
            raise JobError(
                f"Trial {winner.id} is the network {rival.name!r} itself: compare another one with it by --trial ID."
            )
    return [found, *beaten, *(_of(family, name, "", architecture) for name, architecture in (also or {}).items())]


def expected_seconds(
    job: Job, judged: Sequence[Contestant], trials: Sequence[Trial], trainings: float, workers: int
) -> float:
    """How long a verdict takes, by the clock of the search on the machine that it ran on.

    Args:
        job: of the search.
        judged: networks.
        trials: of the search; what of them is no whole training says nothing.
        trainings: of each network, as multiples of a trial's.
        workers: trainings at once.

    Returns:
        Seconds; not a number where no trial has trained to its end.
    """
    metric = job.make_objective().metric
    whole = [trial for trial in trials if metric in trial.metrics and "seconds" in trial.metrics]
    if not whole:
        return math.nan
    usual = float(median(trial.metrics["seconds"] for trial in whole))
    known = {tuple(sorted(trial.architecture.items())): trial.metrics["seconds"] for trial in whole}
    once = sum(float(known.get(tuple(sorted(each.architecture.items())), usual)) for each in judged)
    return trainings * once / workers


def rivals(job: Job, trials: Sequence[Trial] = ()) -> list[Contestant]:
    """What a search has to beat: the networks by hand, then the default (or teacher)."""
    family, budget = job.make_family(), job.make_budget()
    default, by_hand = family.space.validate(family.default), Outcome.of(trials, job.make_objective()).by_hand
    if by_hand is not None:
        found = [_of_search(family, "by hand", BY_HAND, by_hand)]
    elif budget.windows and not budget.admits(family.cost(default)):
        scaled = [_of(family, f"by hand ({name})", BY_HAND, each) for name, each in family.scaled(budget).items()]
        found = [each for each in scaled if budget.admits(each.cost)]
    else:
        found = []
    if isinstance(family, BlockFamily):
        return [*found, _of(family, "teacher", DEFAULT, default, settings={"task": "teacher"})]
    return [*found, _of(family, "default", DEFAULT, default)]


def _of(family: Family, name: str, kind: str, architecture: Architecture, **known: Any) -> Contestant:
    chosen = family.space.validate(architecture)
    return Contestant(name, kind, chosen, family.cost(chosen), **known)


def _of_search(family: Family, name: str, kind: str, trial: Trial) -> Contestant:
    # Thresholds of halving are of the search's own distances: they would end a training that is scored on others.
    settings = {name: value for name, value in trial.settings.items() if not name.startswith(rung_setting(""))}
    recommended = trial.origin.kind == RECOMMENDED
    return _of(family, name, kind, trial.architecture, settings=settings, trial=trial.id, recommended=recommended)


def _key(job: Job, evaluation: Evaluation, contestant: Contestant, longer: float) -> str:
    """Name of a contestant's folders, without the seed: another network, or another protocol, has another one."""
    what = fingerprint(
        job.space.model_dump(mode="json"),
        sorted(contestant.architecture.items()),
        sorted(contestant.settings.items()),
        (evaluation.protocol, longer),
    )
    return f"{re.sub('[^a-zA-Z0-9.]+', '-', contestant.name).strip('-')}-{what[:8]}"


def _metrics(folder: Path) -> Metrics:
    """What a training has measured; nothing where it has not ended, or its file is damaged."""
    found: Metrics = TrialRecord.read(folder / _RESULT).get("metrics", {})
    return found


def _judged(contestant: Contestant, folders: Sequence[Path], metric: str) -> Judged:
    scores = tuple(float(_metrics(folder)[metric]) for folder in folders)
    runs = tuple(folder.name for folder in folders)
    name, kind, cost = contestant.name, contestant.kind, contestant.cost
    return Judged(name, kind, scores, cost, contestant.trial, runs, contestant.recommended)


def _train_all(pool: ProcessPoolExecutor, runs: Sequence[_Run], workers: int) -> None:
    futures = [pool.submit(_train, *run) for run in runs]
    with progress_bar("training with fresh seeds", len(futures), workers) as advance:
        try:
            for future in as_completed(futures):
                future.result()
                advance(1)
        except BrokenProcessPool as error:
            raise TrialFailure(
                "A training's process was killed, by the system where memory ran out: the same command goes on, with "
                "--workers 1 in less memory."
            ) from error
        except BaseException:  # what runs is waited for, but a failure or an interruption starts nothing more
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train(job: Job, contestant: Contestant, seed: int, longer: float, folder: Path) -> None:
    """Train and score one network, and leave its result; runs in a process of its own."""
    family, evaluation = job.make_family(), _evaluation(job, longer)
    evaluation.prepare()
    folder.mkdir(parents=True, exist_ok=True)
    context = TrialContext(contestant.architecture, folder, seed, settings=contestant.settings, family=family)
    measured = evaluation.evaluate(build_seeded(family, contestant.architecture, seed), context)
    metrics = checked_metrics({**measured, **contestant.cost.as_metrics()}, job.make_objective())
    result = {"metrics": metrics, "protocol": evaluation.protocol, "seed": seed, "longer": longer}
    result |= {"architecture": contestant.architecture, "settings": contestant.settings, "trial": contestant.trial}
    with written_whole(folder / _RESULT) as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
