"""Is the winner really better? Winner and default trained again with fresh seeds, scored on held-out images.

The best of many trials looks better than it is: it was chosen for its score. This is the answer that best-of-many
cannot give.
"""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ..api.blocks import BlockFamily
from ..api.cost import Cost
from ..api.errors import JobError
from ..api.evaluation import TrialContext
from ..api.space import Architecture, Value
from ..api.trial import Objective, Trial
from ..job import Job
from ..searching.progress import progress_bar
from ..trial.run import build_seeded

__all__ = ["FRESH_SEED", "VERDICT_FILE", "Verdict", "judge", "read_verdict"]

FRESH_SEED = 10_000
"""First of the fresh seeds, above the job's: far from those that searches use."""

VERDICT_FILE = "verdict.json"
"""In the verdict's folder: its scores, for the report."""


@dataclass(frozen=True)
class Verdict:
    """Scores of winner and default on held-out images, seed by seed.

    Args:
        objective: what is compared.
        winner: value of the objective's metric for each seed.
        default: the same of the default network, for the same seeds.
        output: folder with the samples, the nearest training images below them, and the weights.
        trial: id of the winner.
        costs: of winner and default; empty where they are not known.
    """

    objective: Objective
    winner: tuple[float, ...]
    default: tuple[float, ...]
    output: Path
    trial: str = ""
    costs: tuple[Cost, ...] = ()

    @property
    def differences(self) -> tuple[float, ...]:
        """Winner minus default, seed by seed."""
        return tuple(a - b for a, b in zip(self.winner, self.default, strict=True))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean difference (paired Student t)."""
        from scipy.stats import t

        n = len(self.differences)
        mean = fmean(self.differences)
        if n < 2:
            return -math.inf, math.inf
        half = float(t.ppf(0.975, n - 1)) * stdev(self.differences) / math.sqrt(n)
        return mean - half, mean + half

    @property
    def better(self) -> bool | None:
        """Whether the winner beats the default; ``None`` where the interval includes no difference."""
        low, high = self.interval
        if low <= 0 <= high:
            return None
        return (high < 0) == (self.objective.direction == "minimize")

    @property
    def share(self) -> str:
        """What the winner costs of the default, in words; empty where that is not known."""
        if len(self.costs) != 2:
            return ""
        winner, default = self.costs
        return (
            f"{winner.macs / default.macs:.0%} of the MACs and {winner.params / default.params:.0%} of the parameters"
        )

    def save(self) -> None:
        """Write `VERDICT_FILE` into the output folder."""
        body: dict[str, Any] = {"objective": asdict(self.objective), "winner": self.winner, "default": self.default}
        body |= {"trial": self.trial, "costs": [asdict(cost) for cost in self.costs]}
        (self.output / VERDICT_FILE).write_text(json.dumps(body, indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Verdict:
        """Read what `save` has written.

        Raises:
            JobError: the file is damaged.
        """
        try:
            body = json.loads(file.read_text())
            scores = tuple(body["winner"]), tuple(body["default"])
            costs = tuple(Cost(**cost) for cost in body.get("costs", []))
            return cls(Objective(**body["objective"]), *scores, file.parent, str(body["trial"]), costs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JobError(
                f"The verdict {file} cannot be read: compute it again with 'nni-diffnas verdict'."
            ) from error

    def describe(self) -> str:
        """Write the verdict for the terminal."""
        name = self.objective.metric
        low, high = self.interval
        words = {
            True: "The winner is better than the default.",
            False: "The winner is worse than the default.",
            None: "The interval includes no difference: take more seeds, or the cheaper network.",
        }
        lines = [
            f"{name} on held-out images, {len(self.winner)} fresh seeds:",
            f"  winner   {fmean(self.winner):.4g}  ({', '.join(f'{value:.4g}' for value in self.winner)})",
            f"  default  {fmean(self.default):.4g}  ({', '.join(f'{value:.4g}' for value in self.default)})",
            f"  winner - default = {fmean(self.differences):+.4g}, 95 % interval [{low:+.4g}, {high:+.4g}]",
            words[self.better],
            *([f"The winner needs {self.share} of the default."] if self.share else []),
            f"Samples, with the nearest training images below them: {self.output}",
        ]
        return "\n".join(lines)


def read_verdict(experiment: Path) -> Verdict | None:
    """The verdict in an experiment's folder; ``None`` where none was computed.

    Raises:
        JobError: its file is damaged.
    """
    file = experiment / "verdict" / VERDICT_FILE
    return Verdict.load(file) if file.is_file() else None


def _score(job: Job, architecture: Architecture, settings: Mapping[str, Value], seed: int, output: Path) -> float:
    family = job.make_family()
    evaluation = job.make_evaluation().held_out()
    evaluation.prepare()
    output.mkdir(parents=True, exist_ok=True)
    context = TrialContext(architecture, output, seed, settings=settings)
    metrics: Mapping[str, float] = {
        **evaluation.evaluate(build_seeded(family, architecture, seed), context),
        **family.cost(architecture).as_metrics(),
    }
    if job.objective.metric not in metrics:
        raise JobError(f"The objective {job.objective.metric!r} is not among the metrics {', '.join(sorted(metrics))}.")
    return metrics[job.objective.metric]


def judge(job: Job, winner: Trial, output: Path, seeds: Sequence[int] = (0, 1, 2), workers: int = 2) -> Verdict:
    """Train winner and default again, seed by seed, and score them on held-out images.

    A student is compared with its teacher, which is not trained again: only its samples differ from seed to seed.

    Args:
        job: of the search.
        winner: its best trial; trained again with the same settings.
        output: folder for samples and weights.
        seeds: added to `FRESH_SEED` and the job's seed.
        workers: processes that train at once.

    Raises:
        JobError: the evaluator holds no images out, or the winner is the default network.
        TrialFailure: a training failed.
    """
    family = job.make_family()
    default = family.space.validate(family.default)
    chosen = family.space.validate(winner.architecture)
    if chosen == default:
        raise JobError(f"Trial {winner.id} is the default network itself: compare another one with it by --trial ID.")
    job.make_evaluation().held_out().prepare()
    settings_of_default: Mapping[str, Value] = {"task": "teacher"} if isinstance(family, BlockFamily) else {}
    runs = [
        (name, architecture, settings, job.seed + FRESH_SEED + seed)
        for seed in seeds
        for name, architecture, settings in (
            ("winner", chosen, winner.settings),
            ("default", default, settings_of_default),
        )
    ]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(_score, job, a, s, seed, output / f"{name}-{seed}") for name, a, s, seed in runs]
        with progress_bar("training winner and default", len(futures), workers) as advance:
            try:
                for future in as_completed(futures):
                    future.result()
                    advance(1)
            except BaseException:  # what runs is waited for, but a failure or an interruption starts nothing more
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        scores = [future.result() for future in futures]
    costs = family.cost(chosen), family.cost(default)
    verdict = Verdict(job.make_objective(), tuple(scores[0::2]), tuple(scores[1::2]), output, winner.id, costs)
    verdict.save()
    return verdict
