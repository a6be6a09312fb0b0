"""What a UNet's loss on the way of its training says of how it ends: rank correlations over networks trained once.

    python benchmarks/rungs.py

Over the random networks of ``journals/unet_table.jsonl`` (see ``unet_table.py``). Kendall's tau with a 95 % interval, a
bootstrap over networks, of what is known on the way with what the same training ends with: its held-out loss, and its
distance; in all networks, in those whose MACs lie within 3 % of one another, and without the worst quarter. All are of
one training, so that this is what `halving` has to know, and not how another training of the network would end.

``kept``: where the best network stands at the rung, as the part of all networks that are ahead of it or are it: a
halving by eta keeps it if that is at most 1 / eta.

Then `halving` itself, over ``--draws`` of ``--trials`` networks, in turn: how much of the training it takes, how far
the loss of its best lies above that of the best of the same networks trained to their end, and how often it is the
same one.

At last, of the networks that ``journals/pays.jsonl`` has judged with four seeds or more (see ``pays.py``): how far loss
and distance move with the seed, as the standard deviation of their logarithms, beside that of the random networks; and
how the mean losses rank the mean distances.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pays import JOURNAL as JUDGED
from reporting import report
from scipy.stats import kendalltau
from unet_table import JOURNAL

from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.evaluators.calibration.ranking import Measured, Proxy, agreement
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.halving import Halving, part_of_rung, rung_setting

ENDS = ("held_out_loss", "rfid")
RUNGS = ("held_out_loss@25", "held_out_loss@50", "held_out_loss@75")
SIGNALS = (*RUNGS, "held_out_loss", "loss")
OBJECTIVE = Objective("held_out_loss", "minimize")
WITHIN = 0.03
FEWEST = 4
"""Seeds of a network that was judged."""


def banded(macs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The most networks whose MACs lie within `WITHIN` of one another."""
    inside = [(macs >= least) & (macs <= least * (1 + WITHIN)) for least in np.unique(macs)]
    return max(inside, key=np.count_nonzero)


def halved(eta: float, records: Sequence[Mapping[str, Any]], order: Sequence[int]) -> tuple[float, int]:
    """The part of the training that these networks take, and which is the best of those that come to their end."""
    halving, taken, done, whole = Halving(eta), 0.0, list[Trial](), list[int]()
    for row in order:
        thresholds, found, part = halving.settings(done, OBJECTIVE), dict[str, float](), 1.0
        for rung in RUNGS:
            found[rung] = records[row]["metrics"][rung]
            if found[rung] > float(thresholds.get(rung_setting(rung), math.inf)):
                part = part_of_rung(rung) / 100
                break
        else:
            whole.append(row)
        taken += part / len(order)
        done.append(Trial(str(row), "", {}, Origin("", "random"), "succeeded", found))
    return taken, min(whole, key=lambda row: float(records[row]["metrics"][OBJECTIVE.metric]))


def savings(records: Sequence[Mapping[str, Any]], trials: int, draws: int) -> None:
    """Report what halving by eta takes and misses."""
    losses = np.array([record["metrics"][OBJECTIVE.metric] for record in records])
    rows: list[list[Any]] = []
    for eta in (2.0, 3.0, 4.0):
        rng, parts, behind = np.random.default_rng(0), list[float](), list[float]()
        for _ in range(draws):
            order = rng.permutation(len(records))[:trials].tolist()
            part, best = halved(eta, records, order)
            parts.append(100 * part)
            behind.append(100 * (losses[best] / losses[order].min() - 1))
        same = 100 * float(np.mean(np.array(behind) == 0))
        rows.append([eta, float(np.mean(parts)), same, float(np.mean(behind)), float(np.quantile(behind, 0.95))])
    columns = ["eta", "training, %", "the same winner, %", "behind it, %", "95 % quantile"]
    print(f"\nHalving by the loss, {trials} networks, {draws} draws:")
    report(columns, rows, {"benchmark": "halving", "trials": trials, "columns": columns, "rows": rows})


def judged(journal: Path) -> list[NDArray[np.float64]]:
    """Logarithms ``[seeds, ends]`` of each network that was judged at the length of a trial."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for record in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
        if record["stage"] == "judge" and record["factor"] == 1:
            found[repr(sorted(record["architecture"].items()))].append([record["metrics"][end] for end in ENDS])
    return [np.log(seeds) for seeds in found.values() if len(seeds) >= FEWEST]


def noise(networks: Sequence[NDArray[np.float64]], known: dict[str, NDArray[np.float64]]) -> None:
    """Report how far the ends move with the seed."""
    moved = np.array([seeds.std(axis=0, ddof=1) for seeds in networks])
    means = np.array([seeds.mean(axis=0) for seeds in networks])
    tau = float(kendalltau(means[:, 0], means[:, 1]).statistic)
    rows: list[list[Any]] = []
    for column, end in enumerate(ENDS):
        least, median, most = (100 * float(each) for each in np.quantile(moved[:, column], (0, 0.5, 1)))
        spread = 100 * float(np.log(known[end]).std())
        rows.append([end, len(networks), least, median, most, spread, median / spread])
    columns = [
        "the end",
        "networks",
        "least, %",
        "median, %",
        "most, %",
        "spread of random networks, %",
        "noise / spread",
    ]
    print(f"\nThe mean losses of {len(networks)} judged networks rank their mean distances with tau {tau:.2f}.")
    report(columns, rows, {"benchmark": "noise", "columns": columns, "rows": rows, "tau": tau})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--judged", type=Path, default=JUDGED)
    given = parser.parse_args()
    records = [json.loads(line) for line in given.journal.read_text(encoding="utf-8").splitlines()]
    family = UNetFamily("pixels16")
    networks = tuple(family.space.validate(record["architecture"]) for record in records)
    known = {name: np.array([record["metrics"][name] for record in records]) for name in (*SIGNALS, *ENDS)}
    macs = np.array([family.cost(network).macs for network in networks])
    known |= {"carried (no training)": -np.array([family.promise(network) for network in networks]), "MACs": -macs}
    rows: list[list[Any]] = []
    for end in ENDS:
        proxies = {name: Proxy(name, values[:, None].astype(float), (), 0.0) for name, values in known.items()}
        everyone = Measured(networks, macs, known[end][:, None], (0,), 0.0, proxies)
        parts: dict[str, Callable[[], NDArray[np.bool_]]] = {
            "all": lambda: np.ones(len(macs), dtype=bool),
            "at one cost": lambda: banded(macs),
            "without the worst quarter": lambda end=end: known[end] <= np.quantile(known[end], 0.75),
        }
        for part, chosen in parts.items():
            of = everyone.of(chosen())
            for name, proxy in of.proxies.items():
                if name == end:
                    continue
                found = agreement(proxy, of)
                best = proxy.values[int(np.argmin(of.reference[:, 0])), 0]
                kept = float(np.mean(proxy.values[:, 0] <= best))
                interval = f"{found.low:.2f} to {found.high:.2f}"
                rows.append([end, part, len(of.macs), name, found.tau, interval, kept])
    columns = ["the end", "networks", "number", "known", "tau", "95 % interval", "kept"]
    report(columns, rows, {"benchmark": "rungs", "columns": columns, "rows": rows})
    savings(records, given.trials, given.draws)
    noise(judged(given.judged), known)


if __name__ == "__main__":
    main()
