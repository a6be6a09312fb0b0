"""Regret of strategies on a table of trained UNets, from which they choose: guided search, evolution, random, plain GP.

    python benchmarks/unet_regret.py --table benchmarks/data/unets_cifar10_16.npz --seeds 20 --journal FILE

The table is that of ``unet_table.py``: few networks of a large space, all within the budget, so that nothing can be
generated. ``guided`` is `DiffusionGuided` with its prior and its surrogate, whose candidates are all rows that are
left; ``spread`` is the same without the prior; ``evolution`` takes for each child the row that is left and differs
from it in the fewest choices; ``gp`` is the plain BoTorch GP of ``tabular.py``. Regret is by how many per cent the best
objective so far lies above the best of the table. All losses were measured once, so that what is best is partly luck.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report
from tabular import gp_search, score

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Objective
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided, RegularizedEvolution
from nni_diffnas.table import Table, load_table


class Rows:
    """The networks of the table, which a strategy may choose among."""

    rows: list[Architecture]
    search: Any

    def left(self, taken: Any = ()) -> list[Architecture]:
        """Those that have not been tried."""
        return [row for row in self.rows if row not in taken and not self.search.refusal(row)]


class Choosing(Rows, DiffusionGuided):
    """Candidates are all rows that are left, and so are those that the starts are drawn from."""

    def setup(self) -> None:
        """As ever; starts are drawn from the rows."""
        super().setup()
        self._starts._draws = self.left

    def propose(self, scored: Any, taken: Any, noise: Any, pull: Any) -> list[Architecture]:
        """All rows that are left; the pull is not heeded."""
        return self.left(taken)

    def _most_promising(self, found: Any, taken: Any, acquisition: Any) -> Architecture:
        return found[int(np.argmax(self._values(found, acquisition)))]


class Evolving(Rows, RegularizedEvolution):
    """A child is the row that is left and most like it."""

    def suggest(self, count: int) -> Any:
        """Rows instead of the children."""
        found = []
        for each in super().suggest(count):
            left = self.left([other.architecture for other in found])
            if left:
                child = each.architecture
                apart = [sum(row.get(label) != child.get(label) for label in {**row, **child}) for row in left]
                found.append(replace(each, architecture=left[int(np.argmin(apart))]))
        return found


def searched(made: Any, family: UNetFamily, table: Table, rows: list[Architecture]) -> Iterator[int]:
    made.rows = rows
    search, at = Search(made, family.space, family), {family.space.key_of(row): i for i, row in enumerate(rows)}
    for _ in rows:
        asked = search.ask(1)
        if not asked:
            return
        row = at[family.space.key_of(asked[0].architecture)]
        value = score(table, row)
        if value is None:
            search.tell_failed(asked[0].id, "nothing was measured")
        else:
            search.tell(asked[0].id, {"score": value})
        yield row


def chosen(name: str, family: UNetFamily, budget: Budget, table: Table, rows: list[Architecture], seed: int) -> Any:
    """Rows in the order in which a strategy trains them."""
    if name == "random":
        return np.random.default_rng(seed).permutation(len(rows)).tolist()
    if name == "gp":
        return gp_search(table, seed, len(rows), {})
    options: dict[str, Any] = {"objective": Objective("score", "maximize"), "budget": budget, "seed": seed}
    options["train_first"] = "none"
    if name == "evolution":
        return searched(Evolving(**options), family, table, rows)
    starts = {"guided": "prior", "spread": "spread"}[name]
    return searched(Choosing(starts=starts, **options), family, table, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--strategies", default="guided,spread,gp,evolution,random")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--journal", type=Path, help="JSONL of searches that have ended")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("nni").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    family, table = UNetFamily("pixels16"), load_table(given.table)
    budget = Budget({"macs": Window(max=family.cost(family.default).macs / 2)})
    with np.load(given.table, allow_pickle=False) as file:
        labels, indices = file["labels"].tolist(), file["choices"]
    values = [family.space.choices[label] for label in labels]
    rows = [
        family.space.validate({k: v[i] for k, v, i in zip(labels, values, row, strict=True)})
        for row in indices.tolist()
    ]
    measured = [s for s in (score(table, i) for i in range(len(rows))) if s is not None]
    best, worst = max(measured), min(measured)
    journal = None if given.journal is None else Journal(given.journal)
    marks = sorted({min(mark, given.evaluations) for mark in (10, 20, 50)})
    shown, results = [], {}
    for name in given.strategies.split(","):
        runs = []
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            what = {"unet_regret": name, "table": fingerprint(indices.tolist(), table.values.tolist()), "seed": seed,
                    "evaluations": given.evaluations}  # fmt: skip

            def make(what: dict[str, Any] = what) -> dict[str, Any]:
                order = chosen(what["unet_regret"], family, budget, table, rows, what["seed"])
                return {**what, "rows": list(islice(order, given.evaluations))}

            runs.append(make() if journal is None else journal.once(fingerprint(what), make))
            print(f"{name} {seed}: {len(runs[-1]['rows'])} rows", file=sys.stderr, flush=True)
        scores = np.array([[score(table, i) for i in run["rows"]] for run in runs], dtype=np.float64)
        so_far = np.maximum.accumulate(np.where(np.isfinite(scores), scores, worst), axis=1)
        regret = 100 * (best - so_far) / abs(best)
        found = np.where((so_far >= best).any(1), (so_far >= best).argmax(1) + 1, np.inf)
        error = len(runs) ** -0.5
        at = regret[:, [mark - 1 for mark in marks]]
        results[name] = {"found": [f if np.isfinite(f) else None for f in found.tolist()], "regret": at.tolist()}
        regrets = [f"{m:.2f} +- {s * error:.2f}" for m, s in zip(at.mean(0), at.std(0), strict=True)]
        shown.append([name, f"{np.median(found):g}", f"{np.isfinite(found).sum()}/{len(found)}", *regrets])
    columns = ["strategy", "median to best", "found", *(f"regret@{mark} %" for mark in marks)]
    report(columns, shown, {"benchmark": "unet_regret", "table": given.table.name, "networks": len(rows),
                            "objective": table.objective, "marks": marks, "results": results})  # fmt: skip


if __name__ == "__main__":
    main()
