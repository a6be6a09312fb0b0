"""What the candidates of a guided search are worth to the acquisition function that is to choose among them.

    python benchmarks/candidates.py --seeds 10

In the worlds of ``kinds.py`` (UNets of ``pixels16``, half of the default's MACs), after ``--trials`` random networks,
one surrogate is fitted, and as many candidates are made in several ways: ``generated`` by the guided diffusion model as
the search does it; ``mutated`` from the best trials and drawn at random; and generated with other strengths of the
guidance, with one that depends on the noise level, with one for each candidate, or again from the best generated ones.
The best candidate of each way is then changed choice by choice, as long as a change is better. Printed are the highest
acquisition of each way, before the changes and behind them, in nats (logarithms of the expected improvement) ahead of
``mutated``, with standard errors, and the CPU seconds that the candidates took.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kinds import OBJECTIVE, World
from reporting import report
from tabular import Mutating

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.family import draws_within
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.acquisition import Acquisition, fit_models
from nni_diffnas.strategies.guided.guidance import Wish, along_gradient
from nni_diffnas.strategies.guided.network import Tilt

Made = Callable[[DiffusionGuided, list[Trial], torch.Generator, Wish], list[Architecture]]
"""``(strategy, scored trials, noise, acquisition)`` to candidates."""


def pull_of(strategy: DiffusionGuided, acquisition: Wish, strength: float) -> Tilt:
    encoding = strategy.generator.encoding
    reference = encoding.one_hot(encoding.sample(64, np.random.default_rng(strategy.options.seed)))
    return along_gradient(acquisition, strength, reference)


def proposed(strength: float, weight: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Made:
    """As the search does it, guidance times a weight of the noise level of each architecture."""

    def made(
        strategy: DiffusionGuided, scored: list[Trial], noise: torch.Generator, acquisition: Wish
    ) -> list[Architecture]:
        pull = pull_of(strategy, acquisition, strength)

        def weighed(x: torch.Tensor, sigma: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            return pull(x, sigma, p) if weight is None else weight(sigma)[:, None, None] * pull(x, sigma, p)

        return strategy.propose(scored, [], noise, weighed)

    return made


def again(
    strategy: DiffusionGuided, scored: list[Trial], noise: torch.Generator, acquisition: Wish
) -> list[Architecture]:
    """Half as the search does it; the best quarter of these go half-way back into the noise, for the other half."""
    encoding, count = strategy.generator.encoding, strategy.settings.candidates // 4
    pull = pull_of(strategy, acquisition, 5.0)
    best = sorted(scored, key=strategy._rank, reverse=True)[:8]
    parents = encoding.indices([best[i % len(best)].architecture for i in range(count)])
    first = strategy.pool.generate(count, noise, pull=pull)
    first += strategy.pool.generate(count, noise, pull=pull, parents=parents, taken=first)
    for _ in range(2):
        with torch.no_grad():
            worth = acquisition(encoding.one_hot(encoding.indices(first)))
        ahead = [first[i] for i in worth.argsort(descending=True)[: max(1, len(first) // 4)].tolist()]
        parents = encoding.indices([ahead[i % len(ahead)] for i in range(count)])
        first += strategy.pool.generate(count, noise, pull=pull, parents=parents, taken=first)
    return first


def mutated(
    strategy: DiffusionGuided, scored: list[Trial], noise: torch.Generator, acquisition: Wish
) -> list[Architecture]:
    return list(Mutating.propose(strategy, scored, [], noise, None))  # what it reads is there


WAYS: dict[str, Made] = {
    "generated": proposed(5.0),
    "mutated": mutated,
    "strength 20": proposed(20.0),
    "strength 80": proposed(80.0),
    "stronger late": proposed(20.0, lambda sigma: (1 / sigma).clamp(max=1)),
    "stronger early": proposed(20.0, lambda sigma: (sigma / 2).clamp(max=1)),
    "strengths 1 to 100": proposed(1.0, lambda sigma: torch.logspace(0, 2, len(sigma))),
    "again from the best": again,
}


def changed(best: Architecture, values: Callable[[list[Architecture]], np.ndarray], search: Search) -> float:
    """Highest value that single changes reach."""
    highest = float(values([best])[0])
    while True:
        steps = [step for step in search.space.neighbours(best) if not search.view.refusal(step)]
        found = values(steps)
        if not len(found) or found.max() <= highest:
            return highest
        best, highest = steps[int(found.argmax())], float(found.max())


def measured(
    family: UNetFamily, budget: Budget, seed: int, trials: int, names: list[str]
) -> dict[str, tuple[float, float, float]]:
    """Way to its highest acquisition, the one that single changes reach, and the CPU seconds of the candidates."""
    world, rng = World(family, budget, seed), np.random.default_rng(seed)
    drawn = {tuple(a.items()): a for a in draws_within(family, budget, rng, 20 * trials)}
    warm = [
        Trial(f"w{i}", "warm", a, Origin("RandomSearch", "random"), "succeeded", world.trained(a), family.cost(a))
        for i, a in enumerate(list(drawn.values())[:trials])
    ]
    strategy = DiffusionGuided(objective=OBJECTIVE, budget=budget, seed=seed, train_first="none", warm_start=warm)
    search = Search(strategy, family.space, family)
    scored = strategy.observations.scored
    known = strategy.observations.known(scored, [])
    acquisition = Acquisition(strategy.features, known, fit_models(strategy.features, known, "gp", seed), seed)
    encoding = strategy.generator.encoding

    @torch.no_grad()
    def values(architectures: list[Architecture]) -> np.ndarray:
        if not architectures:
            return np.array([])
        return acquisition(encoding.one_hot(encoding.indices(architectures))).numpy()

    found: dict[str, tuple[float, float, float]] = {}
    for name in names:
        began, noise = time.process_time(), torch.Generator().manual_seed(seed)
        architectures = WAYS[name](strategy, scored, noise, acquisition)
        took, worth = time.process_time() - began, values(architectures)
        higher = changed(architectures[int(worth.argmax())], values, search)
        found[name] = float(worth.max()), higher, took
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument(
        "--window", type=float, help="MACs within this part of half of the default's; else at most half"
    )
    parser.add_argument("--ways", default=",".join(WAYS), help="with mutated among them")
    parser.add_argument("--journal", type=Path, help="JSONL of seeds that are done")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    family = UNetFamily("pixels16")
    half = family.cost(family.default).macs / 2
    around = Window(max=half) if given.window is None else Window((1 - given.window) * half, (1 + given.window) * half)
    budget = Budget({"macs": around})
    names = given.ways.split(",")
    if unknown := {*names} - {*WAYS}:
        parser.error(f"unknown ways {', '.join(sorted(unknown))}: choose among {', '.join(WAYS)}")
    if "mutated" not in names:
        parser.error(f"--ways is {given.ways}: the others are compared with mutated, so name it too")
    journal = None if given.journal is None else Journal(given.journal)
    runs = []
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        what = {"candidates": names, "seed": seed, "trials": given.trials}
        what |= {} if given.window is None else {"window": given.window}

        def make(what: dict[str, Any] = what) -> dict[str, Any]:
            return {**what, "found": measured(family, budget, what["seed"], what["trials"], what["candidates"])}

        made = make() if journal is None else journal.once(fingerprint(what), make)
        runs.append([made["found"][name] for name in names])
        print(seed, made["found"], file=sys.stderr, flush=True)
    table = np.array(runs)
    ahead = table[..., :2] - table[:, [names.index("mutated")], :2]
    mean, error = ahead.mean(0), ahead.std(0, ddof=1) / len(runs) ** 0.5 if len(runs) > 1 else ahead.std(0)
    rows: list[list[Any]] = [
        [name, *(f"{m:+.2f} +- {e:.2f}" for m, e in zip(mean[i], error[i], strict=True)), float(table[:, i, 2].mean())]
        for i, name in enumerate(names)
    ]
    body = {
        "benchmark": "candidates",
        "trials": given.trials,
        "window": given.window,
        "ways": names,
        "found": table.tolist(),
    }
    report(["candidates", "ahead of mutated, nats", "changed as well", "CPU seconds"], rows, body)


if __name__ == "__main__":
    main()
