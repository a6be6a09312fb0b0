"""``nni-diffnas calibrate``: finds the cheap protocol that ranks the networks of a job as a long training does."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nni_diffnas.api.errors import JobError, TrialFailure
from nni_diffnas.api.space import Architecture
from nni_diffnas.job import Job
from nni_diffnas.searching.formats import format_seconds

from ..diffusion import DiffusionEvaluation
from ..settings import Settings
from .measurements import REFERENCE_SEED, Journal, Run, Sampling, measure, spread_over
from .ranking import Agreement, Measured, agreement, ceiling, noise, read, recommend

__all__ = ["Calibration", "calibrate", "compare", "planned_runs"]

# The reference generates this many times the images of the job.
MORE_IMAGES = 3


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Args:
        measured: everything, network by network.
        agreements: of each proxy with the reference.
        ceiling: tau of a score free of noise, bounded by the reference's own; NaN with one seed.
        wanted: tau that the recommendation has to reach.
    """

    measured: Measured
    agreements: Mapping[str, Agreement]
    ceiling: float
    wanted: float

    @property
    def recommended(self) -> str | None:
        """Name of the cheapest protocol that reaches the wanted tau."""
        return recommend(self.agreements, self.measured.proxies, self.wanted)

    @property
    def best(self) -> str | None:
        """Name of the protocol with the highest tau."""
        usable = [name for name in self.agreements if self.measured.proxies[name].settings]
        return max(usable, key=lambda name: self.agreements[name].tau, default=None)

    def rows(self) -> list[dict[str, Any]]:
        """One row a proxy, the cheapest first: its agreement, cost relative to the reference, and noise over spread."""
        rows = []
        for name, proxy in sorted(self.measured.proxies.items(), key=lambda item: item[1].seconds):
            if name in self.agreements:
                share = proxy.seconds / self.measured.reference_seconds
                spread = noise(proxy.values).ratio if len(proxy.seeds) > 1 else math.nan
                rows.append({"proxy": name, **asdict(self.agreements[name]), "cost": share, "noise": spread})
        return rows

    def describe(self) -> str:
        """Write the table and the recommendation for the terminal."""
        measured = self.measured
        lines = [f"{'proxy':56} {'tau':>5}  95 % interval  top-1 regret   cost  noise/spread"]
        for row in self.rows():
            lines.append(
                f"{row['proxy']:56} {row['tau']:5.2f}  [{row['low']:5.2f}, {row['high']:4.2f}]  "
                f"{row['regret']:7.3g} {row['relative_regret']:4.0%}  {row['cost']:5.1%}  {row['noise']:5.2f}"
            )
        spread = noise(measured.reference)
        lines += [
            f"{len(measured.macs)} networks, {len(measured.seeds)} seeds of the reference, which takes "
            f"{format_seconds(measured.reference_seconds)} each; its noise is {spread.common_seeds:.3g}, the spread of "
            f"the networks {spread.networks:.3g}; a score free of noise would reach a tau of {self.ceiling:.2f}.",
            "Regret: of the network that the score puts first, in units of the distance and relative to one drawn at "
            "random. Cost: relative to the reference.",
        ]
        if self.recommended:
            settings = measured.proxies[self.recommended].settings
            lines.append(
                f"Recommended, as the cheapest protocol with a tau of {self.wanted:g} or more: {self.recommended}. "
                f"{_advice(settings)}"
            )
        elif self.best:
            lines.append(
                f"No protocol reaches a tau of {self.wanted:g}; the best is {self.best} with "
                f"{self.agreements[self.best].tau:.2f}: train longer than the job says."
            )
        return "\n".join(lines)


def _advice(settings: Mapping[str, float | str]) -> str:
    """What to change in a job so that it scores by these settings of a `Proxy`."""
    fields = {"metric": "objective.metric", "score_images": "evaluator.score_images"}
    fields |= {"sampler_steps": "evaluator.sampler_steps"}
    changes = [f"{field} to {settings[name]}" for name, field in fields.items() if name in settings]
    return f"Set {', '.join(changes)}, and train for {settings['factor']:g} times as long as the job says."


def compare(measured: Measured, wanted: float) -> Calibration:
    """Agreement of every proxy with the reference."""
    agreements = {name: agreement(proxy, measured) for name, proxy in measured.proxies.items()}
    known = {name: found for name, found in agreements.items() if math.isfinite(found.tau)}
    return Calibration(measured, known, ceiling(measured.reference), wanted)


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
    found = compare(measured, wanted)
    content = {"ceiling": found.ceiling, "recommended": found.recommended, "proxies": found.rows()}
    (output / "calibration.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    from .plot import draw

    draw(found, output / "calibration.png")
    return f"{found.describe()}\nPlot: {output / 'calibration.png'}"
