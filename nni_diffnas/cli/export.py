"""``nni-diffnas export``: a trained network as a diffusers pipeline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .arguments import ExperimentArgument, make_folder

__all__ = ["export"]


def export(
    experiment: ExperimentArgument,
    to: Annotated[Path | None, typer.Option(help="Folder of the pipeline; <experiment>/winner without it.")] = None,
    trial: Annotated[str | None, typer.Option(help="Id of another trial than the best.")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write the network as ONNX too, and check it.")] = False,
) -> None:
    """Write the winner (or a given trial) as a diffusers pipeline with a model card; also while the search runs."""
    from ..memory.experiment_folder import find_experiment
    from ..results.read import export_trial, read_search

    search = read_search(find_experiment(experiment))
    chosen = search.pick(trial)
    target = to or search.folder.path / "winner"
    make_folder(target)
    pipeline = export_trial(search.folder, search.job, chosen, target, search.trials)
    print(pipeline)
    if changed := search.data_changed():
        print(f"{changed}: the network was trained on what it was then.", file=sys.stderr)
    if onnx:
        from ..results.onnx_export import export_onnx

        print(export_onnx(pipeline))
