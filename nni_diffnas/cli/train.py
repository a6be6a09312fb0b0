"""``nni-diffnas train``: one architecture, longer than in the search."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .arguments import LAST_SEED, ArchitectureOption, JobArgument, find_architecture, make_folder, plan_training

__all__ = ["train"]


def train(
    job: JobArgument,
    output: Annotated[Path, typer.Option(help="Folder for weights, samples, logs and the pipeline.")],
    arch: ArchitectureOption = None,
    longer: Annotated[float, typer.Option(help="Training as a multiple of the job's.", min=0.01, max=1e6)] = 10.0,
    seed: Annotated[
        int | None, typer.Option(help="Of the training; the job's without it.", min=0, max=LAST_SEED)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
) -> None:
    """Train one architecture longer than the search did and export it as a diffusers pipeline."""
    from ..api.evaluation import TrialContext
    from ..job import load_job
    from ..results.export import export_pipeline
    from ..results.read import WEIGHTS
    from ..trial.run import build_seeded

    loaded = load_job(job)
    family, evaluation = loaded.make_family(), loaded.make_evaluation().longer(longer)
    given = find_architecture(arch, family, loaded.make_budget()) if arch else family.default
    chosen = family.space.validate(given)
    if dry_run:
        print(json.dumps(plan_training(family, evaluation, chosen)))
        return
    make_folder(output)
    evaluation.prepare()

    def report(metrics: Any) -> None:
        print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()), file=sys.stderr, flush=True)

    context = TrialContext(chosen, output, loaded.seed if seed is None else seed, report, family=family)
    metrics = evaluation.evaluate(build_seeded(family, chosen, context.seed), context)
    scheduler = evaluation.scheduler_config()
    if scheduler is not None:
        print(export_pipeline(family, chosen, output / WEIGHTS, scheduler, output / "pipeline"), file=sys.stderr)
    print(json.dumps(metrics))
