"""Seconds and memory of one suggestion of `DiffusionGuided` after 10, 100, 1,000 and 2,000 trials.

python benchmarks/suggest_scale.py --trials 10,100,1000,2000 --repeats 3
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings

import numpy as np
from reporting import report

from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
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
        rows.append([trials, f"{np.mean(seconds):.2f} +- {np.std(seconds):.2f}", float(np.mean(cpu)), peak])
        results.append({"trials": trials, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak})
    report(["trials", "seconds", "CPU seconds", "peak MiB"], rows, {"benchmark": "suggest_scale", "results": results})


if __name__ == "__main__":
    main()
