"""Does looking at the data set help? Rank correlation on held-out tasks, dataset-aware against task-blind.

    python benchmarks/transfer_tasks.py --table nasbench201_tasks.npz --folds 5

The table holds one-hot cells [N, 8, 7], the task of each row, the 20 classes of each task, and accuracies. A task is
the set of its classes, one-hot. Tasks are split into folds; each is predicted by a model trained on the others.
Spearman's correlation over all rows of a fold says how well (task, cell) rows are ranked; the share of pairs within a
task that are in the right order says how well cells are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reporting import report

from nni_diffnas.search_spaces import NASBench201Family
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.features import Features
from nni_diffnas.strategies.guided.transfer import Experience, TaskPredictor

_OPERATIONS = ("none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")
"""Of columns 2 to 6."""


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def pairs_in_order(task: NDArray[np.int64], truth: NDArray[np.float64], guess: NDArray[np.float64]) -> tuple[int, int]:
    """Pairs within a task that are ranked right, and all that differ."""
    right = total = 0
    for each in np.unique(task):
        rows = np.flatnonzero(task == each)
        for i, a in enumerate(rows):
            for b in rows[i + 1 :]:
                if truth[a] != truth[b]:
                    total += 1
                    right += (truth[a] > truth[b]) == (guess[a] > guess[b])
    return int(right), total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(arguments.table, allow_pickle=False) as file:
        ops, task, classes, accuracy = (file[name] for name in ("ops", "task", "task_classes", "accuracy"))
    family = NASBench201Family()
    features = Features(Encoding(family.space), family.cuts)
    labels = family.space.labels
    # Rows of the table: input, the six operations, output; in the order 0_1, 0_2, 1_2, 0_3, 1_3, 2_3.
    chosen = ops[:, 1:7, 2:].argmax(2)
    cells = [dict(zip(labels, (_OPERATIONS[i] for i in row), strict=True)) for row in chosen.tolist()]
    sets = {int(t): np.eye(int(classes.max()) + 1, dtype=np.float32)[classes[t]] for t in np.unique(task)}
    fold_of = dict(
        zip(sets, np.random.default_rng(0).permutation(len(sets)) % arguments.folds, strict=True)
    )  # whole tasks
    fold = np.array([fold_of[int(t)] for t in task])
    results: dict[str, dict[str, list[Any]]] = {}
    for name, aware in (("dataset-aware", True), ("task-blind", False)):
        results[name] = {"spearman": [], "right": [], "pairs": [], "cpu_seconds": []}
        for k in range(arguments.folds):
            rows = {t: np.flatnonzero(task == t) for t, f in fold_of.items() if f != k}
            known = [
                Experience(sets[t], [cells[i] for i in r], accuracy[r].astype(float).tolist()) for t, r in rows.items()
            ]
            cpu = time.process_time()
            predictor = TaskPredictor(features, known, scale="all", aware=aware, seed=k, steps=arguments.steps)
            held = np.flatnonzero(fold == k)
            p = features.encoding.one_hot(features.encoding.indices([cells[i] for i in held]))
            encoded = torch.stack([predictor.encode(sets[int(t)]) for t in task[held]])
            guess = predictor.predict(encoded, p).double().numpy()
            truth = accuracy[held].astype(np.float64)
            right, total = pairs_in_order(task[held], truth, guess)
            found = results[name]
            found["spearman"].append(spearman(truth, guess))
            found["right"].append(right)
            found["pairs"].append(total)
            found["cpu_seconds"].append(time.process_time() - cpu)
    table = [
        [
            name,
            f"{np.mean(r['spearman']):.3f} +- {np.std(r['spearman']):.3f}",
            f"{100 * sum(r['right']) / sum(r['pairs']):.1f} % of {sum(r['pairs'])}",
            float(np.mean(r["cpu_seconds"])),
        ]
        for name, r in results.items()
    ]
    columns = ["predictor", "Spearman, held-out tasks", "pairs within a task in order", "CPU s per fold"]
    report(columns, table, {"benchmark": "transfer_tasks", "folds": arguments.folds, "results": results})


if __name__ == "__main__":
    main()
