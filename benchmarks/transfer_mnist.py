"""Does experience of other image tasks spare trials? Small UNets on subsets of MNIST's classes.

    python benchmarks/transfer_mnist.py --mnist mnist.npz --folder FOLDER

A task is a set of one to five digits, its images 2,000 of these, 8x8 pixels. All 20 networks of a small UNet space are
trained on each of 20 tasks and scored by rapid FID; every result is kept in FOLDER, so that a killed benchmark goes on.
Then `DiffusionGuided` searches the table of each task: cold; with the experience of the 19 others; and, as a control,
with the same experience and features that are equal for all tasks. What counts is the number of trials until one of the
two best networks of the task (10 %) is found. Equal seeds are paired; the interval is a bootstrap over tasks.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reporting import report
from scipy.stats import spearmanr

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Objective
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.scores.scoring import Scoring
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.strategies.guided.transfer import Experience
from nni_diffnas.trial.run import build_seeded

TASKS, REPEATED = 20, 2
"""Tasks, and those whose networks are trained with a second seed, which tells how much of a score is noise."""
BEST = 2
FAMILY = UNetFamily(
    "digits",
    **{"sample_size": 8, "base_width": 8, "width_multiple": 4, "norm_groups": 4, "multipliers": [1, 2]},
    **{"width_factors": [[0.5, 1.0, 1.5, 2.0, 2.5], [0.5, 1.5]], "depths": [[1], [1, 2]], "attention": [False]},
    **{"middle": ["none"], "inner_width": [1.0], "time_embedding": [4]},
)
TRAINING = {"batch_size": 32, "reports": 1}


class OnTask(DiffusionEvaluation):
    """Scores in one feature space for all tasks: that of a network which tells all ten digits."""

    extractor_of: DiffusionEvaluation

    @cached_property
    def scoring(self) -> Scoring:
        """In the common feature space, against the images of the task."""
        return Scoring(self.images, "training", self.extractor_of.scoring.extractor, torch.device("cpu"))


def digits_of(task: int) -> list[int]:
    """The classes of a task; no two tasks have the same."""
    rng, drawn = np.random.default_rng(0), list[tuple[int, ...]]()
    while len(drawn) <= task:
        chosen = tuple(sorted(rng.permutation(10)[: rng.integers(1, 6)].tolist()))
        if chosen not in drawn:
            drawn.append(chosen)
    return list(drawn[task])


def write_images(mnist: Path, folder: Path) -> None:
    """``all.npz``, with labels, for the feature network, and one file a task: padded, then means of 4x4 pixels."""
    with np.load(mnist, allow_pickle=False) as file:
        images, labels = file["train_images"], file["train_labels"]
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    small = padded.reshape(-1, 8, 4, 8, 4).mean((2, 4)).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    feature, rest = order[:5000], order[5000:]
    np.savez(folder / "all.npz", images=small[feature], labels=labels[feature].astype(np.int64))
    for task in range(TASKS):
        rows = rest[np.isin(labels[rest], digits_of(task))]
        np.savez(folder / f"{task}.npz", images=small[np.random.default_rng(task).permutation(rows)[:2000]])


def networks() -> list[Architecture]:
    """All of the space."""
    space = FAMILY.space
    sizes = [len(values) for values in space.choices.values()]
    return [
        {label: values[i] for (label, values), i in zip(space.choices.items(), index, strict=True)}
        for index in np.ndindex(*sizes)
    ]


def evaluations(folder: Path, tasks: int, images: int) -> dict[int, OnTask]:
    """How networks are scored on each of the first tasks, trained on so many images."""
    options: dict[str, Any] = {"training": {**TRAINING, "images": images}, "sampler_steps": 6, "score_images": 500}
    common = DiffusionEvaluation({"source": str(folder / "all.npz")}, **options)
    found = {}
    for task in range(tasks):
        found[task] = OnTask({"source": str(folder / f"{task}.npz"), "held_out": 0.0}, **options)
        found[task].extractor_of = common
    return found


def trained(evaluation: OnTask, architecture: Architecture, seed: int) -> dict[str, Any]:
    cpu = time.process_time()
    model = build_seeded(FAMILY, architecture, seed)
    evaluation.fit(model, TrialContext(architecture, Path(), seed))
    scores = evaluation.scoring.score(evaluation.generate(model, evaluation.settings.score_images, seed))
    return {"rfid": scores["rfid"], "cpu_seconds": time.process_time() - cpu}


def measure(
    folder: Path, each: dict[int, OnTask], images: int, only_report: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """``tasks x networks`` rapid FIDs, those of a second seed (``REPEATED x networks``), and CPU seconds."""
    journal = Journal(folder / f"trainings-{images}.jsonl")
    table = np.full((2, len(each), len(networks())), np.nan)
    # The second seed first: whether there is anything but noise, must be known before the hours of the rest.
    wanted = [(task, seed) for task in range(REPEATED) for seed in (0, 1)]
    wanted += [(task, 0) for task in each]
    # Seeds differ from task to task: that weights were lucky shall not be what transfers.
    for task, seed in dict.fromkeys(wanted):
        for column, architecture in enumerate(networks()):
            key = f"{task}/{seed}/{FAMILY.space.key_of(architecture)}"
            if only_report and key not in journal.records:
                continue
            found = journal.once(key, lambda: trained(each[task], architecture, 100 * task + seed))  # noqa: B023
            table[seed, task, column] = found["rfid"]
        print(f"task {task} {digits_of(task)} seed {seed}: best {table[seed, task].min():.1f}", file=sys.stderr)
    seconds = sum(record["cpu_seconds"] for record in journal.records.values())
    return table[0], table[1, :REPEATED], seconds


def elements(evaluation: OnTask) -> NDArray[np.float32]:
    """What is looked at of a task: features of 64 of its images."""
    return evaluation.scoring.features(evaluation.images.pixels[:64])


def trials_needed(row: NDArray[np.float64], seed: int, options: dict[str, Any]) -> tuple[int, int]:
    """Trials until one of the `BEST` networks is found, and until the best is."""
    position = {FAMILY.space.key_of(architecture): i for i, architecture in enumerate(networks())}
    rank = np.argsort(np.argsort(row))
    objective = Objective("rfid", "minimize")
    search = Search(
        DiffusionGuided(objective=objective, seed=seed, train_first="none", **options), FAMILY.space, FAMILY
    )
    good = 0
    for number in range(1, len(row) + 1):
        (asked,) = search.ask(1)
        column = position[FAMILY.space.key_of(asked.architecture)]
        search.tell(asked.id, {"rfid": float(row[column])})
        good = good or (number if rank[column] < BEST else 0)
        if rank[column] == 0:
            return good, number
    raise AssertionError("a search of all networks finds the best")


def interval(ours: NDArray[np.float64], cold: NDArray[np.float64]) -> tuple[float, float, float]:
    """Ratio of the means over tasks, and its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).integers(len(cold), size=(10_000, len(cold)))
    ratios = ours[drawn].mean(1) / cold[drawn].mean(1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(ours.mean() / cold.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="keeps images and results")
    parser.add_argument("--tasks", type=int, default=TASKS, help="the first so many, at least 3")
    parser.add_argument("--images", type=int, default=6_400, help="that each network is trained on")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each task in each arm")
    parser.add_argument("--only-table", action="store_true")
    parser.add_argument("--only-report", action="store_true", help="of the tasks that are finished")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / f"{TASKS - 1}.npz").exists():
        write_images(arguments.mnist, arguments.folder)
    torch.set_num_threads(1)
    each = evaluations(arguments.folder, arguments.tasks, arguments.images)
    table, again, seconds = measure(arguments.folder, each, arguments.images, arguments.only_report)
    known = np.isfinite(again).all(1)
    first = table[:REPEATED][known]
    agreement = [float(spearmanr(a, b).statistic) for a, b in zip(first, again[known], strict=True)]
    noise = float(np.sqrt(np.square(first - again[known]).mean() / 2))
    macs = [FAMILY.cost(architecture).macs for architecture in networks()]
    print(f"{len(macs)} networks, {min(macs):.3g} to {max(macs):.3g} MACs, {seconds:.0f} CPU s")
    print(f"Two seeds of {known.sum()} tasks: Spearman {np.round(agreement, 2)}")
    print(f"Deviation of a seed {noise:.3g}, of the networks {first.std(1).mean():.3g}")
    if arguments.only_table:
        return
    complete = [task for task in each if np.isfinite(table[task]).all()]
    looked = {task: elements(each[task]) for task in complete}
    blind = np.ones((1, looked[complete[0]].shape[1]), dtype=np.float32)
    counts: dict[str, list[list[tuple[int, int]]]] = {"cold": [], "transfer": [], "task-blind": []}
    for task in complete:
        others = [t for t in complete if t != task]
        for name, rows in counts.items():
            options: dict[str, Any] = {}
            if name != "cold":
                seen = {t: looked[t] if name == "transfer" else blind for t in complete}
                experience = [Experience(seen[t], networks(), (-table[t]).tolist()) for t in others]
                options = {"experience": experience, "dataset": seen[task]}
            rows.append([trials_needed(table[task], seed, options) for seed in range(arguments.seeds)])
        print(f"task {task} {digits_of(task)}", {name: rows[-1] for name, rows in counts.items()}, file=sys.stderr)
    means = {name: np.array(rows, dtype=float).mean(1) for name, rows in counts.items()}
    rows, body = [], {}
    for name, found in means.items():
        ratios = [interval(found[:, which], means["cold"][:, which]) for which in (0, 1)]
        texts = ["-" if name == "cold" else f"{r:.2f} ({low:.2f} to {high:.2f})" for r, low, high in ratios]
        both = found.mean(0).tolist()
        rows.append([name, both[0], texts[0], both[1], texts[1]])
        body[name] = {"best_two": both[0], "ratio": ratios[0], "best": both[1], "ratio_best": ratios[1]}
    beside = interval(means["transfer"][:, 0], means["task-blind"][:, 0])
    print(f"{len(complete)} tasks, each with the experience of the others; transfer against task-blind: "
          f"{beside[0]:.2f} ({beside[1]:.2f} to {beside[2]:.2f})")  # fmt: skip
    columns = ["search", f"trials to one of {BEST} best", "ratio to cold (95 %)", "trials to the best", "ratio"]
    body |= {"against_blind": beside, "agreement": agreement, "noise": noise, "tasks": complete}
    report(columns, rows, {"benchmark": "transfer_mnist", "seeds": arguments.seeds, "counts": counts, **body})


if __name__ == "__main__":
    main()
