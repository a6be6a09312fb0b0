"""What the prior, the surrogate and the generator each contribute to a guided search, as a picture with intervals.

    python benchmarks/ablation.py --journal benchmarks/journals/tabular.jsonl --output ablation.png

Reads the searches that ``tabular.py --journal`` has kept, for each data set the seeds that all parts of the ablation
have in common: the whole method; started at random instead of by the prior; with candidates mutated instead of
generated; all rows in the order of the analytic flow, which is the prior without a surrogate; random search. Medians of
the evaluations until the best entry was found, with 90 % intervals (10,000 resamples of the seeds).
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt
from reporting import report

Runs = dict[int, dict[str, Any]]
"""Seed to the search that was kept."""

ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("guided", {"strength": 5}),
    "without prior": ("guided", {"starts": "random", "strength": 5}),
    "without generator": ("mutation", {}),
    "without surrogate": ("flow", {}),
    "random": ("random", {}),
}
"""Part of the ablation to the strategy of ``tabular.py`` and its options."""


def kept(journal: Path, evaluations: int) -> dict[str, dict[str, Runs]]:
    """Data set to part of the ablation to searches; those that were turned round or were shorter do not count."""
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line.strip()]
    found: dict[str, dict[str, Runs]] = {}
    for line in lines:
        if line.get("flip") or line.get("evaluations", 0) < evaluations:
            continue
        for name, arm in ARMS.items():
            if arm == (line.get("strategy"), line.get("options")):
                found.setdefault(str(line["dataset"]), {}).setdefault(name, {})[line["seed"]] = line
    return found


def interval(found: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Median, and 5 and 95 % of the medians of resamples; infinity where it was not found."""
    medians = np.median(rng.choice(found, (10_000, len(found))), axis=1)
    low, high = np.quantile(medians, (0.05, 0.95), method="nearest")
    return float(np.median(found)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--evaluations", type=int, default=60, help="of each search; later ones do not count")
    parser.add_argument("--output", type=Path, help="picture")
    given = parser.parse_args()
    datasets, rng = kept(given.journal, given.evaluations), np.random.default_rng(0)
    if not datasets:
        parser.error(
            f"{given.journal} keeps no search of {given.evaluations} evaluations: run tabular.py --journal first"
        )
    figure, panels = plt.subplots(1, len(datasets), figsize=(5 * len(datasets), 2.6), squeeze=False, sharey=True)
    rows, body = [], {}
    for axes, (dataset, arms) in zip(panels[0], sorted(datasets.items()), strict=True):
        seeds = sorted(set.intersection(*(set(runs) for runs in arms.values())))
        names = [name for name in ARMS if name in arms]
        for at, name in enumerate(names):
            found = np.array([arms[name][seed]["found"] or math.inf for seed in seeds], dtype=np.float64)
            found[found > given.evaluations] = math.inf
            median, low, high = interval(found, rng)
            count = f"{np.isfinite(found).sum()}/{len(found)}"
            said = [f"{v:g}" if math.isfinite(v) else f">{given.evaluations}" for v in (median, low, high)]
            rows.append([dataset, name, said[0], f"{said[1]} - {said[2]}", count])
            body[f"{dataset} {name}"] = {"median": said[0], "interval": said[1:], "found": count, "seeds": seeds}
            end = given.evaluations * 1.04
            axes.plot([min(low, end), min(high, end)], [at, at], color="#225588", linewidth=2)
            marker = "o" if math.isfinite(median) else ">"
            axes.plot(min(median, end), at, marker, color="#225588")
            axes.text(given.evaluations * 1.1, at, count, va="center", fontsize=8)
        axes.set(xlim=(0, given.evaluations * 1.25), yticks=range(len(names)), yticklabels=names,
                 xlabel="evaluations to the best entry", title=f"{dataset}, {len(seeds)} seeds")  # fmt: skip
    panels[0][0].set_ylim(len(ARMS) - 0.5, -0.5)
    figure.tight_layout()
    if given.output:
        figure.savefig(given.output, dpi=90)
    columns = ["data set", "part", "median", "90 % interval", f"found within {given.evaluations}"]
    report(columns, rows, {"benchmark": "ablation", "results": body})


if __name__ == "__main__":
    main()
