"""How should a student be retrained? One student of one teacher, by several ways that take the same compute.

    python benchmarks/retraining.py --case digits

The teacher is trained once and kept in ``--folder``. The student has the same kernels and width in every block, the
largest within half of the teacher's cost, so that nothing hangs on a search. Every way takes the same part of the
teacher's training, counted in multiply-accumulates of student and teacher: one that needs less for an image sees more.
The importance of channels, 512 images of the teacher's training, comes on top.
Compared are the loss on held-out images, the squared distance of the predictions to the teacher's on them, and the
distance of samples, by seeds of the retraining. Every finished training is kept in the journal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from reporting import report
from teachers import Case, budget_of, case_in, cases, evaluation, images_for, trained

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.space import Architecture
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.scores.held_out_loss import HeldOutLoss, mean_loss
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.trial.run import build_seeded

JOURNAL = Path(__file__).parent / "journals" / "retraining.jsonl"
OUTPUT: Mapping[str, Any] = {"beta": "constant1", "soft_target": 1.0, "bank": 0}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "output": OUTPUT,
    "own, half": {**OUTPUT, "beta": "half", "features": "own"},
    "own, cosine": {**OUTPUT, "beta": "cosine", "features": "own"},
    "own, hard": {**OUTPUT, "beta": "hard", "features": "own"},
    "teacher's, half": {**OUTPUT, "beta": "half", "features": "teacher"},
    "teacher's, cosine": {**OUTPUT, "beta": "cosine", "features": "teacher"},
    "bank of 1024, 2 passes": {**OUTPUT, "bank": 1024, "bank_passes": 2},
    "bank of 1024, 4 passes": {**OUTPUT, "bank": 1024, "bank_passes": 4},
    "bank of 4096, 4 passes": {**OUTPUT, "bank": 4096, "bank_passes": 4},
    "channels by norm": {**OUTPUT, "importance": "norm"},
    "noise alone": {**OUTPUT, "soft_target": 0.0},
    "as in the paper": {"recipe": "paper"},
    "from scratch": {**OUTPUT, "soft_target": 0.0, "inherit": "nothing"},
    "output, batch of 32": {**OUTPUT, "training": {"batch_size": 32}},
    "output, batch of 64": {**OUTPUT, "training": {"batch_size": 64}},
    "output, twice the rate": {**OUTPUT, "training": {"learning_rate": 4e-3}},
    "output, half the rate": {**OUTPUT, "training": {"learning_rate": 1e-3}},
}
"""Options of the evaluation, by the name of the way."""

COLUMNS = {"held_out_loss": "loss", "gap": "gap to the teacher", "rfid": "rFID", "train_macs": "training"}


def uniform(family: BlockwiseUNetFamily) -> Architecture:
    """The dearest student within the budget that makes the same choice in every residual block."""
    budget, found = budget_of(family), []
    for kernel1, kernel2, width in product(family.kernels, family.kernels, family.widths):
        wanted = {"kernel1": kernel1, "kernel2": kernel2, "width": width}
        chosen = {label: wanted[label.rpartition(".")[2]] for label in family.default}
        if all(value in family.space.choices[label] for label, value in chosen.items()):
            architecture = family.space.validate(chosen)
            if budget.admits(cost := family.cost(architecture)):
                found.append((cost.macs, architecture))
    return max(found, key=lambda pair: pair[0])[1]


def measured(judge: BlockwiseEvaluation, model: torch.nn.Module, teacher: torch.nn.Module) -> dict[str, float]:
    """Loss of a network on images that no training has seen, and how far its predictions are from the teacher's."""
    recipe, images = Recipe(images=1), judge.images
    loss, gap = (HeldOutLoss(images, images.validation, recipe, 512, 256, other) for other in (None, teacher))
    return {"held_out_loss": mean_loss(loss.levels(model)), "gap": mean_loss(gap.levels(model))}


def retrained(
    case: Case, way: str, seed: int, family: BlockwiseUNetFamily, teacher: torch.nn.Module, architecture: Architecture
) -> dict[str, Any]:
    """Retrain the student by one way."""
    options = dict(WAYS[way])
    training = {**case.student, **options.pop("training", {})}
    settings = evaluation(case, 1, training, **options).settings
    images = images_for(case, family, architecture, settings.beta, settings)
    judge = evaluation(case, images, training, **options)
    judge.prepare()
    model = build_seeded(family, architecture, seed)
    with tempfile.TemporaryDirectory() as folder:
        context = TrialContext(architecture, Path(folder), seed, settings={"task": "retrain"}, family=family)
        metrics = judge.evaluate(model, context)
    return {**metrics, **measured(judge, model, teacher)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=[name for name, case in cases().items() if not case.latent], default="digits")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
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
    architecture = uniform(family)
    cost, of = family.cost(architecture), family.teacher_cost
    judge = evaluation(case, 1)
    own = {**whole, **measured(judge, teacher, teacher)}
    rows: list[list[Any]] = [["teacher", 1, *[shown([own[name]]) for name in COLUMNS]]]
    for way in given.ways:
        found = []
        for seed in range(given.seeds):
            about = (own["train_macs"], sorted(architecture.items()), given.share, given.samples)
            key = fingerprint("retraining", given.case, *about, way, seed)

            def make(way: str = way, seed: int = seed) -> dict[str, Any]:
                metrics = retrained(case, way, seed, family, teacher, architecture)
                kept = {name: metrics[name] for name in (*COLUMNS, "trained_images", "seconds")}
                return {"case": given.case, "share": given.share, "way": way, "seed": seed, "metrics": kept}

            found.append(journal.once(key, make)["metrics"])
            print(f"{way}, seed {seed}: {found[-1]}", file=sys.stderr, flush=True)
        means = [shown([metrics[name] for metrics in found]) for name in COLUMNS]
        rows.append([way, len(found), *means])
    share = {"macs": cost.macs / of.macs, "params": cost.params / of.params}
    body = {"benchmark": "retraining", "case": given.case, "share": given.share, "student": share, "rows": rows}
    report(["way", "seeds", *COLUMNS.values()], rows, body)


def shown(values: Sequence[float]) -> str:
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{fmean(values):.4g}{spread}"


if __name__ == "__main__":
    main()
