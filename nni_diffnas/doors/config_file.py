"""An NNI config as its user wrote it: read, or refused in a sentence, which NNI often has none for."""

from __future__ import annotations

import shlex
import traceback
from pathlib import Path
from typing import Any

from ..api.errors import JobError
from ..files.yaml_file import read_yaml

__all__ = ["check_command", "read_config"]


def read_config(path: Path) -> Any:
    """Read a config as NNI does.

    Returns:
        NNI's ``ExperimentConfig``, every field filled in.

    Raises:
        JobError: it is no config, or NNI does not accept it.
    """
    from nni.experiment.config import ExperimentConfig
    from nni.experiment.config.utils.internal import unset_base_path

    content = read_yaml(path, "Config")
    if not isinstance(content, dict):
        raise JobError(f"Config {str(path)!r} must hold fields such as 'searchSpaceFile:', not {str(content)[:100]!r}.")
    if {"space", "evaluator"} <= content.keys():
        raise JobError(f"{str(path)!r} is a job file: give the NNI config that names it in tuner.classArgs.")
    if "trainingServicePlatform" in content:
        raise JobError(
            f"Config {str(path)!r} is in the format of NNI 1: write it in today's, which 'nnictl create' prints "
            f"(examples/digits/config.yml is one)."
        )
    try:
        return ExperimentConfig.load(path).canonical_copy()
    except Exception as error:  # NNI raises assertions, type errors, key errors and its own for a bad config
        line = traceback.extract_tb(error.__traceback__)[-1].line  # all that an assertion says
        reason = " ".join((str(error) or f"it wants: {(line or '').removeprefix('assert ')}").split())[:300]
        raise JobError(f"NNI does not accept config {str(path)!r} ({reason}): correct it there.") from error
    finally:
        unset_base_path()  # NNI forgets to where it refuses a config, and then takes no other in this process


def check_command(command: str, place: Path, job: Path) -> str:
    """Refuse a ``trialCommand`` that trains another job than the tuner searches.

    Args:
        command: of the config.
        place: its ``trialCodeDirectory``.
        job: that the tuner searches.

    Returns:
        A remark on a command that is none of ours; else empty.

    Raises:
        JobError: as said.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise JobError(f"trialCommand {command!r} is no command ({error}): correct its quotes.") from error
    ours = any(Path(word).name in ("nni-diffnas", "nni_diffnas.cli") for word in words) and "trial" in words
    if not ours:
        return f"trialCommand {command!r} is not 'nni-diffnas trial JOB': it has to report what that would."
    named = words[words.index("trial") + 1 :]
    if not any((place / word).resolve() == job.resolve() for word in named if not word.startswith("-")):
        raise JobError(
            f"trialCommand {command!r} trains another job than tuner.classArgs searches, {str(job)!r}: name the same "
            f"in both."
        )
    return ""
