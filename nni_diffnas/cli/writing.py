"""The three files of a search, commented, for who wants to edit them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..process.terminal import printable
from .arguments import write_file

__all__ = ["CONFIG_NOTES", "commented", "run_command", "search_files", "write_files"]

CONFIG_NOTES = {
    "searchSpaceFile": "What there is to choose; strike out values that you do not want.",
    "trialCommand": "Runs one trial, by the Python that wrote this.",
    "trialConcurrency": "Trials at once.",
    "maxTrialNumber": "Trials of the whole search.",
    "experimentWorkingDirectory": "Everything that the search leaves: memory, trials, the winner's pipeline.",
    "tuner.name": "The strategy, and its options below.",
    "tuner.classArgs.halving": "Of the trials that have come as far, only the best one of so many goes on.",
}
"""Field of a config to what is written above it."""


def search_files(
    folder: Path,
    job: Mapping[str, Any],
    space: Mapping[str, Any],
    tuner: Mapping[str, Any],
    trials: int,
    workers: int,
    notes: Mapping[str, str] | None = None,
    **further: Any,
) -> dict[Path, str]:
    """``job.yml``, ``search_space.json`` and, last, ``config.yml``: path to text.

    Args:
        folder: where they are to lie.
        job: as of `nni_diffnas.job.Job`.
        space: as NNI reads it.
        tuner: ``name`` and ``classArgs`` without those that follow from the job.
        trials: of the search.
        workers: trials at once.
        notes: field of the job, such as ``evaluator.training``, to what is written above it.
        **further: fields of the config.
    """
    known = {"job": "job.yml", "optimize_mode": job["objective"]["direction"]}
    config = {
        "experimentName": folder.resolve().name,
        "searchSpaceFile": "search_space.json",
        "trialCommand": f"{shlex.quote(sys.executable)} -m nni_diffnas.cli trial job.yml",
        "trialCodeDirectory": ".",
        "trialConcurrency": workers,
        "maxTrialNumber": trials,
        "experimentWorkingDirectory": str(folder.resolve() / "experiments"),
        "logLevel": "warning",
        "tuner": {**tuner, "classArgs": {**known, **tuner.get("classArgs", {})}},
        "trainingService": {"platform": "local"},
        **further,
    }
    heading = _comment(run_command(folder / "config.yml"))
    return {
        folder / "job.yml": "".join(commented(job, notes or {})),
        folder / "search_space.json": json.dumps(space, indent=2) + "\n",
        folder / "config.yml": heading + "".join(commented(config, CONFIG_NOTES)),
    }


def write_files(files: Mapping[Path, str]) -> None:
    """Write files into a folder that exists.

    Raises:
        JobError: one cannot be written.
    """
    for file, text in files.items():
        write_file(file, text)


def run_command(config: Path) -> str:
    """The command that runs a config, as a shell takes it, and no option of a name that begins with a dash."""
    path = f"./{config}" if str(config).startswith("-") else str(config)
    return f"nni-diffnas run {shlex.quote(path)}"


def commented(content: Mapping[str, Any], notes: Mapping[str, str], at: str = "") -> Iterator[str]:
    """Write fields as lines of YAML, a comment above those that have one.

    Args:
        content: fields, which may hold fields.
        notes: place of a field, such as ``evaluator.training``, to its comment.
        at: place of the fields themselves.
    """
    indent = "  " * at.count(".")
    for name, value in content.items():
        if note := notes.get(f"{at}{name}"):
            yield f"{indent}{_comment(note)}"
        if isinstance(value, Mapping) and value:
            yield f"{indent}{yaml.safe_dump(name).splitlines()[0]}:\n"
            yield from commented(value, notes, f"{at}{name}.")
        else:
            yield from (
                f"{indent}{line}\n" for line in yaml.safe_dump({name: value}, sort_keys=False, width=1000).splitlines()
            )


def _comment(text: str) -> str:
    """A comment of one line, whatever line breaks a folder's name has."""
    return f"# {printable(text)}\n"
