"""The generator: validity, uniqueness, novelty, label statistics and seconds; the in-window rate that guidance buys.

    python benchmarks/generator.py --networks 1000 --training-steps 200

NAS-Bench-201 is trained on a random half of its cells, MobileNetV3 and the UNets on fresh draws of their spaces.
Statistics of so many networks are means over five draws. A uniform sampler of the same space, 200 times, gives the mean
and standard deviation of one draw beside them. Seconds are of one core's CPU: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reporting import report

from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.search_spaces import MobileNetV3Family, NASBench201Family, TableFamily, UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.cost_model import CostModel
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.features import Features
from nni_diffnas.strategies.guided.generator import Generator
from nni_diffnas.strategies.guided.guidance import towards_window
from nni_diffnas.table import load_table

Indices = NDArray[np.int64]

DRAWS = 5


def pairs(encoding: Encoding, indices: Indices) -> torch.Tensor:
    """Frequencies of pairs of values."""
    flat = encoding.one_hot(indices).flatten(1)
    return flat.T @ flat / len(flat)


def statistics(encoding: Encoding, indices: Indices, data: Indices | None, wanted: torch.Tensor) -> dict[str, float]:
    """Uniqueness and novelty in %, and the root mean square error of the frequencies of pairs of values."""
    found = {"unique": 100 * len(np.unique(indices, axis=0)) / len(indices)}
    if data is not None:
        known = set(map(tuple, data.tolist()))
        found["novel"] = 100 * float(np.mean([tuple(row) not in known for row in indices.tolist()]))
    found["pairs"] = float((pairs(encoding, indices) - wanted).square().mean().sqrt())
    return found


def quality(name: str, generator: Generator, data: Indices | None, networks: int, steps: int) -> dict[str, Any]:
    encoding = generator.encoding
    cpu = time.process_time()
    generator.train(steps, data=data)
    trained = time.process_time() - cpu
    wanted = pairs(encoding, encoding.sample(200_000, np.random.default_rng(1)))
    drawn: dict[str, list[float]] = {"valid": [], "raw": []}
    cpu = time.process_time()
    matrices = [generator.sample(networks, torch.Generator().manual_seed(seed)) for seed in range(DRAWS)]
    seconds = (time.process_time() - cpu) / (DRAWS * networks)
    for matrix in matrices:
        indices, valid = encoding.decode(matrix)
        found = {"valid": 100 * float(valid.mean()), "raw": 100 * float(encoding.raw_valid(matrix).mean())}
        for key, value in {**found, **statistics(encoding, indices[valid], data, wanted)}.items():
            drawn.setdefault(key, []).append(value)
    ours = {key: float(np.mean(values)) for key, values in drawn.items()}
    rng = np.random.default_rng(0)
    uniform = [statistics(encoding, encoding.sample(networks, rng), data, wanted) for _ in range(200)]
    spread = {k: (float(np.mean([u[k] for u in uniform])), float(np.std([u[k] for u in uniform]))) for k in uniform[0]}
    return {
        "space": name, "valid": ours.pop("valid"), "raw": ours.pop("raw"), "draws": DRAWS,
        "training_cpu_seconds": trained, "cpu_seconds_per_network": seconds,
        "statistics": ours, "uniform": spread,
    }  # fmt: skip


def window(networks: int, steps: int) -> dict[str, Any]:
    """In-window rate for +-5 % around the MACs of the CIFAR-10 default, guided and uniform."""
    family = UNetFamily("cifar10")
    generator = Generator(family.space)
    generator.train(steps)
    encoding = generator.encoding
    model = CostModel(Features(encoding), family, ["macs"])
    middle = family.cost(family.default).macs

    def admits(indices: Indices) -> NDArray[np.bool_]:
        costs = np.array([family.cost(a).macs for a in encoding.architectures(indices)], dtype=float)
        return np.abs(costs / middle - 1) <= 0.05

    def macs(p: torch.Tensor) -> torch.Tensor:
        return model.log("macs", p)

    tilt = towards_window(macs, float(np.log(0.95 * middle)), float(np.log(1.05 * middle)))
    rates = {}
    seconds = {}
    for name, rounds in (("guided", 0), ("guided with restarts", 12)):
        cpu = time.process_time()
        noise = torch.Generator().manual_seed(0)
        indices, valid = generator.within(networks, noise, admits, rounds=rounds, tilt=tilt, steps=8)
        rates[name] = 100 * float(admits(indices[valid]).sum() / networks)
        seconds[name] = (time.process_time() - cpu) / networks
    rates["uniform"] = 100 * float(admits(encoding.sample(networks, np.random.default_rng(0))).mean())
    return {"window": "+-5 % of 8.39 GMACs", "in_window": rates, "cpu_seconds_per_network": seconds}


def suggestions(
    path: Path, dataset: str | None, seeds: int, count: int, options: dict[str, Any], observations: int = 50
) -> dict[str, Any]:
    """Mean objective of a batch of suggestions after random observations, and of as many uniform draws."""
    table = load_table(path, dataset)
    column = table.column(table.objective)
    means: dict[str, list[float]] = {"guided": [], "uniform": []}
    for seed in range(100, 100 + seeds):
        objective = Objective("score", "maximize" if table.maximize else "minimize")
        strategy = DiffusionGuided(objective=objective, seed=seed, train_first="none", **options)
        drawn = np.random.default_rng(seed).choice(len(column), observations + count, replace=False)
        known = [table.architecture(int(row)) for row in drawn[:observations]]
        trials = [
            Trial(f"t{i}", "e", a, Origin("RandomSearch", "random"), "succeeded", {"score": float(column[row])})
            for i, (a, row) in enumerate(zip(known, drawn, strict=False))
        ]
        search = Search(strategy, table.space, TableFamily.of(table))
        search.restore(trials, {})
        rows = [table.row(trial.architecture) for trial in search.ask(count)]
        means["guided"].append(float(np.mean([column[row] for row in rows if row is not None])))
        means["uniform"].append(float(column[drawn[observations:]].mean()))
    about = {"observations": observations, "count": count, "options": options}
    return {"objective": table.objective, **about, "mean": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--training-steps", type=int, default=200)
    parser.add_argument("--table", type=Path, help="npz file: also measure suggestions after 50 observations on it")
    parser.add_argument("--dataset")
    parser.add_argument("--seeds", type=int, default=3, help="of the suggestions")
    parser.add_argument("--suggestions", type=int, default=100, help="how many, after 50 observations")
    parser.add_argument("--guided", type=json.loads, default={}, help="options of DiffusionGuided, as JSON")
    parser.add_argument("--only-suggestions", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    bought_by_learning: dict[str, Any] = {}
    if arguments.table:
        bought_by_learning = suggestions(
            arguments.table, arguments.dataset, arguments.seeds, arguments.suggestions, arguments.guided
        )
        for name, means in bought_by_learning["mean"].items():
            spread = f"{np.mean(means):.3f} +- {np.std(means):.3f}"
            print(f"{arguments.suggestions} suggestions after 50 observations, {name}: {spread}")
    if arguments.only_suggestions:
        report([], [], {"benchmark": "generator", "suggestions": bought_by_learning})
        return
    torch.set_num_threads(1)
    results = []
    for name, space, half in (
        ("nasbench201", NASBench201Family().space, True),
        ("mobilenetv3", MobileNetV3Family().space, False),
        ("unet cifar10", UNetFamily("cifar10").space, False),
    ):
        generator, data = Generator(space), None
        if half:
            cells = np.stack(np.unravel_index(np.arange(space.size), generator.encoding.sizes), axis=1)
            data = cells[np.random.default_rng(0).permutation(len(cells))[: len(cells) // 2]]
        results.append(quality(name, generator, data, arguments.networks, arguments.training_steps))
    bought = window(arguments.networks, arguments.training_steps)
    rows = []
    for r in results:
        texts = []
        for name in ("unique", "novel", "pairs"):
            if name in r["statistics"]:
                mean, deviation = r["uniform"][name]
                texts.append(f"{r['statistics'][name]:.3g} ({mean:.3g} +- {deviation:.2g})")
            else:
                texts.append("-")
        rows.append([r["space"], r["valid"], r["raw"], *texts, r["training_cpu_seconds"], r["cpu_seconds_per_network"]])
    for name, rate in bought["in_window"].items():
        print(f"In window, {name}: {rate:.1f} %, {bought['cpu_seconds_per_network'].get(name, 0):.3f} CPU s/network")
    body = {"benchmark": "generator", "results": results, "suggestions": bought_by_learning, **bought}
    columns = ["space", "valid %", "raw %", "unique % (uniform)", "novel % (uniform)", "pairs rms (uniform)"]
    report([*columns, "training CPU s", "CPU s/network"], rows, body)


if __name__ == "__main__":
    main()
