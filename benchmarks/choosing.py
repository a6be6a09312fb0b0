"""Which students are worth retraining? Ways to choose one within a budget, by what it comes to at equal compute.

    python benchmarks/choosing.py --case digits

For each seed the supernet of every block is trained once. The knapsack then chooses by the loss of the blocks' outputs
(``blocks``), by that of the network's prediction with one block swapped into the teacher (``swapped``), and by how well
its six best by the blocks' losses recover in a short retraining (``recovered``); beside it stand a random student of
equal cost, and the one that makes the same choice in every block. All are retrained by the defaults, with the same part
of the teacher's training. Beside them stand UNets within the budget that are thinner everywhere: one that the teacher
teaches for the same part, and one that learns by itself for as long as the teacher did.
The teacher is the one of ``retraining.py``, and so are the scores. Every finished training is kept in the journal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from reporting import report
from students import COLUMNS, Studied, measured, opened, options, retrained, shown, uniform
from teachers import budget_of, evaluation, thinner, trained

from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import UNRANKED
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.blockwise.choosing import compare_paths, front_of
from nni_diffnas.evaluators.blockwise.supernet import train_supernet
from nni_diffnas.evaluators.blockwise.swapping import swapped_losses
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import BlockwiseLocalSearch
from nni_diffnas.strategies.blockwise.choices import choose_randomly, knapsack
from nni_diffnas.strategies.blockwise.fronts import Front, Point

JOURNAL = Path(__file__).parent / "journals" / "choosing.jsonl"
CHOSEN, WHOLE = ("blocks", "swapped", "recovered", "random", "uniform"), ("thinner, taught", "thinner, in full")
SPACES: dict[str, dict[str, Any]] = {
    "shapes": {},
    "layers": {"drop_residual": True, "drop_attention": True},
    "kinds": {"kinds": ["residual", "convnext"], "resample": ["convolution", "pool"]},
}
"""Options of the family of students."""
KEPT = (*COLUMNS, "macs", "params")
SWAP_IMAGES, CANDIDATES = 64, 6


def fronts(studied: Studied, seed: int) -> tuple[dict[str, list[Front]], float]:
    """Fronts of all blocks by the losses of the blocks and of the network, from the same supernets; and the
    multiply-accumulates of the search, swapping left out.
    """
    family = studied.family
    judge, teacher = evaluation(studied.case, 1), TeacherPipeline(family)
    settings, chosen = judge.settings.supernet, judge.images.training
    clean, kept = teacher.encode(torch.from_numpy(judge.images.pixels[chosen])), judge.supernets(teacher)
    found: dict[str, list[Front]] = {"blocks": [], "swapped": []}
    spent = 0.0
    for block in family.blocks:
        torch.manual_seed(seed)
        supernet: Any = family.supernet(block.name, teacher.network)
        images = NoisedImages(teacher, clean, None, seed)
        ready = train_supernet(supernet, block, teacher, images, settings, seed, lambda loss, step: None)
        kept.keep(supernet, block, seed)
        choosing = compare_paths(supernet, block, ready, settings, seed)
        spent += ready.macs + ready.teacher_macs + choosing.macs
        front = front_of(block, choosing, settings.front)
        paths, batch = [scored.path for scored in front], images.draw(SWAP_IMAGES)
        swapped = swapped_losses(teacher, family.block_path(block.name), supernet, paths, batch)
        for kind, losses in (("blocks", [scored.loss for scored in front]), ("swapped", swapped)):
            points = tuple(Point(path, block.cost(path), loss) for path, loss in zip(paths, losses, strict=True))
            found[kind].append(Front(block, points, losses[paths.index(block.teacher)]))
        print(f"  block {block.name}, seed {seed}: loss {ready.loss:.3f}", file=sys.stderr, flush=True)
    return found, spent


def students(studied: Studied, seed: int) -> dict[str, Any]:
    """One student of each kind, and what the search took."""
    family = studied.family
    budget, students = budget_of(family), dict[str, Architecture]()
    found, spent = fronts(studied, seed)
    for kind, measured_fronts in found.items():
        students[kind] = family.assemble(point.path for point in knapsack(measured_fronts, family.fixed, budget))
    students["recovered"], probing = recovered(studied, found["blocks"], seed)
    students["random"] = choose_randomly(family, family.cost(students["blocks"]).macs, "macs", budget, seed)
    return {"students": {**students, "uniform": uniform(family)}, "search_macs": spent, "probe_macs": probing}


def recovered(studied: Studied, found: Sequence[Front], seed: int) -> tuple[Architecture, float]:
    """The student that `BlockwiseLocalSearch` finds among candidates, and the multiply-accumulates of their probes."""
    family, spent = studied.family, 0.0
    strategy = BlockwiseLocalSearch(candidates=CANDIDATES, score_teacher=False, budget=budget_of(family), seed=seed)
    search = Search(strategy, family.space, family, "choosing")
    for trial, front in zip(search.ask(len(found)), found, strict=True):
        rows = [[0, 0, -1.0, point.loss, *point.path] for point in front.points]
        search.tell(trial.id, {UNRANKED: 1, "front": rows, "teacher_loss": front.teacher_loss})
    while (trial := search.ask(1)[0]).settings["task"] == "probe":
        metrics = retrained(studied, {}, seed, trial.architecture, trial.settings)
        spent += metrics["train_macs"]
        search.tell(trial.id, metrics)
        print(f"  candidate {trial.id}, seed {seed}: gap {metrics['gap']:.4f}", file=sys.stderr, flush=True)
    return trial.architecture, spent


def thinner_network(studied: Studied, kind: str, seed: int, folder: Path) -> dict[str, Any]:
    """Metrics of the thinner UNet, trained by either way."""
    case, taught = studied.case, kind == "thinner, taught"
    name = f"thinner-{seed}" + (f"-taught-{case.student_share:g}" if taught else "")
    widths = thinner(case, budget_of(studied.family), folder)
    pipeline, metrics = trained(case, name, widths, seed, folder, studied.family if taught else None)
    network = BlockwiseUNetFamily(pipeline).teacher()
    return {**metrics, **measured(evaluation(case, 1), network, studied.network)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, JOURNAL)
    parser.add_argument("--kinds", nargs="*", choices=(*CHOSEN, *WHOLE), default=CHOSEN)
    parser.add_argument("--space", choices=SPACES, default="shapes", help="what a student may differ in")
    given = parser.parse_args(arguments)
    studied, journal = opened(given), Journal(given.journal)
    studied = replace(studied, family=BlockwiseUNetFamily(studied.pipeline, **SPACES[given.space]))
    results: dict[str, list[dict[str, Any]]] = {kind: [] for kind in given.kinds}
    searches: list[float] = []
    for seed in range(given.seeds):
        about = (given.case, studied.metrics["train_macs"], studied.case.block_steps, given.space, seed)
        chosen: dict[str, Any] = {}
        if not set(given.kinds) <= set(WHOLE):
            record = {"case": given.case, "space": given.space, "seed": seed}
            chosen = journal.once(
                fingerprint("choosing", *about),
                lambda seed=seed, record=record: {**record, **students(studied, seed)},
            )
            searches.append(chosen["search_macs"] / studied.metrics["train_macs"])
        for kind in given.kinds:
            architecture = None if kind in WHOLE else chosen["students"][kind]

            def make(kind: str = kind, seed: int = seed, architecture: Any = architecture) -> dict[str, Any]:
                if architecture is None:
                    metrics = thinner_network(studied, kind, seed, given.folder / given.case)
                else:
                    metrics = retrained(studied, {}, seed, architecture)
                kept = {name: metrics[name] for name in KEPT}
                named = {"case": given.case, "space": given.space, "share": given.share, "kind": kind, "seed": seed}
                return {**named, "samples": given.samples, "metrics": kept}

            network = kind if architecture is None else sorted(architecture.items())
            key = fingerprint("chosen", *about, None if kind == WHOLE[1] else given.share, given.samples, network)
            results[kind].append(journal.once(key, make)["metrics"])
            print(f"{kind}, seed {seed}: {results[kind][-1]}", file=sys.stderr, flush=True)
    columns = {**COLUMNS, "macs": "MACs", "params": "parameters"}
    rows = [
        [kind, len(found), *(shown([metrics[name] for metrics in found]) for name in columns)]
        for kind, found in (("teacher", [studied.metrics]), *results.items())
    ]
    body = {"benchmark": "choosing", "case": given.case, "space": given.space, "search": searches, "rows": rows}
    report(["chosen by", "seeds", *columns.values()], rows, body)


if __name__ == "__main__":
    main()
