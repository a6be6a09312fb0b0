"""`Transcript`: every exchange with a language model and every event of the search, in order, as lines of JSON.

The file opens with a ``head`` (format, model, server, space, task). Each line has its number ``n`` and an ``event``:

    check      the small request before the search, which finds a wrong key
    asked      a round begins: ``round``, ``wanted``
    exchange   a question, all tries, and the answer: ``round``, ``step``, ``messages``, ``attempts``, ``answer``
    accepted   a proposal that will be trained: ``round``, ``step``, ``slot``, ``architecture``, ``reason``
    rejected   one that will not, and why
    filled     what took the place of a missing proposal, or of one that was late: ``round``, ``slot``,
               ``architecture``, ``parent``
    handed     what goes to free workers, in this order: ``slots``, pairs of round and slot
    ended      a trial ended, with its score or reason
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nni_diffnas.api.errors import JobError

from .redaction import Redactor

__all__ = ["FORMAT", "Transcript", "read_transcript"]

FORMAT = "nni-diffnas transcript 1"

_logger = logging.getLogger(__name__)


def read_transcript(path: Path) -> list[dict[str, Any]]:
    """Read all lines; a last line that a killed process left half written is ignored.

    Raises:
        JobError: no such file, or no transcript.
    """
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        # Answers may hold characters that `splitlines` takes for the end of a line, such as U+2028.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(
            f"Transcript {str(path)!r} cannot be read ({error}): give the path of a transcript.jsonl."
        ) from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            known = isinstance(entry, dict) and isinstance(entry["event"], str)
        except (ValueError, KeyError, RecursionError) as error:
            if number == len(lines) and number > 1:
                return
            raise JobError(f"Line {number} of transcript {str(path)!r} is not one of ours: {error}.") from error
        if not known or (number == 1 and entry.get("format") != FORMAT):
            raise JobError(f"{str(path)!r} is no transcript ({FORMAT!r}): give the path of a transcript.jsonl.")
        yield entry


class Transcript:
    """Appends to a transcript; an existing one of the same space is continued.

    Args:
        path: of the file; its folder is made.
        head: what the file is about.
        redactor: takes keys out of every line.

    Raises:
        JobError: the file cannot be written, or belongs to another search space.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], redactor: Redactor) -> None:
        self.path, self._redactor = path, redactor
        self._next, self.last_round = 0, 0
        self._broken = False
        self._lock = threading.Lock()
        before = read_transcript(path) if path.is_file() and path.stat().st_size else []
        if before:
            if before[0].get("space") != head.get("space"):
                raise JobError(
                    f"Transcript {str(path)!r} belongs to another search space: name another file, or remove it."
                )
            self._next = len(before)
            self.last_round = max((int(entry.get("round", 0)) for entry in before), default=0)
            text = path.read_text(encoding="utf-8")
            if not text.endswith("\n"):  # a killed process left half a line
                path.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
        except OSError as error:
            raise JobError(f"Transcript {str(path)!r} cannot be written: {error.strerror}.") from error
        self.write("head", {"format": FORMAT, **head})

    def write(self, event: str, body: Mapping[str, Any]) -> None:
        """Append one line and hand it to the operating system at once."""
        with self._lock:  # questions that are asked at once end in threads of their own
            self._write(event, body)

    def _write(self, event: str, body: Mapping[str, Any]) -> None:
        line = json.dumps(self._redactor.body({"n": self._next, "event": event, **body}), ensure_ascii=False)
        self._next += 1
        try:
            with self.path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(line + "\n")
        except OSError as error:
            if not self._broken:  # a full disk shall not end the search; it says so once
                self._broken = True
                _logger.warning("Transcript %s cannot be written any more: %s.", self.path, error.strerror)
