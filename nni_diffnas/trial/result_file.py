"""`TrialRecord`: what a trial writes of itself into its output folder, and what it reads there of its predecessors.

NNI says neither why a trial failed nor, after a crash, which one has finished; the file `RESULT_FILE` does. A trial
that is started again after a resume finds its earlier result there and reports it instead of training once more; one
that a dead manager left running finds that another has taken its place, and ends.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.ending import Ending
from ..api.errors import DiffNASError
from ..language_model.redaction import Redactor
from ..plugins import SHORT_OF_MEMORY

__all__ = ["RESULT_FILE", "TrialRecord", "failure_in", "reason_of", "short_of_room"]

RESULT_FILE = "result.json"
"""In a trial's output folder: its id from the start, and in the end its metrics or the reason of its failure."""

_RESERVED = 4096
"""Bytes that the file takes from the start, so that a reason can still be written when the disk is full."""


_FULL = ("No space left on device", "File too large", "Disk quota exceeded", " requested and ")
"""How the system says it; the last is NumPy's, which asks nobody why less was written."""

_NO_MEMORY = ("out of memory", "allocate memory", SHORT_OF_MEMORY)


def reason_of(error: BaseException) -> str:
    """Say in one line, without keys of the environment, why a trial failed."""
    text = Redactor().text(" ".join(str(error).split()))
    if short := short_of_room(error):
        return f"{short}: {text or 'no more could be allocated'}"
    return text if isinstance(error, DiffNASError) else f"{type(error).__name__}: {text}"


def short_of_room(error: BaseException) -> str:
    """Say that memory or disk have run out, where an error tells of that; otherwise empty."""
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY):
        return "out of memory"
    return "the disk is full" if any(sign in text for sign in _FULL) else ""


def failure_in(result: Mapping[str, Any]) -> str | Ending | None:
    """Why a trial failed, by what it wrote; ``None`` where it wrote nothing of a failure.

    Args:
        result: as `TrialRecord.read` returns it; that of version 0.1 knows sentences only.
    """
    if "failure" not in result:
        return None
    sentence = str(result["failure"])
    return Ending(result["ending"]) if "ending" in result else Ending.of_sentence(sentence) or sentence


def finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without numbers that are not finite: NNI's JSON and its web UI know none."""
    return {name: value for name, value in metrics.items() if not isinstance(value, float) or math.isfinite(value)}


def _written(field: tuple[str, Any]) -> bool:
    """Whether a field of the file has the type that trials give it."""
    name, value = field
    if name in ("trial", "process", "failure"):
        return isinstance(value, str)
    if name == "metrics":
        return isinstance(value, dict) and all(isinstance(measured, int | float | list) for measured in value.values())
    return True


class TrialRecord:
    """The record of one trial, written by the process that runs it.

    Args:
        folder: output folder of the trial; exists.
        trial_id: of the trial; empty for one that runs alone.
    """

    def __init__(self, folder: Path, trial_id: str = "") -> None:
        self.folder, self.trial_id = folder, trial_id
        self._process = uuid.uuid4().hex

    @property
    def _file(self) -> Path:
        return self.folder / RESULT_FILE

    @staticmethod
    def read(file: Path) -> dict[str, Any]:
        """What a trial wrote; empty where there is nothing, nothing whole, or something that no trial writes."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) and all(map(_written, content.items())) else {}

    def _write(self, content: Mapping[str, Any]) -> None:
        text = json.dumps({"trial": self.trial_id, "process": self._process, **content}, indent=1).encode()
        # In place: what the file has is never given back to a disk that others are filling.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, text.ljust(_RESERVED), 0)
            os.ftruncate(descriptor, max(len(text), _RESERVED))
        finally:
            os.close(descriptor)

    def claim(self) -> None:
        """Say that this process runs the trial; `doors.experiment.TrialJobs` tells why NNI cannot say.

        The result of another trial, which NNI ran in this folder before a resume, is kept beside.
        """
        before = self.read(self._file)
        if "metrics" in before and before.get("trial", "") not in ("", self.trial_id):
            # The folder may be a stranger's: whatever he calls his trial, the file stays here.
            self._file.rename(self.folder / f"result-{re.sub(r'[^A-Za-z0-9._-]', '_', before['trial'])[:100]}.json")
        self._write({})

    @property
    def replaced(self) -> bool:
        """Whether another process runs this trial by now."""
        return bool(self.trial_id) and self.read(self._file).get("process", self._process) != self._process

    def fail(self, reason: str | Ending) -> None:
        """Write down why the trial failed."""
        known = {"ending": reason.value} if isinstance(reason, Ending) else {}
        sentence = reason.sentence if isinstance(reason, Ending) else reason
        try:
            self._write({"failure": sentence[: _RESERVED // 2], **known})
        except OSError as error:
            print(f"nni-diffnas: the reason of the failure could not be recorded: {error}", file=sys.stderr, flush=True)

    def succeed(self, result: Mapping[str, Any]) -> None:
        """Write down the result; a full disk is no reason to lose it, since NNI is told as well."""
        try:
            self._write(result)
        except OSError as error:
            print(f"nni-diffnas: the result could not be saved, only reported: {error}", file=sys.stderr, flush=True)

    def earlier(self) -> dict[str, Any] | None:
        """The result of the same trial from before a resume; ``None`` where it has not been finished on this host.

        It may lie in the folder of another job, see `doors.experiment.TrialJobs`. What another trial has left in this
        folder is then replaced by it: nobody must take that for the end of this job's trial.
        """
        if not self.trial_id:
            return None
        # Locally a job's folder is its output; on other machines the output lies within it.
        elsewhere = self.folder.name == "nnioutput"
        jobs, pattern = (self.folder.parents[1], f"*/{self.folder.name}/") if elsewhere else (self.folder.parent, "*/")
        for file in jobs.glob(f"{pattern}result*.json"):
            content = self.read(file)
            if content.get("trial") == self.trial_id and "metrics" in content:
                if self.read(self._file).get("trial", self.trial_id) != self.trial_id:
                    self.claim()
                    self.succeed({name: value for name, value in content.items() if name not in ("trial", "process")})
                return content
        return None
