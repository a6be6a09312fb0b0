"""``nni-diffnas shrink``: a trained pipeline, a part of its cost: the whole block-wise search in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .arguments import LAST_SEED, make_folder
from .doctor import doctor
from .export import export
from .verdict import verdict
from .writing import run_command, search_files, write_files

__all__ = ["shrink"]

ATTEMPTS = 3
"""At the teacher, at each block and at the student, for which the search has to have room."""


def shrink(
    pipeline: Annotated[Path, typer.Argument(help="Folder of a trained diffusers pipeline.", metavar="PIPELINE")],
    data: Annotated[
        str, typer.Option(help="Images to learn from, like those the pipeline makes: a folder, an archive, an .npz.")
    ],
    macs: Annotated[float, typer.Option(help="Part of the UNet's MACs that may be left.", min=0.01, max=0.99)] = 0.5,
    params: Annotated[
        float | None, typer.Option(help="Part of the UNet's parameters that may be left.", min=0.01, max=1.0)
    ] = None,
    images: Annotated[
        int, typer.Option(help="That the student is retrained on: a tenth of what the pipeline has seen, say.", min=1)
    ] = 50_000,
    steps: Annotated[int, typer.Option(help="Of training, for each block of the UNet.", min=1)] = 2000,
    size: Annotated[int | None, typer.Option(help="Cut and resize the images to size x size pixels.", min=1)] = None,
    channels: Annotated[int | None, typer.Option(help="1 turns colour to grey, 3 grey to colour.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text for a pipeline that reads texts; once, or once for each class.")
    ] = None,
    extractor: Annotated[
        str | None, typer.Option(help="Of the score; random for images without classes, labels without it.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Folder for job, config, student and verdict.")] = None,
    seeds: Annotated[int, typer.Option(help="Fresh seeds of the verdict, 2 or more; 0: none.", min=0)] = 3,
    seed: Annotated[int, typer.Option(help="Of the search.", min=0, max=LAST_SEED)] = 0,
    workers: Annotated[int, typer.Option(help="Trainings at once.", min=1)] = 1,
    port: Annotated[int, typer.Option("--port", "-p", help="Port of NNI's web server.", min=1, max=65535)] = 8080,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the files, check them, forecast, and stop.")
    ] = False,
) -> None:
    """Find the smaller student of a trained pipeline: write job and config, run them through NNI, judge what came out.

    The same command goes on from a dry run. 'nni-diffnas run' runs the files, after changes too; 'nnictl resume' goes
    on with a search that was stopped.
    """
    from ..api.errors import JobError
    from ..doors.register import register_tuners
    from ..job import data_source
    from ..plugins import find_plugin

    if seeds == 1:
        raise JobError("--seeds is 1: give 2 or more, whose scatter says how sure the verdict is, or 0 for none.")
    family = find_plugin("spaces", "blockwise")(teacher=pipeline.resolve())
    folder = to or Path(f"{pipeline.resolve().name}-shrunk")
    by_hand = run_command(folder / "config.yml")
    if (folder / "experiments").exists():
        raise JobError(
            f"{str(folder)!r} holds a search that has begun: go on with it by 'nnictl resume', run it anew by "
            f"{by_hand!r}, or give another folder by --to."
        )
    whole = family.teacher_cost
    budget = {"macs": {"max": int(macs * whole.macs)}}
    if params is not None:
        budget["params"] = {"max": int(params * whole.params)}
    shown = {"source": data_source(data), "size": size, "channels": channels}
    known = {name: value for name, value in shown.items() if value is not None}
    evaluator: dict[str, Any] = {"type": "blockwise", "supernet": {"steps": steps}, "training": {"images": images}}
    if extractor or find_plugin("evaluators", "diffusion")({**known, "held_out": 0.0}).images.classes < 2:
        evaluator["extractor"] = extractor or "random"
    if prompt:
        evaluator["prompts"] = list(prompt)
    job = {
        "space": {"type": "blockwise", "teacher": str(pipeline.resolve())},
        "data": known,
        "evaluator": evaluator,
        "objective": {"metric": "rfid", "direction": "minimize"},
        "budget": budget,
        "seed": seed,
    }
    tuner, trials = {"name": "BlockwiseLocalSearch"}, ATTEMPTS * (len(family.blocks) + 2)
    files = search_files(folder, job, family.space.to_nni(), tuner, trials, workers)
    there = [file for file in files if file.exists()]
    if any(file.read_text(errors="replace") != files[file] for file in there):
        raise JobError(
            f"{str(folder)!r} holds other files of a search: run those by {by_hand!r}, or give another folder by --to."
        )
    make_folder(folder)
    write_files(files)
    register_tuners()
    config = folder / "config.yml"
    try:
        doctor(config, port)
    except typer.Exit:  # other options are no reason for another folder
        for file in files if not there else ():
            file.unlink()
        raise
    if dry_run:
        print(f"Nothing was trained: the same command without --dry-run goes on, or {by_hand!r} after changes.")
        return
    from ..doors.foreground import run_config

    identity = run_config(config, port)
    export(identity, folder / "student")
    if seeds:
        verdict(identity, str(seeds), workers=workers, output=folder / "verdict")
    print(f"Search {identity}: its student is in {folder / 'student'}, 'nni-diffnas report {identity}' shows it all.")
