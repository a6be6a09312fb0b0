"""``nni-diffnas calibrate``: finds the cheap protocol that ranks the networks of a job as a long training does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nni_diffnas.api.errors import JobError, TrialFailure
from nni_diffnas.api.space import Architecture
from nni_diffnas.job import Job
from nni_diffnas.searching.formats import format_seconds

from ..diffusion import DiffusionEvaluation
from ..settings import Settings
from .findings import compare_proxies
from .measurements import REFERENCE_SEED, Journal, Run, Sampling, measure, spread_over
from .plot import draw
from .ranking import read

__all__ = ["calibrate", "planned_runs"]

# The reference generates this many times the images of the job.
MORE_IMAGES = 3


def planned_runs(
    architectures: list[Architecture], settings: Settings, longer: float, seeds: int, first_seed: int
) -> list[Run]:
    """Trainings of a calibration: for each seed, half of the job's length, the job's, and the reference."""
    images, steps = settings.score_images, settings.sampler_steps
    numbers = tuple(sorted({max(images // 4, 2), max(images // 2, 2), images}))
    brief = (Sampling(steps, numbers), Sampling(max(steps // 2, 1), numbers[-2:-1]))
    many = (Sampling(steps, (MORE_IMAGES * images,)),)
    return [
        run
        for seed in range(first_seed, first_seed + seeds)
        for architecture in architectures
        for run in (
            *(Run(architecture, seed, factor, brief) for factor in (0.5, 1.0)),
            Run(architecture, REFERENCE_SEED + seed, longer, many, curve=3),
        )
    ]


def calibrate(
    job: Job, output: Path, networks: int, seeds: int, longer: float, wanted: float, *, dry_run: bool = False
) -> str:
    """Train networks of the job briefly and long, and compare what cheap scores say with what the long training says.

    Args:
        job: its evaluator is the protocol under test.
        output: folder for the trainings, ``calibration.json`` and ``calibration.png``; a second call goes on there.
        networks: spread over the job's range of MACs.
        seeds: of each protocol and of the reference.
        longer: training of the reference as a multiple of the job's.
        wanted: tau that the recommendation has to reach.
        dry_run: only say what would be trained, and for how long.

    Returns:
        The report.

    Raises:
        JobError: an evaluator that trains no networks of its own, or a value out of range.
        BudgetError: too few networks within budget.
        TrialFailure: too many trainings failed.
    """
    evaluation = job.make_evaluation()
    if type(evaluation) is not DiffusionEvaluation:
        raise JobError(f"calibrate compares trainings of evaluator 'diffusion', not of {job.evaluator.type!r}.")
    if networks < 4 or seeds < 1 or longer <= 1:
        raise JobError(
            f"calibrate needs four networks, one seed and a longer reference at least, not {networks}, {seeds} and "
            f"{longer:g} times: raise them."
        )
    family = job.make_family()
    evaluation.check(family)
    evaluation.prepare()
    architectures = spread_over(family, job.make_budget(), networks, job.seed)
    runs = planned_runs(architectures, evaluation.settings, longer, seeds, job.seed)
    if dry_run:
        seconds, _ = evaluation.forecast(family.build(family.default), family)
        mean = sum(family.cost(each).macs for each in architectures) / networks / family.cost(family.default).macs
        total = sum(run.factor for run in runs) * seconds * mean
        low, high = (family.cost(each).macs / 1e6 for each in (architectures[0], architectures[-1]))
        return (
            f"{len(runs)} trainings of {networks} networks from {low:.3g} to {high:.3g} million MACs will take about "
            f"{format_seconds(total)}, a forecast from a few timed steps of the default network."
        )
    records = list(measure(family, evaluation, runs, Journal(output / "trainings.jsonl")))
    failures = [record["failure"] for record in records if "failure" in record]
    for reason in failures:
        print(f"A training failed: {reason}", file=sys.stderr)
    measured = read(records)
    if len(measured.macs) < 3:
        raise TrialFailure(
            f"Only {len(measured.macs)} of {networks} networks were trained for a reference, too few to rank: "
            f"mend what made the others fail."
        )
    found = compare_proxies(measured, wanted)
    content = {"ceiling": found.ceiling, "recommended": found.recommended, "proxies": found.rows()}
    (output / "calibration.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    draw(found, output / "calibration.png")
    return f"{found.describe()}\nPlot: {output / 'calibration.png'}"
