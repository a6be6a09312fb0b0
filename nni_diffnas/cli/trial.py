"""``nni-diffnas trial``: one architecture, inside NNI or alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .arguments import LAST_SEED, ArchitectureOption, JobArgument, find_architecture, make_folder, plan_training

__all__ = ["trial"]


def trial(
    job: JobArgument,
    arch: ArchitectureOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder for weights, samples and logs.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the training; the job's without it.", min=0, max=LAST_SEED)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
) -> None:
    """Train and score one architecture, inside NNI or alone. The last line printed is JSON."""
    from ..job import load_job
    from ..trial.run import run_trial

    loaded = load_job(job)
    architecture = find_architecture(arch, loaded.make_family(), loaded.make_budget()) if arch else None
    if dry_run:
        family, evaluation = loaded.make_family(), loaded.make_evaluation()
        chosen = family.space.validate(architecture or family.default)
        print(json.dumps(plan_training(family, evaluation, chosen)))
        return
    folder = None if output is None else make_folder(output)
    print(json.dumps(run_trial(loaded, architecture, output=folder, seed=seed)))
