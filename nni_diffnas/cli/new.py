"""``nni-diffnas new``: the files of a search, from images, a budget and a time."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..api.errors import JobError
from .arguments import LAST_SEED, make_folder
from .writing import run_command, search_files, write_files

if TYPE_CHECKING:
    from ..planning.plan import SearchPlan

__all__ = ["new"]

NOTES = {
    "space": "The networks that are searched: the preset's default, and what may take its place.",
    "data": "What is learned. The part that is held out is never trained on: it ranks networks and judges.",
    "evaluator.training": "Every trial trains on so many images, repetitions counted.",
    "evaluator.loss_images": "Held-out images, with noise, that score a network while it trains and in the end.",
    "evaluator.extractor": "The images have no classes: the distance that is shown beside is one of random features.",
    "evaluator.threads": "Of the CPU, for each trial.",
    "objective": "What ranks networks: two trainings of one network agree on this loss, as they do not on a distance.",
    "seed": "Of the strategy and of every training.",
}
"""Field of the job to what is written above it."""

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_TIME = re.compile(rf"\s*(?:{_NUMBER}\s*h(?:(?:ou)?rs?)?)?\s*(?:{_NUMBER}\s*m(?:in(?:ute)?s?)?)?\s*", re.IGNORECASE)
"""Hours and minutes, in the words that there are for them: what is none of these ('30ms', '1h30') is not guessed at."""


def new(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder for the files: a new or an empty one.", metavar="FOLDER")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="What to learn: a folder or an archive of images, an .npz, or a known name.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Part of the default network's MACs, such as 0.5, or a latency, such as 8ms.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="For the whole search on this machine, such as 2h, 90m or 1h30m.")
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="How to search; DiffusionGuided without it.")] = None,
    size: Annotated[int | None, typer.Option(help="Cut and resize the images to size x size pixels.", min=1)] = None,
    channels: Annotated[int | None, typer.Option(help="1 turns colour to grey, 3 grey to colour.")] = None,
    preset: Annotated[str | None, typer.Option(help="Of the UNet space; the one for this size without it.")] = None,
    trials: Annotated[int | None, typer.Option(help="Their number, instead of what fits into the time.", min=1)] = None,
    images_per_trial: Annotated[
        int | None, typer.Option(help="Length of a trial's training, instead of what fits into the time.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the search.", min=0, max=LAST_SEED)] = 0,
) -> None:
    """Write job, config and search space of a search for the best network within a budget, in the time that there is.

    What is missing is asked for at a terminal. Number and length of the trials follow from a few steps that are timed,
    unless both are given.
    """
    home = Path(_asked("FOLDER", folder, "Folder for the files", "my-search"))
    _refuse_used(home)
    source = str(_asked("--images", images, "Images (a folder, an archive, an .npz, or digits)", None))
    share = str(_asked("--budget", budget, "Budget (part of the default network's MACs, or milliseconds)", "0.5"))
    sized = trials is not None and images_per_trial is not None
    hours = "1h" if sized else str(_asked("--time", time, "Time for the search on this machine", "2h"))
    seconds = _seconds(hours)
    from ..planning.plan import STRATEGY, plan_search

    if not sized:
        print("Timing a few training steps ...", flush=True)
    plan = plan_search(
        source, share, seconds, strategy=strategy or STRATEGY, size=size, channels=channels, preset=preset,
        trials=trials, images_per_trial=images_per_trial, seed=seed,
    )  # fmt: skip
    config = _write(make_folder(home), plan, share)
    for line in plan.data:
        print(line)
    _explain(plan, config)


def _asked(name: str, given: Any, question: str, default: str | None) -> Any:
    """What was given, or the answer of a user at a terminal."""
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise JobError(f"{name} is missing, and there is no terminal to ask for it: give it ({question}).")
    return typer.prompt(question, default=default)


def _refuse_used(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise JobError(f"{str(folder)!r} is not an empty folder: give another one for the files.")


def _seconds(text: str) -> float:
    """A time as people write it.

    Raises:
        JobError: it is none.
    """
    found = _TIME.fullmatch(text)
    hours, minutes = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0)
    if hours + minutes <= 0:
        raise JobError(f"The time is {text!r}: give hours and minutes, such as 2h, 90m or 1h30m.")
    return 3600 * hours + 60 * minutes


def _write(folder: Path, plan: SearchPlan, share: str) -> Path:
    from ..searching.formats import format_count

    budget = f"{share} of that" if "macs" in plan.job["budget"] else f"{share} on this machine"
    whole = f"The default network takes {format_count(plan.default_macs)}MACs an image; asked for was {budget}."
    several = plan.gpus > 1
    placed: dict[str, Any] = {"trialGpuNumber": 1, "trainingService": {"platform": "local", "useActiveGpu": True}}
    files = search_files(
        folder,
        plan.job,
        plan.validated.make_family().space.to_nni(),
        {"name": plan.strategy, "classArgs": plan.options},
        plan.sizes.trials,
        plan.sizes.workers,
        {**NOTES, "budget": whole, "space.preset": f"Planned: {plan.sizes}."},
        **(placed if several else {}),
    )
    write_files(files)
    return folder / "config.yml"


def _explain(plan: SearchPlan, config: Path) -> None:
    from ..planning.sizes import RULE

    print(f"{plan.sizes}. {RULE}" if math.isfinite(plan.sizes.seconds) else plan.sizes)
    print(f"Look at what was written, and change it if you like: {config}, and job.yml beside it. Then:")
    print(run_command(config))
