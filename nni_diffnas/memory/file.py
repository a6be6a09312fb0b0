"""`MemoryFile`: the SQLite file behind a `SearchMemory`: created, recognised or refused, and shared by threads.

A file is created complete and appears in one step, so that several processes may race to create it and nobody ever
meets half of one. Nothing that is not ours is opened by SQLite.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..api.errors import MemoryFileError, StrategyError
from .schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

__all__ = ["MemoryFile", "may_write"]

BUSY_SECONDS = 120.0
"""How long a writer waits for the other processes' transactions, which hold no more than what has just happened: no
strategy thinks, no server is asked and nothing is exported inside of one."""

CHECKED_BYTES = 64 * 2**20
"""Files up to this size have every page checked when opened (under a second); larger ones only their header."""

_opening = threading.Lock()
_open_here: Counter[tuple[int, int]] = Counter()
"""Device and inode of the memories that this process has open.

Such a file must not be opened and closed by anything but SQLite: POSIX drops all of a process's locks on a file when
the process closes any descriptor of it, and another process would then take the log away from under us.
"""


def _connect(path: Path) -> sqlite3.Connection:
    """Connect without pragmas that could wait for a lock; transactions are begun explicitly."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # WAL with NORMAL survives the death of any process at any moment; a power cut may cost the last transactions,
    # never the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _create(path: Path) -> None:
    """Make a complete empty memory under a private name, then give it its own, unless somebody was faster."""
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        connection = _connect(draft)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        finally:
            connection.close()
        with contextlib.suppress(FileExistsError):  # another process created the memory first: use that one
            os.link(draft, path)
    except (OSError, sqlite3.Error) as error:
        raise MemoryFileError(
            f"The search memory {path} cannot be created: {error}; name a folder on a local disk that you may write to."
        ) from error
    finally:
        for leftover in (draft, draft.with_name(f"{draft.name}-wal"), draft.with_name(f"{draft.name}-shm")):
            leftover.unlink(missing_ok=True)


def may_write(path: Path) -> bool:
    """Whether this user may write to a memory and into its folder, as SQLite has to even for reading."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(place, os.W_OK, effective_ids=effective) for place in (path, path.parent))


def _recognise(path: Path) -> None:
    """Refuse what is not a search memory, having only read its first bytes."""
    if not path.is_file():
        raise MemoryFileError(f"The search memory {path} is a folder or a device: name a file.")
    with path.open("rb") as file:
        header = file.read(100)
        size = os.fstat(file.fileno()).st_size
    if not header:
        raise MemoryFileError(f"The search memory {path} is an empty file: delete it to start a new memory there.")
    if header[:16] != b"SQLite format 3\0"[: len(header)]:
        raise MemoryFileError(f"{path} is not a search memory: it is left as it is, name another file.")
    if len(header) < 100:
        raise MemoryFileError(f"The search memory {path} is cut off after {size} bytes: restore it from a copy.")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise MemoryFileError(f"{path} is another program's SQLite file: it is left as it is, name another file.")
    page = int.from_bytes(header[16:18], "big")
    expected = page * int.from_bytes(header[28:32], "big")
    # Beside a log, the file may be behind its header while another process copies the log into it.
    if size < expected and not path.with_name(f"{path.name}-wal").exists():
        raise MemoryFileError(
            f"The search memory {path} is cut off after {size} of {expected} bytes: restore it from a copy."
        )
    if not may_write(path):
        raise MemoryFileError(
            f"The search memory {path} cannot be written: allow writing to it and to its folder, or work on a copy."
        )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a damaged file, or a later one; SQLite compares header and length, and small files are read in full."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise sqlite3.DatabaseError("no mark of a search memory")
    if path.stat().st_size <= CHECKED_BYTES:
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise sqlite3.DatabaseError(" ".join(finding.split()))
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise MemoryFileError(
            f"The search memory {path} has schema version {version}, and this nni-diffnas reads up to "
            f"{SCHEMA_VERSION}: install a newer nni-diffnas."
        )


def _find_or_create(path: Path, *, create: bool) -> None:
    if not path.parent.is_dir():
        raise MemoryFileError(f"The folder of the search memory {path} does not exist: create it first.")
    # Asked before `path`: a log whose memory exists a moment later was never an orphan. A real orphan would be
    # replayed into the new file by SQLite.
    orphan = path.with_name(f"{path.name}-wal")
    orphaned = orphan.exists()
    if path.exists():
        return
    if not create:
        raise MemoryFileError(f"There is no search memory {path}: check the path.")
    if orphaned:
        raise MemoryFileError(f"{orphan} belongs to a search memory that is gone: restore that, or delete the log.")
    _create(path)


def _open(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the memory at ``path``, creating it where there is none and ``create`` is set."""
    connection = None
    try:
        _find_or_create(path, create=create)
        if not _open_here[_identity(path)]:
            _recognise(path)
        connection = _connect(path)
        _check(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error | UnicodeError):  # of names that are no text
            raise MemoryFileError(
                f"The search memory {path} is damaged or cut off ({error}): restore it from a copy."
            ) from error
        if isinstance(error, OSError) and not isinstance(error, MemoryFileError):
            raise MemoryFileError(
                f"The search memory {path} cannot be opened ({error.strerror}): check the path and its permissions."
            ) from error
        raise
    return connection


class MemoryFile:
    """One connection to a memory, for any thread, one at a time.

    Args:
        path: the file.
        create: whether a missing file is created.

    Raises:
        MemoryFileError: the folder is missing or read-only, or the file is foreign, damaged or too new.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        with _opening:
            self._connection: sqlite3.Connection | None = _open(path, create=create)
            self._identity = _identity(path)
            _open_here[self._identity] += 1

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with self._lock, _opening:
            if self._connection is not None:
                self._connection.close()
                _open_here[self._identity] -= 1
            self._connection = None

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement and return all rows.

        Raises:
            MemoryFileError: SQLite cannot, e.g. because the disk is full.
        """
        with self._lock:
            if self._connection is None:
                raise StrategyError(f"The search memory {self.path} is closed: open it again.")
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise MemoryFileError(f"The search memory {self.path} failed: {error}.") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is done inside happen together or, on an exception, not at all; may be nested.

        Other processes wait while it lasts: keep it short.
        """
        with self._lock:
            inner = self._depth > 0
            self.run("SAVEPOINT nested" if inner else "BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                self.run("RELEASE nested" if inner else "COMMIT")
            except BaseException:
                # SQLite has already undone the whole after, for example, a full disk.
                if self._connection is not None and self._connection.in_transaction:
                    self.run("ROLLBACK TO nested" if inner else "ROLLBACK")
                    if inner:
                        self.run("RELEASE nested")
                raise
            finally:
                self._depth -= 1
