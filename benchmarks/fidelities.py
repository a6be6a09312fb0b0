"""Full trainings that finding the best entry of a table takes, where networks can also be trained briefly.

    python benchmarks/fidelities.py --table FILE [--dataset NAME] --brief valid_12 --part 0.06 --seeds 20 --journal FILE

A network that is trained briefly costs ``--part`` of a full training, one that is trained fully costs 1, also where it
was trained briefly before (a brief training of NAS-Bench-201 has a schedule of its own, so that none is the beginning
of the other). ``guided`` is `DiffusionGuided` with ``promote``, and as much spent on the one as on the other. Without a
surrogate: ``by-hand-params`` and ``by-hand-flow`` train those ``--by-hand`` networks briefly that have the most
parameters, or the largest analytic flow, and then fully what was best; ``random`` draws networks where ``guided``
chooses them, and trains fully the best that waits.

Printed: equivalents of full trainings until the best entry had been trained fully, and how many of the trainings were
full ones. ``--journal`` keeps every search that has ended, so that a study that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report
from tabular import flow_order, score

from nni_diffnas.api.trial import UNRANKED, Objective
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.search_spaces import TableFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.table import Table, load_table

Trainings = Iterator[tuple[int, bool]]
"""Rows of a table, and whether they were trained fully."""

OBJECTIVE = Objective("loss", "minimize")
RUNG = "loss@6"
"""The metric that a brief training measures: less is better."""


def brief_losses(table: Table, given: argparse.Namespace) -> np.ndarray:
    column = table.column(given.brief)
    return -column if table.maximize else column


def guided(table: Table, seed: int, given: argparse.Namespace) -> Trainings:
    eta = round(1 / given.part)
    options = {"halving": eta, "promote": True, **given.guided}
    strategy = DiffusionGuided(objective=OBJECTIVE, seed=seed, train_first="none", **options)
    search, brief = Search(strategy, table.space, TableFamily.of(table)), brief_losses(table, given)
    while asked := search.ask(1):
        (trial,) = asked
        row = table.row(trial.architecture)
        loss = None if row is None else score(table, row)
        if row is None or loss is None:
            search.tell_failed(trial.id, "the table has no such row")
            continue
        rung = float(brief[row])
        if rung > float(search.parameters(trial).get(f"run.stop.{RUNG}", math.inf)):
            yield row, False
            search.tell(trial.id, {RUNG: rung, UNRANKED: 1.0})
        else:
            yield row, True
            search.tell(trial.id, {RUNG: rung, OBJECTIVE.metric: -loss})


def by_hand(order: Callable[[Table], np.ndarray]) -> Callable[[Table, int, argparse.Namespace], Trainings]:
    def trainings(table: Table, seed: int, given: argparse.Namespace) -> Trainings:
        ties, brief = np.random.default_rng(seed).permutation(len(table.choices)), brief_losses(table, given)
        tried = np.lexsort((ties, -np.round(order(table), 6)))[: given.by_hand]
        yield from ((int(row), False) for row in tried)
        yield from ((int(row), True) for row in tried[np.argsort(brief[tried], kind="stable")])

    return trainings


def random(table: Table, seed: int, given: argparse.Namespace) -> Trainings:
    brief, eta, waiting = brief_losses(table, given), round(1 / given.part), list[int]()
    for number, row in enumerate(np.random.default_rng(seed).permutation(len(table.choices)).tolist(), start=1):
        yield row, False
        waiting.append(row)
        if number % eta == 0:
            best = min(waiting, key=lambda each: float(brief[each]))
            waiting.remove(best)
            yield best, True


WAYS: dict[str, Callable[[Table, int, argparse.Namespace], Trainings]] = {
    "guided": guided,
    "by-hand-params": by_hand(lambda table: table.costs["params"]),
    "by-hand-flow": by_hand(flow_order),
    "random": random,
}


def run(table: Table, way: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One search: what it had spent when the best entry was trained fully, and its regret with every full training."""
    best, briefly, fully, incumbent = score(table, table.best), set[int](), 0, -math.inf
    assert best is not None
    began, found, regrets = time.process_time(), None, []
    for row, whole in WAYS[way](table, seed, given):
        if whole:
            fully += 1
            incumbent = max(incumbent, score(table, row) or -math.inf)
            regrets.append([given.part * len(briefly) + fully, best - incumbent])
        else:
            briefly.add(row)
        spent = given.part * len(briefly) + fully
        if spent > given.equivalents:
            break
        if incumbent >= best:
            found = spent
            break
    return {"found": found, "regrets": regrets, "briefly": len(briefly), "fully": fully,
            "seconds": time.process_time() - began}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--strategies", default="guided,by-hand-params,by-hand-flow,random")
    parser.add_argument("--brief", default="valid_12", help="metric of a brief training")
    parser.add_argument("--part", type=float, default=0.06, help="of a full training that a brief one costs")
    parser.add_argument("--by-hand", type=int, default=150, help="networks that are trained briefly by hand")
    parser.add_argument("--equivalents", type=float, default=30)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--guided", type=json.loads, default={}, help="options of DiffusionGuided, as JSON")
    parser.add_argument("--journal", type=Path, help="JSONL of searches that have ended")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    table = load_table(given.table, given.dataset)
    journal = None if given.journal is None else Journal(given.journal)
    rows, results = [], {}
    for name in given.strategies.split(","):
        runs = []
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            what = {"fidelities": given.table.name, "dataset": given.dataset, "strategy": name, "seed": seed,
                    "brief": given.brief, "part": given.part, "equivalents": given.equivalents}  # fmt: skip
            what |= {"options": given.guided} if name == "guided" else {"by_hand": given.by_hand}

            def make(what: dict[str, Any] = what) -> dict[str, Any]:
                return {**what, **run(table, what["strategy"], what["seed"], given)}

            runs.append(make() if journal is None else dict(journal.once(fingerprint(what), make)))
            print(f"{name} {seed}: {runs[-1]['found']} in {runs[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
        found = np.array([r["found"] or math.inf for r in runs])
        quartiles = np.quantile(np.minimum(found, 1e9), (0.25, 0.5, 0.75))
        results[name] = {"found": [r["found"] for r in runs], "runs": runs}
        said = [f"{q:.3g}" if q <= given.equivalents else f">{given.equivalents:g}" for q in quartiles]
        counts = [float(np.median([r[kind] for r in runs])) for kind in ("fully", "briefly")]
        rows.append([name, said[1], f"{said[0]} - {said[2]}", f"{np.isfinite(found).sum()}/{len(found)}", *counts])
    columns = ["strategy", "median equivalents", "quartiles", "found", "full", "brief"]
    report(columns, rows, {"benchmark": "fidelities", "table": given.table.name, "dataset": given.dataset,
                           "part": given.part, "results": results})  # fmt: skip


if __name__ == "__main__":
    main()
