"""Seconds and memory of one suggestion of `DiffusionGuided` after 10, 100, 1,000 and 2,000 trials.

    python benchmarks/suggest_scale.py --trials 10,100,1000,2000 --repeats 3

And CPU seconds of the acquisition function, with its gradient, of 48 architectures: each as a batch of its own, as
BoTorch takes them, and all at once. A suggestion asks for that some twenty times.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from reporting import report

from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.acquisition import Acquisition, fit_models


def acquisition_seconds(strategy: DiffusionGuided) -> tuple[float, float]:
    """CPU seconds of 48 architectures: one by one, and at once."""
    from botorch.acquisition.analytic import LogExpectedImprovement

    scored = strategy.observations.scored
    known = strategy.observations.known(scored, [])
    model = fit_models(strategy.features, known, "gp", 0)[0]
    at_once = Acquisition(strategy.features, known, [model], 0)
    one_by_one = LogExpectedImprovement(model.requires_grad_(False), best_f=0.0)
    encoding = strategy.generator.encoding
    p = encoding.one_hot(encoding.sample(48, np.random.default_rng(1)))

    def seconds(values: Callable[[torch.Tensor], torch.Tensor]) -> float:
        leaf, used = p.clone().requires_grad_(True), time.process_time()
        torch.autograd.grad(values(leaf).sum(), leaf)
        return time.process_time() - used

    ways = (lambda leaf: one_by_one(strategy.features.inputs(leaf)[:, None]), at_once)
    first, second = (min(seconds(way) for _ in range(2)) for way in ways)  # the first call factorises the trials
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", default="10,100,1000,2000")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    family, rng = UNetFamily("cifar10"), np.random.default_rng(0)
    weights = rng.normal(size=family.space.shape)
    rows, results = [], []
    for trials in map(int, arguments.trials.split(",")):
        strategy = DiffusionGuided(objective=Objective("score", "maximize"), train_first="none")
        warm = []
        for i in range(trials):
            architecture = family.space.sample(rng)
            score = float((family.space.encode([architecture])[0] * weights).sum() + 0.1 * rng.normal())
            origin = Origin("RandomSearch", "random")
            trial = Trial(f"warm-{i}", "warm", architecture, origin, status="succeeded", metrics={"score": score})
            warm.append(trial)
        search = Search(strategy, family.space, family)
        search.restore(warm, {})
        seconds, cpu = [], []
        for _ in range(arguments.repeats):
            started, used = time.monotonic(), time.process_time()
            strategy.suggest(1)
            seconds.append(time.monotonic() - started)
            cpu.append(time.process_time() - used)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        each, at_once = acquisition_seconds(strategy)
        rows.append(
            [trials, f"{np.mean(seconds):.2f} +- {np.std(seconds):.2f}", float(np.mean(cpu)), peak, each, at_once]
        )
        results.append({"trials": trials, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak,
                        "acquisition_one_by_one": each, "acquisition_at_once": at_once})  # fmt: skip
    report(
        ["trials", "seconds", "CPU seconds", "peak MiB", "one by one", "at once"],
        rows,
        {"benchmark": "suggest_scale", "results": results},
    )


if __name__ == "__main__":
    main()
