"""Which students are worth retraining? Ways to choose one within a budget, by what it comes to at equal compute.

    python benchmarks/choosing.py --case digits

For each seed the supernet of every block is trained once. The knapsack then chooses by the loss of the blocks' outputs,
and by that of the network's prediction with one block swapped into the teacher; beside it stand a random student of
equal cost, and the one that makes the same choice in every block. All are retrained by the defaults, with the same part
of the teacher's training. The teacher is the one of ``retraining.py``, and so are the scores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from reporting import report
from retraining import COLUMNS, measured, retrained, shown, uniform
from teachers import Case, budget_of, case_in, cases, evaluation, trained

from nni_diffnas.api.space import Architecture
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.blockwise.choosing import compare, front_of
from nni_diffnas.evaluators.blockwise.supernet import train_supernet
from nni_diffnas.evaluators.blockwise.swapping import swapped_losses
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.strategies.blockwise.choices import choose_randomly, knapsack
from nni_diffnas.strategies.blockwise.fronts import Front, Point

JOURNAL = Path(__file__).parent / "journals" / "choosing.jsonl"
KINDS = ("blocks", "swapped", "random", "uniform")
SWAP_IMAGES = 64


def fronts(case: Case, family: BlockwiseUNetFamily, seed: int) -> dict[str, list[Front]]:
    """Fronts of all blocks by the losses of the blocks and of the network, from the same supernets."""
    judge, teacher = evaluation(case, 1), TeacherPipeline(family)
    settings, chosen = judge.settings.supernet, judge.images.training
    clean = teacher.encode(torch.from_numpy(judge.images.pixels[chosen]))
    found: dict[str, list[Front]] = {"blocks": [], "swapped": []}
    for block in family.blocks:
        torch.manual_seed(seed)
        supernet: Any = family.supernet(block.name, teacher.network)
        images = NoisedImages(teacher, clean, None, seed)
        ready = train_supernet(supernet, block, teacher, images, settings, seed, lambda loss, step: None)
        front = front_of(block, compare(supernet, block, ready, settings, seed), settings.front)
        paths, batch = [scored.path for scored in front], images.draw(SWAP_IMAGES)
        swapped = swapped_losses(teacher, family.block_path(block.name), supernet, paths, batch)
        for kind, losses in (("blocks", [scored.loss for scored in front]), ("swapped", swapped)):
            points = tuple(Point(path, block.cost(path), loss) for path, loss in zip(paths, losses, strict=True))
            found[kind].append(Front(block, points, losses[paths.index(block.teacher)]))
    return found


def students(case: Case, family: BlockwiseUNetFamily, seed: int) -> dict[str, Architecture]:
    """One student of each kind."""
    budget, found = budget_of(family), dict[str, Architecture]()
    for kind, measured_fronts in fronts(case, family, seed).items():
        found[kind] = family.assemble(point.path for point in knapsack(measured_fronts, family.fixed, budget))
    found["random"] = choose_randomly(family, family.cost(found["blocks"]).macs, "macs", budget, seed)
    return {**found, "uniform": uniform(family)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=[name for name, case in cases().items() if not case.latent], default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.13, help="of the teacher's training, in MACs")
    parser.add_argument("--teacher-images", type=int, help="that a teacher is trained on; the case's without it")
    parser.add_argument("--samples", type=int, default=1000, help="of the distance")
    parser.add_argument("--folder", type=Path, default=Path("runs/retraining"), help="keeps the teacher")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    given = parser.parse_args(arguments)
    changes = {"student_share": given.share, "score_images": given.samples, "teacher_images": given.teacher_images}
    case, journal = case_in(given.folder, given.case, **changes), Journal(given.journal)
    pipeline, whole = trained(case, "teacher", tuple(case.unet["block_out_channels"]), 0, given.folder / given.case)
    family = BlockwiseUNetFamily(pipeline)
    teacher = family.teacher()
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for seed in range(given.seeds):
        about = (given.case, whole["train_macs"], case.block_steps, seed)
        chosen = journal.once(
            fingerprint("choosing", *about),
            lambda seed=seed: {"case": given.case, "seed": seed, "students": students(case, family, seed)},
        )["students"]
        for kind in KINDS:
            architecture = chosen[kind]

            def make(kind: str = kind, seed: int = seed, architecture: Any = architecture) -> dict[str, Any]:
                metrics = retrained(case, "output", seed, family, teacher, architecture)
                kept = {name: metrics[name] for name in COLUMNS} | family.cost(architecture).as_metrics()
                return {"case": given.case, "share": given.share, "kind": kind, "seed": seed, "metrics": kept}

            key = fingerprint("chosen", *about, given.share, given.samples, sorted(architecture.items()))
            results[kind].append(journal.once(key, make)["metrics"])
            print(f"{kind}, seed {seed}: {results[kind][-1]}", file=sys.stderr, flush=True)
    own = {**whole, **measured(evaluation(case, 1), teacher, teacher), **family.teacher_cost.as_metrics()}
    columns = {**COLUMNS, "macs": "MACs", "params": "parameters"}
    rows = [
        [kind, len(found), *(shown([metrics[name] for metrics in found]) for name in columns)]
        for kind, found in (("teacher", [own]), *results.items())
    ]
    body = {"benchmark": "choosing", "case": given.case, "rows": rows}
    report(["chosen by", "seeds", *columns.values()], rows, body)


if __name__ == "__main__":
    main()
