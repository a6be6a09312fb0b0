"""`MemoryJournal`: the ordered events of a `SearchMemory` and the states of its strategies, on one `MemoryFile`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..api.errors import DiffNASError, MemoryFileError, StrategyError
from .file import MemoryFile

__all__ = ["Event", "MemoryJournal", "matching", "understood", "write_json"]


@dataclass(frozen=True)
class Event:
    """One entry of the journal.

    Args:
        number: position in the journal of the whole memory, growing.
        time: wall clock, seconds since 1970.
        experiment: whose entry it is.
        kind: of a trial ``submitted``, ``changed``, ``succeeded`` or ``failed``; otherwise what `SearchMemory.log` got.
        trial: id of the trial, ``None`` for entries of `SearchMemory.log`.
        body: what was logged; of a trial, the fields that changed.
    """

    number: int
    time: float
    experiment: str
    kind: str
    trial: str | None
    body: dict[str, Any]


def write_json(body: Any) -> str:
    """The text that is stored for ``body``.

    Raises:
        StrategyError: the body is not JSON.
    """
    try:
        return json.dumps(body, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StrategyError(
            f"The search memory cannot keep this: {error}; give it plain numbers, strings, lists and dictionaries."
        ) from error


def _check_keys(body: Any) -> None:
    """Refuse keys that JSON would quietly turn into strings."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            if not isinstance(key, str):
                raise StrategyError(f"The search memory cannot keep the key {key!r}: make it a string.")
            _check_keys(value)
    elif isinstance(body, list | tuple):
        for value in body:
            _check_keys(value)


def matching(**columns: str | None) -> tuple[str, list[str]]:
    """SQL that asks for equality in the columns that are given, and its parameters."""
    given = {name: value for name, value in columns.items() if value is not None}
    return " AND ".join(["TRUE", *(f"{name} = ?" for name in given)]), list(given.values())


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Say in a sentence that an entry of a memory is none that a search writes.

    Raises:
        MemoryFileError: as said.
    """
    try:
        yield
    except DiffNASError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise MemoryFileError(
            f"The search memory {path} holds an entry that cannot be read ({str(error)[:200]}): restore it from a "
            f"copy, or use the version of nni-diffnas that wrote it."
        ) from error


class MemoryJournal:
    """Events and states of one memory; `SearchMemory` is the journal that knows trials.

    Args:
        path: the file; relative paths mean the working directory of this moment, ``~`` is not expanded.
        create: whether a missing file is created.

    Raises:
        MemoryFileError: the folder is missing or read-only, or the file is foreign, damaged or too new; it is left
            untouched.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path).resolve()
        self._file = MemoryFile(self.path, create=create)
        self._run = self._file.run

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done inside happen together or, on an exception, not at all; may be nested.

        Other threads and processes wait while it lasts: keep it short.
        """
        with self._file.transaction():
            yield

    def _append(self, kind: str, experiment: str, body: Mapping[str, Any], trial: str | None) -> None:
        sql = "INSERT INTO events (time, experiment, kind, trial, body) VALUES (?, ?, ?, ?, ?)"
        self._run(sql, [time.time(), experiment, kind, trial, write_json(dict(body))])

    def log(self, kind: str, experiment: str, body: Mapping[str, Any]) -> None:
        """Append an entry that is no trial: a rejected proposal, a lesson, a ledger row, the start of an experiment."""
        _check_keys(body)
        with self.transaction():
            self._append(kind, experiment, body, None)

    def events(self, kind: str | None = None, experiment: str | None = None) -> list[Event]:
        """What happened, in order: changes of trials and entries of `log`."""
        where, parameters = matching(kind=kind, experiment=experiment)
        rows = self._run(
            f"SELECT number, time, experiment, kind, trial, body FROM events WHERE {where} ORDER BY number", parameters
        )
        with understood(self.path):
            return [
                Event(number, time, experiment, kind, trial, dict(json.loads(body)))
                for number, time, experiment, kind, trial, body in rows
            ]

    def save_state(self, experiment: str, name: str, state: Mapping[str, Any] | bytes) -> None:
        """Keep the state of a strategy, replacing the one before.

        Args:
            experiment: whose state it is.
            name: several can be kept.
            state: JSON (tuples come back as lists), or bytes of the strategy's own format.
        """
        if not isinstance(state, bytes):
            _check_keys(state)
        body = state if isinstance(state, bytes) else write_json(dict(state))
        with self.transaction():
            self._run("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", [experiment, name, body])

    def load_state(self, experiment: str, name: str) -> dict[str, Any] | bytes | None:
        """What `save_state` kept last, or ``None``."""
        rows = self._run("SELECT body FROM states WHERE experiment = ? AND name = ?", [experiment, name])
        if not rows:
            return None
        (body,) = rows[0]
        with understood(self.path):
            return body if isinstance(body, bytes) else dict(json.loads(body))
