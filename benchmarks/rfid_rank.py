"""Whether a rapid FID ranks networks as a ten times longer training with many more samples does.

    python benchmarks/rfid_rank.py --folder FOLDER

UNets of the ``digits`` preset on scikit-learn's digits: half of them with nearly the same MACs, half over a tenfold
range, and the preset's default network. Every finished training is kept in FOLDER, so that a killed benchmark goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nni_diffnas.cost import Budget, Window
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration import Journal, Run, Sampling, measure, spread_over, within
from nni_diffnas.plugins import find_plugin
from nni_diffnas.space import Architecture

REFERENCE_SEED = 1000
"""First seed of the reference, which shares no random number with the protocols under test."""


def trainings(network: Architecture, seed: int, arguments: argparse.Namespace) -> list[Run]:
    """The protocol under test, at its own and (first seed) the double length, and the reference."""
    brief = (Sampling(10, (125, 250, 500, 1000) if seed == 0 else (125, 250, 500)), Sampling(5, (500,)))
    runs = [Run(network, seed, factor, brief) for factor in ((1.0, 2.0) if seed == 0 else (1.0,))]
    reference = Run(network, REFERENCE_SEED + seed, arguments.longer, (Sampling(10, (250, 500, 1000, 2000)),), curve=3)
    return [*runs, reference]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="keeps the results")
    parser.add_argument("--images", type=int, default=2400, help="that the protocol under test trains on")
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="of all trainings; fits brief ones")
    parser.add_argument("--longer", type=float, default=10.0, help="training of the reference, relative to --images")
    parser.add_argument("--band", type=float, default=1.5e6, help="MACs of half of the networks, +-10 %%")
    parser.add_argument("--range", type=float, nargs=2, default=(6.7e5, 6.7e6), help="MACs of the others")
    parser.add_argument("--networks", type=int, default=16, help="in each half")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()

    family = find_plugin("spaces", "unet")(preset="digits")
    training = {"images": arguments.images, "learning_rate": arguments.learning_rate}
    evaluation = DiffusionEvaluation({"source": "digits"}, training=training)
    evaluation.prepare()
    band = within(family, 0.9 * arguments.band, 1.1 * arguments.band, arguments.networks)
    spread = spread_over(family, Budget({"macs": Window(*arguments.range)}), arguments.networks)
    journal = Journal(arguments.folder / "trainings.jsonl")
    # The band first, and two seeds before the third: what is finished early is worth most.
    order = [([*band, family.default], (0, 1)), (spread, (0, 1)), ([*band, *spread, family.default], (2,))]
    wanted = ((seed, networks) for networks, seeds in order for seed in seeds if seed < arguments.seeds)
    runs = [run for seed, networks in wanted for network in networks for run in trainings(network, seed, arguments)]
    for number, result in enumerate(measure(family, evaluation, runs, journal), start=1):
        print(f"{number}/{len(runs)}: {result.get('failure') or result['scores'][-1]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
