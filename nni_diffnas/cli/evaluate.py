"""``nni-diffnas evaluate``: any pipeline against any images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .arguments import LAST_SEED, make_folder

__all__ = ["evaluate"]


def evaluate(
    pipeline: Annotated[Path, typer.Argument(help="Folder of a diffusers pipeline.", metavar="PIPELINE")],
    data: Annotated[list[str], typer.Option(help="Job file, or a data source and further fields as name=value.")],
    output: Annotated[Path, typer.Option(help="Folder of the images and scores; a killed evaluation goes on there.")],
    protocol: Annotated[str, typer.Option(help="rfid, fid10k or fid50k (the published one).")] = "rfid",
    extractor: Annotated[str | None, typer.Option(help="inception, inception-768, labels or random.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Inception's; torch-fidelity downloads them otherwise.")] = None,
    images: Annotated[int | None, typer.Option(help="To generate; the protocol's without it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the sampler; the protocol's without it.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Class of a diffusers scheduler.")] = None,
    batch: Annotated[int, typer.Option(help="Images at once, halved while the memory is short.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of the first image.", min=0, max=LAST_SEED)] = 0,
    trust_remote_code: Annotated[bool, typer.Option(help="Let a pipeline's own Python files run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast the time, and stop.")] = False,
) -> None:
    """Score any diffusers pipeline against any images; the last line printed is JSON."""
    from ..plugins import find_plugin

    folder = output if dry_run else make_folder(output)
    text, score = find_plugin("commands", "evaluate")(
        pipeline, protocol, data, folder, extractor=extractor, weights=weights, image_count=images, steps=steps,
        sampler=sampler, batch=batch, seed=seed, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    print(text)
    if score:
        print(json.dumps(score))
