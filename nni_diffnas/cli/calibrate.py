"""``nni-diffnas calibrate``: whether the score ranks networks, and how cheaply it can."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import JobArgument, make_folder

__all__ = ["calibrate"]


def calibrate(
    job: JobArgument,
    output: Annotated[Path, typer.Option(help="Folder of trainings, report and plot; a killed calibration goes on.")],
    networks: Annotated[int, typer.Option(help="Networks, spread over the job's range of MACs.")] = 12,
    seeds: Annotated[int, typer.Option(help="Trainings of each network and length.")] = 2,
    longer: Annotated[
        float, typer.Option(help="Training of the reference as a multiple of the job's.", min=0.01, max=1e6)
    ] = 10.0,
    tau: Annotated[
        float, typer.Option(help="Kendall's tau that the recommended protocol has to reach.", min=-1, max=1)
    ] = 0.6,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and how long.")] = False,
) -> None:
    """Find the cheapest protocol that ranks the job's networks as a long training does."""
    from ..job import load_job
    from ..plugins import find_plugin

    run = find_plugin("commands", "calibrate")
    print(run(load_job(job), output if dry_run else make_folder(output), networks, seeds, longer, tau, dry_run=dry_run))
