"""Measurements for the question whether a cheap score ranks networks as a long training does.

Networks are chosen by their cost, trained for several budgets and seeds, and scored in several ways; each result goes
to a journal at once, so that a killed calibration goes on where it was. `ranking` draws the conclusions.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import BudgetError, JobError, TrialFailure
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.cache import fingerprint
from nni_diffnas.searching.progress import progress_bar
from nni_diffnas.trial.run import build_seeded

from ..diffusion import DiffusionEvaluation
from ..scores.held_out_loss import HeldOutLoss, mean_loss
from ..scores.zero_cost import gradient_norm, naswot
from ..training.compute import choose_device, threads

__all__ = ["REFERENCE_SEED", "Journal", "Run", "Sampling", "measure", "spread_over", "within"]

REFERENCE_SEED = 1000
"""First seed of the reference, which shares no random number with the protocols under test."""

# Images that are scored once for nothing.
WARM_UP = 32
# Random architectures that the chosen ones are picked from.
POOL = 4000


def within(family: Family, low: float, high: float, count: int, seed: int = 0) -> list[Architecture]:
    """``count`` different random architectures with ``low`` to ``high`` MACs.

    Raises:
        BudgetError: so many were not found.
    """
    rng = np.random.default_rng(seed)
    budget, found = Budget({"macs": Window(low, high)}), dict[str, Architecture]()
    for _ in range(100 * POOL):
        architecture = family.space.sample(rng)
        if budget.admits(family.cost(architecture)):
            found.setdefault(family.space.key_of(architecture), architecture)
            if len(found) == count:
                return list(found.values())
    raise BudgetError(
        f"Only {len(found)} of {100 * POOL} random architectures have {low:g} to {high:g} MACs, {count} are wanted: "
        f"widen the range or ask for fewer."
    )


def spread_over(family: Family, budget: Budget, count: int, seed: int = 0) -> list[Architecture]:
    """``count`` different architectures within budget, spread evenly over the logarithm of their MACs.

    Raises:
        BudgetError: so many were not found.
    """
    rng = np.random.default_rng(seed)
    pool = dict[str, Architecture]()
    for _ in range(10 * POOL):
        architecture = family.space.sample(rng)
        if budget.admits(family.cost(architecture)):
            pool.setdefault(family.space.key_of(architecture), architecture)
            if len(pool) == POOL:
                break
    if len(pool) < count:
        raise BudgetError(f"Only {len(pool)} architectures within budget were found, {count} are wanted: widen it.")
    macs = {name: math.log(family.cost(architecture).macs) for name, architecture in pool.items()}
    chosen: list[Architecture] = []
    for target in np.linspace(min(macs.values()), max(macs.values()), count):
        nearest = min(macs, key=lambda name: abs(macs[name] - target))
        del macs[nearest]
        chosen.append(pool[nearest])
    return chosen


@dataclass(frozen=True)
class Sampling:
    """How a trained network is scored: so many sampler steps, and the first so many images, for each number."""

    steps: int
    images: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """One training and its scores.

    Args:
        architecture: of the network.
        seed: of weights, training and samples.
        factor: length of the training, relative to the evaluation's.
        samplings: ways to score it.
        curve: how many intermediate reports carry an RFID.
    """

    architecture: Architecture
    seed: int
    factor: float
    samplings: tuple[Sampling, ...]
    curve: int = 0


class Journal:
    """Results in a file, one JSON object a line; a line that a kill cut short is left out.

    Args:
        path: of the file; made where missing.

    Raises:
        JobError: a line of it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.records: dict[str, dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if len(whole) < len(lines):
            path.write_text("".join(whole), encoding="utf-8")
        for number, line in enumerate(whole, start=1):
            try:
                record = json.loads(line)
                self.records[record["key"]] = record
            except (ValueError, LookupError, TypeError, RecursionError) as error:
                raise JobError(
                    f"Line {number} of {str(path)!r} is damaged: delete it, and what it told is measured again."
                ) from error

    def once(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of this key; made and written down where it is not there."""
        if key not in self.records:
            record = {"key": key, **make()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            self.records[key] = record
        return self.records[key]


def measure(
    family: Family, evaluation: DiffusionEvaluation, runs: Sequence[Run], journal: Journal
) -> Iterator[dict[str, Any]]:
    """Train and score what the journal does not hold yet, and show it; yields the results in the order of ``runs``.

    A result holds the architecture, its cost, the seed, the factor, the last loss, the seconds of training, ``signals``
    (scores that need no samples: value, value at each noise level, and the seconds they took), ``scores``
    (the metrics of `Scoring.score_features` for each number of steps and images, with the seconds they took) and
    ``curve`` (what was reported while training). Seconds are of the CPU where it computes, else of the clock. A
    training that fails is a result too, with its reason as ``failure``.
    """
    evaluation.family = family
    evaluation.scoring.score(evaluation.images.pixels[:WARM_UP])  # so that no network pays for the imports
    judges = [evaluation.longer(run.factor).changed(curve_points=run.curve) for run in runs]
    keys = [
        fingerprint(family.space.key_of(run.architecture), run.seed, judge.protocol, run.samplings, run.curve)
        for run, judge in zip(runs, judges, strict=True)
    ]
    with progress_bar("training networks", len(set(keys) - set(journal.records))) as advance:
        for run, judge, key in zip(runs, judges, keys, strict=True):
            known = key in journal.records
            record = journal.once(key, partial(_trained, family, judge, run))
            if not known:
                advance(1)
            yield record


def _trained(family: Family, evaluation: DiffusionEvaluation, run: Run) -> dict[str, Any]:
    clock = time.process_time if choose_device(evaluation.settings.device).type == "cpu" else time.monotonic
    record: dict[str, Any] = {
        "architecture": dict(run.architecture), "seed": run.seed, "factor": run.factor,
        **family.cost(run.architecture).as_metrics(), "protocol": evaluation.protocol,
    }  # fmt: skip
    curve: list[dict[str, float]] = []
    model = build_seeded(family, run.architecture, run.seed)
    with threads(evaluation.settings.threads):
        signals = evaluation.signals_by_level  # what one training pays for all is not its own time
        record["untrained"] = _untrained(evaluation, model, run.seed)
        began, wall = clock(), time.monotonic()
        context = TrialContext(
            run.architecture, Path(), run.seed, lambda metrics: curve.append(dict(metrics)), family=family
        )
        try:
            result = evaluation.fit(model, context)
            # The clock of the training stands still while it reports; this is its share of the time measured here.
            share = (clock() - began) / max(time.monotonic() - wall, 1e-9)
            record |= {"loss": result.loss, "images": result.images, "train_seconds": result.seconds * share}
            record |= {"curve": curve, "signals": {name: _measured(one, model, clock) for name, one in signals.items()}}
            record["scores"] = list(_scores(evaluation, model, run, clock))
        except TrialFailure as error:
            record["failure"] = str(error)
    return record


def _measured(signal: HeldOutLoss, model: torch.nn.Module, clock: Callable[[], float]) -> dict[str, Any]:
    began = clock()
    levels = signal.levels(model)
    errors = {str(level.timestep): level.squared_error for level in levels}
    return {"value": mean_loss(levels), "levels": errors, "seconds": clock() - began}


def _scores(
    evaluation: DiffusionEvaluation, model: torch.nn.Module, run: Run, clock: Callable[[], float]
) -> Iterator[dict[str, float]]:
    for sampling in run.samplings:
        began, most = clock(), max(sampling.images)
        pixels = evaluation.changed(sampler_steps=sampling.steps).generate(model, most, run.seed)
        features = evaluation.scoring.features(pixels)
        seconds = (clock() - began) / most
        for images in sampling.images:
            began = clock()
            metrics = evaluation.scoring.score_features(features[:images])
            spent = seconds * images + clock() - began
            yield {"steps": sampling.steps, "images": images, "seconds": spent, **metrics}


def _untrained(evaluation: DiffusionEvaluation, model: torch.nn.Module, seed: int) -> dict[str, float]:
    """Zero-cost scores on one batch of noised training images."""
    recipe = evaluation.settings.training
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(evaluation.images.training), generator=generator)[: recipe.batch_size].numpy()
    clean = torch.from_numpy(evaluation.images.pixels[evaluation.images.training[chosen]]).float() / 127.5 - 1.0
    times = torch.randint(recipe.timesteps, (len(clean),), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    alpha_bar = recipe.noise_schedule().alpha_bar()[times].float().view(-1, 1, 1, 1)
    a, s = alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()
    parameterisation = recipe.parameterisation()
    noised = parameterisation.network_input(a * clean + s * noise, a, s)
    target = parameterisation.target(clean, noise, a, s)
    began = time.process_time()
    with torch.random.fork_rng(devices=[]):
        model.eval()
        found = {
            "gradient_norm": gradient_norm(model, noised, times, target),
            "naswot": naswot(model, noised, times),
        }
        model.train()
    return {**found, "seconds": time.process_time() - began}
