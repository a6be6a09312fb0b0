"""What several subcommands take: a job, an experiment, files that are read or written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..api.errors import DiffNASError

if TYPE_CHECKING:
    from ..api.cost import Budget
    from ..api.evaluation import Evaluation
    from ..api.family import Family
    from ..api.space import Architecture

__all__ = [
    "LAST_SEED",
    "ArchitectureOption",
    "ExperimentArgument",
    "JobArgument",
    "find_architecture",
    "known_networks",
    "make_folder",
    "plan_training",
    "read_architecture",
    "write_file",
]

JobArgument = Annotated[Path, typer.Argument(help="Job file (YAML).", metavar="JOB")]
ExperimentArgument = Annotated[str, typer.Argument(help="Experiment id, or its folder.", metavar="EXPERIMENT")]
ArchitectureOption = Annotated[
    Path | None,
    typer.Option(
        help="Architecture file (JSON), or the name of a network that 'nni-diffnas cost JOB' lists; the default "
        "network without it.",
        metavar="FILE|NAME",
    ),
]

LAST_SEED = 2**31 - 1
"""As of a job: torch, NumPy and NNI all take it."""


def write_file(file: Path, text: str) -> None:
    """Write a file that the user named.

    Raises:
        JobError: it cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise _refused(file, error) from error


def make_folder(path: Path) -> Path:
    """Make a folder that the user named, where it is not there, before anything is done for it.

    Raises:
        JobError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from error
    return path


def _refused(path: Path, error: OSError) -> DiffNASError:
    from ..api.errors import JobError

    return JobError(f"{str(path)!r} cannot be written ({error.strerror}): give another path.")


def read_architecture(file: Path) -> dict[str, Any]:
    """Read a JSON file of labels and values, or one that holds it as ``architecture``.

    Raises:
        JobError: it holds none.
    """
    from ..api.errors import JobError

    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise JobError(f"Architecture file {str(file)!r} cannot be read as JSON: {error}.") from error
    content = content.get("architecture", content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise JobError(f"Architecture file {str(file)!r} must hold an object of labels and values.")
    return content


def known_networks(family: Family, budget: Budget) -> dict[str, tuple[str, Architecture]]:
    """Name to origin and architecture of what meets a budget without a search: by hand, and recommended."""
    found = {name: ("by hand", each) for name, each in family.scaled(budget).items()}
    return found | {name: ("recommended", each) for name, each in family.recommended(budget).items()}


def find_architecture(given: Path, family: Family, budget: Budget) -> dict[str, Any]:
    """What a file holds, or one of `known_networks` by its name.

    Raises:
        JobError: it is neither, or the file holds none.
    """
    from ..api.errors import JobError

    known = {} if os.path.exists(given) else known_networks(family, budget)  # False, too, for a name that is too long
    if str(given) in known:
        return dict(known[str(given)][1])
    if known:
        names = ", ".join(repr(name) for name in known)
        raise JobError(f"{str(given)!r} is no architecture file: name one, or a network of the job's budget: {names}.")
    return read_architecture(given)


def plan_training(family: Family, evaluation: Evaluation, architecture: Architecture) -> dict[str, Any]:
    """What would be trained, and how."""
    cost = family.cost(architecture).as_metrics()
    return {"architecture": architecture, "cost": cost, "protocol": evaluation.protocol, **evaluation.resolved()}
