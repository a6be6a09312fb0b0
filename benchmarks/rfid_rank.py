"""Whether a rapid FID ranks networks as a ten times longer training with many more samples does.

    python benchmarks/rfid_rank.py --folder FOLDER

UNets of the ``digits`` preset at half of its widths on scikit-learn's digits: half of them with nearly the same MACs,
half over a tenfold range, and the default network. Every finished training is kept in FOLDER, so that a killed
benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from reporting import report
from scipy.stats import t

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.space import Architecture
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.findings import compare
from nni_diffnas.evaluators.calibration.measurements import (
    REFERENCE_SEED,
    Journal,
    Run,
    Sampling,
    measure,
    spread_over,
    within,
)
from nni_diffnas.evaluators.calibration.plot import draw
from nni_diffnas.evaluators.calibration.ranking import Measured, noise, read
from nni_diffnas.plugins import find_plugin

SMALL = {"base_width": 8, "width_multiple": 4, "norm_groups": 4}
"""Networks so small that two cores can train them until their capacity shows."""


def trainings(network: Architecture, seed: int, arguments: argparse.Namespace) -> list[Run]:
    """The protocol under test, of several lengths for the first seed, and the reference."""
    brief = (Sampling(10, (125, 250, 500, 1000) if seed == 0 else (125, 250, 500)), Sampling(5, (500,)))
    runs = [Run(network, seed, factor, brief) for factor in (arguments.factors if seed == 0 else [1.0])]
    reference = Run(network, REFERENCE_SEED + seed, arguments.longer, (Sampling(10, (250, 500, 1000, 2000)),), curve=3)
    return [*runs, reference]


def better(measured: Measured, default: int) -> list[tuple[float, ...]]:
    """MACs, distance and difference from the default, with 95 % interval, of networks that cost no more; best first.

    The interval is that of Student's t with the noise pooled over all networks; it knows nothing of having chosen.
    """
    own, columns = noise(measured.reference), measured.reference.shape[1]
    complete = np.isfinite(measured.reference).all(axis=1)
    freedom = (complete.sum() - 1) * (columns - 1)
    half = float(t.ppf(0.975, freedom)) * own.common_seeds * math.sqrt(2 / columns) if freedom else math.nan
    means = measured.reference.mean(axis=1)
    rows = []
    for row in np.argsort(means):
        if complete[row] and measured.macs[row] <= measured.macs[default]:
            gain = float(means[default] - means[row])
            rows.append((measured.macs[row] / 1e6, float(means[row]), gain, gain - half, gain + half))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="keeps the results")
    parser.add_argument("--images", type=int, default=6000, help="that the protocol under test trains on")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of all trainings")
    parser.add_argument("--batch-size", type=int, default=32, help="of all trainings")
    parser.add_argument("--space", type=json.loads, default=SMALL, help="JSON: changes to the preset")
    parser.add_argument("--longer", type=float, default=10.0, help="training of the reference, relative to --images")
    parser.add_argument("--band", type=float, default=4e5, help="MACs of half of the networks, +-10 %%")
    parser.add_argument("--range", type=float, nargs=2, default=(1.7e5, 1.7e6), help="MACs of the others")
    parser.add_argument("--networks", type=int, default=16, help="in each half")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 2.0], help="lengths of it, first seed")
    parser.add_argument("--only-report", action="store_true", help="of what is finished")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()

    family = find_plugin("spaces", "unet")(preset="digits", **arguments.space)
    training = {
        "images": arguments.images, "learning_rate": arguments.learning_rate, "batch_size": arguments.batch_size
    }  # fmt: skip
    evaluation = DiffusionEvaluation({"source": "digits"}, training=training)
    evaluation.prepare()
    band = within(family, 0.9 * arguments.band, 1.1 * arguments.band, arguments.networks)
    spread = spread_over(family, Budget({"macs": Window(*arguments.range)}), arguments.networks)
    journal = Journal(arguments.folder / "trainings.jsonl")
    # The band first, and two seeds before the third: what is finished early is worth most.
    order = [([*band, family.default], (0, 1)), (spread, (0, 1)), ([*band, *spread, family.default], (2,))]
    wanted = ((seed, networks) for networks, seeds in order for seed in seeds if seed < arguments.seeds)
    runs = [run for seed, networks in wanted for network in networks for run in trainings(network, seed, arguments)]
    for number, result in enumerate([] if arguments.only_report else measure(family, evaluation, runs, journal), 1):
        print(f"{number}/{len(runs)}: {result.get('failure') or result['scores'][-1]}", file=sys.stderr, flush=True)

    measured = read(journal.records.values())
    low, high = 0.9 * arguments.band, 1.1 * arguments.band
    parts = {"band": measured.of((low <= measured.macs) & (measured.macs <= high)), "whole range": measured}
    body: dict[str, Any] = {
        "benchmark": "rfid_rank", "protocol": evaluation.protocol, "longer": arguments.longer, "space": arguments.space
    }  # fmt: skip
    for name, part in parts.items():
        found = compare(part, wanted=0.6 if name == "band" else 0.8)
        print(f"\n{name}\n{found.describe()}")
        spread = noise(part.reference)
        body[name] = {
            "networks": len(part.macs), "seeds": part.seeds, "ceiling": found.ceiling, "rows": found.rows(),
            "reference_noise": spread.common_seeds, "reference_spread": spread.networks,
        }  # fmt: skip
        draw(found, arguments.folder / f"{name.replace(' ', '_')}.png")
    default = [dict(each) == dict(family.default) for each in measured.architectures]
    if any(default):
        rows = better(measured, default.index(True))
        print("\nReference distance, no dearer than the default network:")
        report(["million MACs", "distance", "less than default's", "low", "high"], rows[:10], body)
    else:
        report([], [], body)


if __name__ == "__main__":
    main()
