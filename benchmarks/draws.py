"""Seconds of one core for 10,000 architectures of the UNet space within a budget, with their cost.

    python benchmarks/draws.py --preset cifar10

The windows on MACs lie around the median and admit the stated share of the space. ``all`` takes whatever a draw admits
(`draws_within`), ``one by one`` asks for each anew, as strategies do (`sample_within`); both price each again.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

import numpy as np
from reporting import report

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.family import draws_within, sample_within
from nni_diffnas.api.space import Architecture
from nni_diffnas.search_spaces import UNetFamily


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="cifar10")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.01], help="of the space within budget")
    parser.add_argument("--networks", type=int, default=1000, help="so many are drawn; seconds are for 10,000")
    arguments = parser.parse_args()
    family = UNetFamily(arguments.preset)
    rng = np.random.default_rng(0)
    macs = family.costs(family.space, family.space.draw(20_000, rng))["macs"]
    rows, results = [], []
    for share in arguments.shares:
        low, high = np.quantile(macs, [0.5 - share / 2, 0.5 + share / 2])
        budget = Budget({"macs": Window(float(low), float(high))})

        def one_by_one(budget: Budget = budget) -> Iterator[Architecture]:
            while True:
                yield sample_within(family, budget, rng)

        seconds = {}
        for name, drawn in (("all", draws_within(family, budget, rng, 10**9)), ("one by one", one_by_one())):
            used = time.process_time()
            costs = [family.cost(each) for each in itertools.islice(drawn, arguments.networks)]
            seconds[name] = (time.process_time() - used) / len(costs) * 10_000
            assert all(budget.admits(cost) for cost in costs)
        rows.append([f"{share:.0%}", *seconds.values()])
        results.append({"share": share, "cpu_seconds": seconds})
    body = {"benchmark": "draws", "preset": arguments.preset, "space": family.space.size, "results": results}
    report(["within budget", "all: CPU s", "one by one: CPU s"], rows, body)


if __name__ == "__main__":
    main()
