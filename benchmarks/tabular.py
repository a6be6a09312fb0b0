"""Evaluations that strategies need to find the best entry of a table, and their regret on the way.

    python benchmarks/tabular.py --table FILE [--dataset NAME] --strategies guided,gp,evolution,random,tpe \
        --seeds 20 --first-seed 0 --evaluations 100

Strategies select by the table's objective; the report metric of what they selected stands beside it. A run ends when it
has found the best entry. ``gp`` (a plain BoTorch SingleTaskGP on one-hot inputs with LogEI, 10 random starts), ``flow``
and ``params`` (all rows, those with the largest analytic flow or the most parameters first, whatever they score)
enumerate the space; ``mutation`` is the guided search with its candidates mutated from its best trials and drawn at
random instead of generated. ``--flip`` turns the table round: the worst entry is searched, and what is thought of
networks beforehand is wrong. ``--journal`` keeps every search that has ended, so that a study that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report

from nni_diffnas.api.trial import Objective
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.plugins import find_plugin
from nni_diffnas.search_spaces import TableFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.features import Features
from nni_diffnas.strategies.guided.prior import Prior
from nni_diffnas.table import Table, load_table

Way = Callable[[Table, int, int, dict[str, Any]], Iterator[int | None]]
"""``(table, seed, evaluations, options)`` to the rows that are evaluated, in order; ``None`` for a row that lacks."""

PLUGINS = {"guided": "DiffusionGuided", "evolution": "RegularizedEvolution", "random": "RandomSearch"}


def score(table: Table, row: int | None) -> float | None:
    """Objective turned so that more is better; ``None`` where nothing was measured."""
    value = np.nan if row is None else table.column(table.objective)[row]
    return None if not np.isfinite(value) else float(value if table.maximize else -value)


def plugin_search(name: str) -> Way:
    def rows(table: Table, seed: int, evaluations: int, options: dict[str, Any]) -> Iterator[int | None]:
        objective = Objective("score", "maximize")
        made = Mutating if name == "mutation" else find_plugin("strategies", PLUGINS[name])
        strategy = made(objective=objective, seed=seed, train_first="none", **options)
        search = Search(strategy, table.space, TableFamily.of(table))
        for _ in range(evaluations):
            asked = search.ask(1)
            if not asked:
                return
            row = table.row(asked[0].architecture)
            value = score(table, row)
            if value is None:
                search.tell_failed(asked[0].id, "the table has no such row")
            else:
                search.tell(asked[0].id, {"score": value})
            yield row

    return rows


def gp_search(table: Table, seed: int, evaluations: int, options: dict[str, Any]) -> Iterator[int | None]:
    """Plain BoTorch over the enumerated rows; those without a value are left out, which favours it."""
    from botorch.acquisition import LogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from gpytorch.mlls import ExactMarginalLogLikelihood

    rows = np.array([i for i in range(len(table.choices)) if score(table, i) is not None])
    columns = [np.eye(len(values))[table.choices[rows, i]] for i, values in enumerate(table.space.choices.values())]
    x = torch.from_numpy(np.concatenate(columns, axis=1))
    y = torch.tensor([[score(table, i)] for i in rows], dtype=torch.float64)
    torch.manual_seed(seed)
    known = np.random.default_rng(seed).choice(len(rows), size=min(10, len(rows)), replace=False).tolist()
    yield from (int(rows[i]) for i in known[:evaluations])
    while len(known) < min(evaluations, len(rows)):
        z = y[known]
        z = (z - z.mean()) / z.std().clamp_min(1e-9)
        model = SingleTaskGP(x[known], z, outcome_transform=None)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        with torch.no_grad():
            values = LogExpectedImprovement(model, best_f=z.max())(x[:, None])
        values[known] = -torch.inf
        known.append(int(values.argmax()))
        yield int(rows[known[-1]])


def flow_order(table: Table) -> np.ndarray:
    encoding = Encoding(table.space)
    found = Prior(Features(encoding, table.cuts), TableFamily.of(table)).flow
    if found is None:
        raise SystemExit("This table states no gains: leave out flow.")
    return found(encoding.one_hot(table.choices)).numpy()


def sorted_search(order: Callable[[Table], np.ndarray]) -> Way:
    def rows(table: Table, seed: int, evaluations: int, options: dict[str, Any]) -> Iterator[int | None]:
        values, ties = order(table), np.random.default_rng(seed).permutation(len(table.choices))
        yield from np.lexsort((ties, -np.round(values, 6))).tolist()[:evaluations]

    return rows


class Mutating(DiffusionGuided):
    """Half of the candidates mutate the best trials once, half are drawn at random: no generator."""

    def propose(self, scored: Any, taken: Any, noise: Any, pull: Any) -> Any:
        """As many as are generated otherwise; the pull is not heeded."""
        search, count, found = self.search, self.settings.candidates, []
        best = sorted(scored, key=self._rank, reverse=True)[:8]
        drawn = [search.space.mutate(best[i % len(best)].architecture, search.rng) for i in range(count // 2)]
        drawn += [search.space.sample(search.rng) for _ in range(count - count // 2)]
        for each in drawn:
            if each not in found and each not in taken and not search.refusal(each):
                found.append(each)
        return found


def tpe_search(table: Table, seed: int, evaluations: int, options: dict[str, Any]) -> Iterator[int | None]:
    """NNI's TPE tuner with its own defaults."""
    from nni.algorithms.hpo.tpe_tuner import TpeTuner

    tuner = TpeTuner(optimize_mode="maximize", seed=seed)
    tuner.update_search_space(table.space.to_nni())
    for number in range(evaluations):
        parameters = tuner.generate_parameters(number)
        row = table.row(parameters)
        value = score(table, row)
        if value is None:
            tuner.trial_end(number, False)
        else:
            tuner.receive_trial_result(number, parameters, value)
        yield row


SEARCHES: dict[str, Way] = {
    **{name: plugin_search(name) for name in (*PLUGINS, "mutation")},
    "gp": gp_search,
    "tpe": tpe_search,
    "flow": sorted_search(flow_order),
    "params": sorted_search(lambda table: table.costs["params"]),
}


def run(table: Table, search: Way, seed: int, evaluations: int, options: dict[str, Any]) -> dict[str, Any]:
    """One search: when it found the best entry, its regret after each evaluation, the report of its selection."""
    best = score(table, table.best)
    assert best is not None
    found, regrets, selected, incumbent = None, [], None, -np.inf
    started = time.monotonic()
    for number, row in enumerate(search(table, seed, evaluations, options), start=1):
        value = score(table, row)
        if value is not None and value > incumbent:
            incumbent, selected = value, row
        regrets.append(best - incumbent)
        if incumbent >= best:
            found = number
            break
    regrets += [regrets[-1]] * (evaluations - len(regrets))
    reported = None if selected is None else float(table.column(table.report)[selected])
    return {"found": found, "regrets": regrets, "report": reported, "seconds": time.monotonic() - started}


def kept(
    journal: Journal | None, given: argparse.Namespace, table: Table, name: str, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """One search, from the journal where it is there."""

    def make() -> dict[str, Any]:
        return run(table, SEARCHES[name], seed, given.evaluations, options)

    if journal is None:
        return make()
    what = {"table": given.table.name, "dataset": given.dataset, "flip": given.flip, "strategy": name, "seed": seed}
    what |= {"options": options, "evaluations": given.evaluations}
    return dict(journal.once(fingerprint(what), lambda: {**what, **make()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--strategies", default="guided,gp,evolution,random,tpe")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--guided", type=json.loads, default={}, help="options of DiffusionGuided, as JSON")
    parser.add_argument("--flip", action="store_true", help="search the worst entry")
    parser.add_argument("--journal", type=Path, help="JSONL of searches that have ended")
    arguments = parser.parse_args()
    names = arguments.strategies.split(",")
    unknown = set(names) - set(SEARCHES)
    if unknown:
        parser.error(f"unknown strategies {', '.join(sorted(unknown))}: choose among {', '.join(SEARCHES)}")
    warnings.filterwarnings("ignore")
    logging.getLogger("nni").setLevel(logging.ERROR)
    table = load_table(arguments.table, arguments.dataset)
    if arguments.flip:
        table = replace(table, maximize=not table.maximize)
    journal = None if arguments.journal is None else Journal(arguments.journal)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows, results = [], {}
    marks = sorted({min(n, arguments.evaluations) for n in (10, 20, 50, 100)})
    for name in names:
        options = arguments.guided if name in ("guided", "mutation") else {}
        runs = []
        for seed in seeds:
            runs.append(kept(journal, arguments, table, name, seed, options))
            print(
                f"{name} seed {seed}: {runs[-1]['found']} in {runs[-1]['seconds']:.0f} s", file=sys.stderr, flush=True
            )
        found = np.array([r["found"] or np.inf for r in runs])
        quartiles = np.quantile(
            found, (0.25, 0.5, 0.75), method="median_unbiased" if np.isfinite(found).all() else "nearest"
        )
        median = float(np.median(found))
        regrets = np.array([r["regrets"] for r in runs])
        reports = [r["report"] for r in runs if r["report"] is not None]
        results[name] = {
            "median": median if np.isfinite(median) else None,
            "found": [r["found"] for r in runs],
            "regret": {m: [float(regrets[:, m - 1].mean()), float(regrets[:, m - 1].std())] for m in marks},
            "report_mean": float(np.mean(reports)),
            "seconds_per_evaluation": float(
                np.sum([r["seconds"] for r in runs]) / sum(min(f, arguments.evaluations) for f in found)
            ),
        }
        rows.append(
            [
                name,
                f">{arguments.evaluations}" if not np.isfinite(median) else f"{median:g}",
                " - ".join(f"{q:g}" if np.isfinite(q) else f">{arguments.evaluations}" for q in quartiles[[0, 2]]),
                f"{np.isfinite(found).sum()}/{len(found)}",
                *(f"{regrets[:, m - 1].mean():.3g} +- {regrets[:, m - 1].std():.2g}" for m in marks),
                results[name]["report_mean"],
                results[name]["seconds_per_evaluation"],
            ]
        )  # fmt: skip
    print(f"{arguments.table.name} {arguments.dataset or ''}: best {table.objective} {score(table, table.best)}, "
          f"{len(table.choices)} rows, seeds {seeds.start}..{seeds.stop - 1}")  # fmt: skip
    columns = ["strategy", "median to best", "quartiles", "found", *(f"regret@{m}" for m in marks)]
    report(
        [*columns, f"{table.report} of selected", "s/evaluation"],
        rows,
        {"benchmark": "tabular", "table": arguments.table.name, "dataset": arguments.dataset, "seeds": list(seeds),
         "evaluations": arguments.evaluations, "objective": table.objective, "results": results},
    )  # fmt: skip


if __name__ == "__main__":
    main()
