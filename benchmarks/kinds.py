"""Trials that a search among UNets needs to find the best kind of network, where it starts from networks by hand.

    python benchmarks/kinds.py --strategies guided,evolution,random --seeds 10 [--halving 3]

Preset ``pixels16``, at most half of the default's MACs, 24 trials, as in ``pays.py``: first the default and those by
hand, which are all of one kind. Nothing is trained. Each seed has a world of its own, in which the logarithm of the
loss is a sum of effects that are drawn: of each block kind (deviation 1.5 %, and 0.4 % more at each level), of
resampling and skips (1 %), of the other choices (0.2 to 0.7 %). It falls with MACs and parameters, by slopes that are a
guess, and a training adds 0.5 % of noise. With ``--halving``, losses at a quarter, half and three quarters of a
training, with more noise, stop trials.

Printed: the trial at which the first network of the best kind is trained (its block at two levels of three, its
resampling and its skips); the noise-free loss of the network that a search would choose, in per cent above the best of
the world; what it is ahead of the best by hand, in per cent; how many whole trainings it took.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report
from tabular import PLUGINS, Mutating

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import BY_HAND, Objective, Trial, standing
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.plugins import find_plugin
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search

OBJECTIVE = Objective("loss", "minimize")
MARKS = (10, 16, 24)
NOISE = 0.005
RUNGS = {25: (0.5, 0.012), 50: (0.2, 0.008), 75: (0.07, 0.006)}
"""Per cent of a training to how much larger the loss is then, and its noise."""

DEVIATIONS = {
    "resample": 0.01, "skips": 0.01, "up_depth": 0.007, "middle": 0.007, "depth": 0.005, "attention": 0.005,
    "kernel": 0.005, "expansion": 0.004, "inner_width": 0.004, "width": 0.004, "heads": 0.002, "time_embedding": 0.002,
}  # fmt: skip
BLOCK, BLOCK_AT_LEVEL = 0.015, 0.004
MACS, PARAMETERS = -0.06, -0.03
"""Slopes of the logarithm of the loss in those of the costs."""


class World:
    """Losses that some seed has drawn."""

    def __init__(self, family: UNetFamily, budget: Budget, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        self.family, self.budget, self.space = family, budget, family.space
        kinds = self.space.choices["level0.block"]
        shared = dict(zip(kinds, rng.normal(0, BLOCK, len(kinds)), strict=True))
        self.effects: dict[str, np.ndarray] = {}
        for label, values in self.space.choices.items():
            what = label.rpartition(".")[2]
            deviation = BLOCK_AT_LEVEL if what == "block" else DEVIATIONS[what]
            drawn = rng.normal(0, deviation, len(values))
            self.effects[label] = drawn + [shared[v] for v in values] if what == "block" else drawn
        self.scale = family.cost(family.default)
        self.noise = rng.integers(2**31)
        blocks = [self.effects[label] for label in self.space.labels if label.endswith(".block")]
        self.kind = {
            "block": kinds[int(np.sum(blocks, axis=0).argmin())],
            **{name: self.space.choices[name][int(self.effects[name].argmin())] for name in ("resample", "skips")},
        }

    def loss(self, architecture: Architecture) -> float:
        """Without noise."""
        cost = self.family.cost(architecture)
        total = MACS * math.log(cost.macs / self.scale.macs) + PARAMETERS * math.log(cost.params / self.scale.params)
        total += sum(self.effects[label][self.space.index_of(label, value)] for label, value in architecture.items())
        return 0.045 * math.exp(total)

    def trained(self, architecture: Architecture) -> dict[str, float]:
        """What a training measures: the loss, and on its way those at the rungs."""
        key = int(self.space.key_of(architecture), 16) % 2**32
        noise, loss = np.random.default_rng([int(self.noise), key]), self.loss(architecture)
        final = loss * math.exp(NOISE * noise.normal())
        rungs = {f"loss@{at}": loss * (1 + more) * math.exp(by * noise.normal()) for at, (more, by) in RUNGS.items()}
        return {**rungs, "loss": final}

    def is_of_kind(self, architecture: Architecture) -> bool:
        """Whether its choices of kind are the best ones."""
        blocks = [value for label, value in architecture.items() if label.endswith(".block")]
        return blocks.count(self.kind["block"]) > len(blocks) / 2 and all(
            architecture[name] == self.kind[name] for name in ("resample", "skips")
        )

    def best(self) -> float:
        """Loss of the best network that single changes reach from the best of many random ones."""
        rng, found = np.random.default_rng(0), []
        rows = self.space.draw(20_000, rng)
        costs = self.family.costs(self.space, rows)
        rows = rows[self.budget.windows["macs"].contains(costs["macs"])]
        for current in sorted((self.space.at(row) for row in rows[:1500]), key=self.loss)[:4]:
            loss = self.loss(current)
            while True:
                steps = [s for s in self.space.neighbours(current) if self.budget.admits(self.family.cost(s))]
                better = min(steps, key=self.loss)
                if self.loss(better) >= loss:
                    break
                current, loss = better, self.loss(better)
            found.append(loss)
        return min(found)


def searched(world: World, name: str, seed: int, trials: int, options: dict[str, Any]) -> tuple[list[Trial], float]:
    """The trials of one search, and the seconds that it took to suggest them."""
    made = Mutating if name == "mutation" else find_plugin("strategies", PLUGINS[name])
    strategy = made(objective=OBJECTIVE, budget=world.budget, seed=seed, **options)
    search = Search(strategy, world.space, world.family, experiment=f"{name}-{seed}")
    seconds = 0.0
    while len(search.own) < trials:
        began = time.process_time()
        asked = search.ask(1)
        seconds += time.process_time() - began
        if not asked:
            break
        settings = {k.removeprefix("run."): v for k, v in search.parameters(asked[0]).items() if k.startswith("run.")}
        metrics = dict[str, float]()
        for metric, value in world.trained(asked[0].architecture).items():
            metrics[metric] = value
            if value > float(settings.get(f"stop.{metric}", math.inf)):
                break
        search.tell(asked[0].id, {**metrics, **standing(settings)})
    return search.own, seconds


def run(world: World, name: str, seed: int, trials: int, options: dict[str, Any]) -> dict[str, Any]:
    own, seconds = searched(world, name, seed, trials, options)
    best, chosen, regrets = world.best(), None, []
    for trial in own:
        score = OBJECTIVE.score(trial.metrics)
        if score is not None and (chosen is None or score > OBJECTIVE.score(chosen.metrics)):
            chosen = trial
        regrets.append(math.inf if chosen is None else 100 * (world.loss(chosen.architecture) / best - 1))
    by_hand = min(world.loss(trial.architecture) for trial in own if trial.origin.kind == BY_HAND)
    of_kind = [i for i, trial in enumerate(own, 1) if world.is_of_kind(trial.architecture)]
    done = [100 if "loss" in t.metrics else max(at for at in RUNGS if f"loss@{at}" in t.metrics) for t in own]
    return {
        "regrets": regrets,
        "kind_found": of_kind[0] if of_kind else None,
        "ahead": 100 * (1 - world.loss(chosen.architecture) / by_hand) if chosen else None,
        "trained": sum(done) / 100,
        "kinds": [trial.origin.kind for trial in own],
        "seconds": seconds / len(own),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default="guided,evolution,random")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--halving", type=float)
    parser.add_argument("--guided", type=json.loads, default={}, help="options of DiffusionGuided, as JSON")
    parser.add_argument("--journal", type=Path, help="JSONL of searches that have ended")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    family = UNetFamily("pixels16")
    budget = Budget({"macs": Window(max=family.cost(family.default).macs / 2)})
    journal = None if given.journal is None else Journal(given.journal)
    marks = sorted({min(mark, given.trials) for mark in MARKS})
    rows, results = [], {}
    for name in given.strategies.split(","):
        options = {**(given.guided if name in ("guided", "mutation") else {}), "halving": given.halving}
        runs = []
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            what = {"strategy": name, "seed": seed, "trials": given.trials, "options": options}

            def make(what: dict[str, Any] = what) -> dict[str, Any]:
                world = World(family, budget, what["seed"])
                return {**what, **run(world, what["strategy"], what["seed"], what["trials"], what["options"])}

            made = make() if journal is None else journal.once(fingerprint(what), make)
            runs.append(made)
            print(f"{name} {seed}: kind {made['kind_found']}, {made['regrets'][-1]:.2f} %", file=sys.stderr, flush=True)
        regrets = np.array([[r["regrets"][min(m, len(r["regrets"])) - 1] for m in marks] for r in runs])
        found = np.array([r["kind_found"] or math.inf for r in runs])
        ahead = np.array([r["ahead"] for r in runs])
        error = len(runs) ** -0.5
        results[name] = {"runs": runs}
        rows.append(
            [
                name,
                f"{np.median(found):g}",
                f"{np.isfinite(found).sum()}/{len(found)}",
                *(f"{m:.2f} +- {s * error:.2f}" for m, s in zip(regrets.mean(0), regrets.std(0), strict=True)),
                f"{ahead.mean():.2f} +- {ahead.std() * error:.2f}",
                float(np.mean([r["trained"] for r in runs])),
                float(np.mean([r["seconds"] for r in runs])),
            ]
        )
    columns = ["strategy", "median to kind", "found", *(f"regret@{m} %" for m in marks), "ahead of hand %"]
    report([*columns, "trainings", "CPU s/suggestion"], rows, {"benchmark": "kinds", "halving": given.halving})


if __name__ == "__main__":
    main()
