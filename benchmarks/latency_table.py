"""How well the additive latency table ranks networks: Spearman correlation with whole-network timing.

Run it on a quiet machine: ``python benchmarks/latency_table.py --preset digits``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from nni_diffnas.latency import LatencyTable, device_name, measure_latency
from nni_diffnas.search_spaces import UNetFamily


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="digits", help="preset of the UNet space")
    parser.add_argument("--networks", type=int, default=50, help="random networks to compare")
    parser.add_argument("--batch", type=int, default=1, help="images per forward pass")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads to pin torch to")
    parser.add_argument("--device", default="cpu", help="torch device to time on")
    parser.add_argument("--repeats", type=int, default=15, help="timed passes of each layer and network")
    parser.add_argument("--rounds", type=int, default=3, help="times that every network is built and timed anew")
    parser.add_argument("--seed", type=int, default=0, help="of the random networks")
    parser.add_argument("--table", type=Path, help="JSON file to keep the table in")
    arguments = parser.parse_args()

    family = UNetFamily(arguments.preset)
    side, channels = family.options.sample_size, family.options.in_channels
    settings = {"batch": arguments.batch, "threads": arguments.threads, "repeats": arguments.repeats}
    table = LatencyTable(arguments.table, device=arguments.device, **settings)
    rng = np.random.default_rng(arguments.seed)
    image = torch.randn(arguments.batch, channels, side, side, device=arguments.device)
    step = torch.zeros(arguments.batch, device=arguments.device)
    architectures = [family.space.sample(rng) for _ in range(arguments.networks)]
    macs = np.array([family.cost(architecture).macs for architecture in architectures])
    started = time.perf_counter()
    estimates = np.array([table.estimate(family.parts(architecture)) for architecture in architectures])
    table_seconds = time.perf_counter() - started
    # Rounds over all networks: a slow minute of the machine then touches every network alike.
    rounds = np.zeros((arguments.rounds, arguments.networks))
    for row in rounds:
        for index, architecture in enumerate(architectures):
            network = family.build(architecture).to(arguments.device)
            timing = measure_latency(
                network, image, step, warmup=3, repeats=arguments.repeats, threads=arguments.threads
            )
            row[index] = timing.median_ms
    truth = np.median(rounds, axis=0)
    print(f"{'MMACs':>10} {'table ms':>10} {'measured ms':>12} {'worst ms':>10}")
    for order in np.argsort(truth):
        worst = rounds[:, order].max()
        print(f"{macs[order] / 1e6:10.1f} {estimates[order]:10.3f} {truth[order]:12.3f} {worst:10.3f}")
    summary = {
        "benchmark": "latency_table",
        "preset": arguments.preset,
        "networks": arguments.networks,
        "rounds": arguments.rounds,
        "device": device_name(arguments.device),
        **settings,
        "spearman_table": round(float(spearmanr(estimates, truth)[0]), 4),
        "spearman_macs": round(float(spearmanr(macs, truth)[0]), 4),
        "median_ratio": round(float(np.median(estimates / truth)), 3),
        "layers_timed": len(table.entries),
        "table_seconds": round(table_seconds, 2),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
