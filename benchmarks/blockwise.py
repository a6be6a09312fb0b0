"""Block-wise search measured: students chosen locally, globally, by knapsack and at random, retrained by every beta.

``python benchmarks/blockwise.py --quick`` takes minutes on one core: digits in pixels, tiny networks. Others want
``../shared/data`` and, for CIFAR-10, a GPU. Every finished training is kept in ``--folder``: a run that was stopped
goes on where it was.

For each seed: a teacher is trained; so is the uniformly thinner UNet of the students' cost, as long as the teacher: it
has to be worse if the case is to prove anything; each block's supernet is trained; students within the same budget are
chosen in four ways and retrained by the defaults, the knapsack's also as in the paper, from scratch by the noise loss,
and in ``--ways``. Every retraining takes the same part of the teacher's training, counted in multiply-accumulates, so
that ways which need less for an image see more images. ``retraining.py`` compares ways to retrain one student.
With ``--one-teacher`` all students learn from the first seed's teacher, and the other teachers are trained last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from reporting import machine
from students import images_for
from teachers import SHOWN, Case, budget_of, case_in, cases, evaluation, once, references

from nni_diffnas.api.cost import Budget
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import BlockwiseLocalSearch

WAYS: dict[str, dict[str, Any]] = {
    "by default": {},
    "as in the paper": {"recipe": "paper"},
    "from scratch": {"inherit": "nothing", "beta": "constant1", "soft_target": 0.0},
    "from the supernet": {"inherit": "supernet"},
}
"""How a student may be retrained: options of the evaluation."""
PRINTED = ("rfid", "rfid_se", "macs", "params", "train_macs", "seconds")


def students(
    case: Case, seed: int, pipeline: Path, folder: Path, ways: Sequence[str], only: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Search with one seed, and retrain students, the knapsack's in some more ways; return metrics by row."""
    rows: dict[str, dict[str, Any]] = {}
    family = BlockwiseUNetFamily(pipeline)
    budget = budget_of(family)
    judge = evaluation(case, case.teacher_images)
    strategy = BlockwiseLocalSearch(
        choice=["knapsack", "global", "random"], score_teacher=False, budget=budget, seed=seed
    )
    search = Search(strategy, family.space, family, judge.protocol)
    search_macs, block_seconds = 0.0, []
    for trial in search.ask(len(family.blocks)):
        block = str(trial.settings["block"])
        metrics = once(family, judge, trial.architecture, trial.settings, seed, folder / f"block-{block}")
        search_macs += metrics["train_macs"] + metrics["choosing_macs"] + metrics["teacher_macs"]
        block_seconds.append(metrics["seconds"])
        search.tell(trial.id, metrics)
    chosen = strategy.chosen()
    chosen["local"] = local_within(search, budget, family)
    chosen = {kind: chosen.get(kind, chosen["knapsack"]) for kind in ("local", "knapsack", "global", "random")}
    asked = [(kind, "by default") for kind in chosen]
    asked += [("knapsack", "as in the paper"), ("knapsack", "from scratch")]
    asked += [("local", way) for way in ways]
    for kind, way in asked:
        name = f"{kind}, {way}"
        if only and not any(part in name for part in only):
            continue
        beta = evaluation(case, 1, **WAYS[way]).settings.beta
        images = images_for(case, family, chosen[kind], beta, evaluation(case, 1, **WAYS[way]).settings)
        student = evaluation(case, images, case.student, **WAYS[way])
        settings, output = {"task": "retrain", "beta": beta}, folder / name.replace(", ", "-").replace(" ", "-")
        rows[name] = once(family, student, chosen[kind], settings, seed, output)
    rows["search"] = {"train_macs": search_macs, "seconds": statistics.fmean(block_seconds)}
    return rows


def local_within(search: Search, budget: Budget, family: BlockwiseUNetFamily) -> dict[str, Any]:
    """Local choice by the tolerance whose student uses most of the budget's MACs."""
    seed = search.options.seed
    free = BlockwiseLocalSearch(choice="local", score_teacher=False, seed=seed, warm_start=search.trials)
    Search(free, family.space, family, search.protocol)
    found = []
    for tolerance in np.linspace(0.4, 4.0, 145):
        free.tolerances = [float(tolerance)]
        found.append(next(iter(free.chosen().values())))
    admitted = [architecture for architecture in found if budget.admits(family.cost(architecture))]
    if not admitted:
        raise SystemExit("no tolerance from 0.4 to 4 keeps the budget")
    return max(admitted, key=lambda architecture: family.cost(architecture).macs)


def table(results: list[dict[str, dict[str, Any]]]) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = ["| network | rFID | MACs | parameters | training | seeds |", "|---|---|---|---|---|---|"]
    whole = results[0]["teacher"]["train_macs"]
    for name in results[0]:
        found = [result[name] for result in results if name in result]
        means = {q: statistics.fmean(row[q] for row in found) for q in found[0] if q in SHOWN or q == "train_macs"}
        if name == "search":
            lines.append(
                f"\nsearch: {means['train_macs'] / whole:.1%} of the training, {means['seconds']:.2g} s a block"
            )
            continue
        spread = f" ± {statistics.stdev(row['rfid'] for row in found):.3g}" if len(found) > 1 else ""
        lines.append(
            f"| {name} | {means['rfid']:.3f}{spread} | {means['macs'] / 1e6:.2f} M | {means['params'] / 1e3:.1f} k "
            f"| {means['train_macs'] / whole:.1%} | {len(found)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(cases()), default="mnist16")
    parser.add_argument("--quick", action="store_true", help="the case 'quick'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--ways", nargs="*", choices=sorted(WAYS), default=[], help="more ways to retrain the local student"
    )
    parser.add_argument("--only", nargs="*", default=[], help="only students whose row has one of these in its name")
    parser.add_argument("--one-teacher", action="store_true", help="all students learn from the first seed's teacher")
    parser.add_argument("--folder", type=Path, default=Path("runs/blockwise"))
    arguments = parser.parse_args()
    name = "quick" if arguments.quick else arguments.case
    case, began = case_in(arguments.folder, name), time.monotonic()
    results: list[dict[str, dict[str, Any]]] = []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    folders = [arguments.folder / name / str(seed) for seed in seeds]
    pipeline = folders[0]
    for seed, folder in zip(seeds, folders, strict=True):
        print(f"seed {seed}", flush=True)
        rows: dict[str, dict[str, Any]] = {}
        if not (arguments.one_teacher and results):
            pipeline, rows = references(case, seed, folder)
        results.append(rows | students(case, seed, pipeline, folder, arguments.ways, arguments.only))
        print(table(results), flush=True)
    if arguments.one_teacher:  # the others only show how far teachers differ
        for index in range(1, len(seeds)):
            results[index] |= references(case, seeds[index], folders[index])[1]
            print(table(results), flush=True)
    figures = [
        {row: {q: v for q, v in metrics.items() if q in PRINTED} for row, metrics in one.items()} for one in results
    ]
    print(
        json.dumps(
            {"benchmark": "blockwise", "case": name, "seeds": list(seeds), "seconds": time.monotonic() - began,
             "rows": figures, "machine": machine()}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
