"""The file behind a `SearchMemory`: how it is created, recognised, refused and brought to the present schema.

A file is created complete and appears in one step, so that several processes may race to create it and nobody ever
meets half of one. Nothing that is not ours is opened for writing.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from .errors import MemoryFileError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SCHEMA_VERSION", "open_memory_file"]

APPLICATION_ID = 0x6E644E41
"""Marks a SQLite file as a search memory (the bytes ``ndNA``)."""

SCHEMA_VERSION = 1
"""Version of `SCHEMA`; raise it together with a new entry of `MIGRATIONS`."""

MIGRATIONS: dict[int, str] = {}
"""SQL that turns a file of version ``n`` into version ``n + 1``, by ``n``."""

BUSY_SECONDS = 120.0
"""How long a writer waits for the other processes' transactions, which take well under a millisecond each."""

CHECKED_BYTES = 64 * 2**20
"""Files up to this size have every page checked when opened (under a second); larger ones only their header."""

# ``boards`` holds one row per group of scores that are filtered together, so that a ranking reads the top of a few
# short index ranges, whatever the number of trials.
SCHEMA = """
CREATE TABLE spaces (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE trials (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    experiment TEXT NOT NULL,
    space_key TEXT NOT NULL REFERENCES spaces (key),
    architecture_key TEXT NOT NULL,
    protocol TEXT NOT NULL,
    status TEXT NOT NULL,
    finished INTEGER,
    body TEXT NOT NULL
);
CREATE INDEX trials_of_architecture ON trials (space_key, architecture_key);
CREATE INDEX trials_of_experiment ON trials (experiment, status);
CREATE INDEX trials_by_end ON trials (finished) WHERE finished IS NOT NULL;
CREATE TABLE boards (
    id INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    protocol TEXT NOT NULL,
    space_key TEXT NOT NULL,
    experiment TEXT NOT NULL,
    UNIQUE (metric, protocol, space_key, experiment)
);
CREATE TABLE scores (
    board INTEGER NOT NULL REFERENCES boards (id),
    value REAL NOT NULL,
    number INTEGER NOT NULL REFERENCES trials (number),
    PRIMARY KEY (board, value, number)
) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    experiment TEXT NOT NULL,
    kind TEXT NOT NULL,
    trial TEXT,
    body TEXT NOT NULL
);
CREATE INDEX events_of_experiment ON events (experiment, kind);
CREATE TABLE states (
    experiment TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (experiment, name)
) WITHOUT ROWID;
"""


def _connect(path: Path) -> sqlite3.Connection:
    """Connect without pragmas that could wait for a lock; transactions are begun explicitly."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # WAL with NORMAL survives the death of any process at any moment; a power cut may cost the last transactions,
    # never the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


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


def _recognise(path: Path) -> None:
    """Refuse what is not a search memory, having only read its first bytes."""
    if path.is_dir():
        raise MemoryFileError(f"The search memory {path} is a folder: name a file in it.")
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise MemoryFileError(f"The search memory {path} cannot be read: {error.strerror}.") from error
    if not header:
        raise MemoryFileError(f"The search memory {path} is an empty file: delete it to start a new memory there.")
    if header[:16] != b"SQLite format 3\0"[: len(header)]:
        raise MemoryFileError(f"{path} is not a search memory: it is left as it is, name another file.")
    if len(header) < 100:
        raise MemoryFileError(f"The search memory {path} is cut off after {len(header)} bytes: restore it from a copy.")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise MemoryFileError(f"{path} is another program's SQLite file: it is left as it is, name another file.")
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise MemoryFileError(
            f"The search memory {path} cannot be written: allow writing to it and to its folder, or work on a copy."
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an older schema to the present version, keeping a copy of the old file beside it.

    The first process that comes migrates; others wait for its lock and find the work done.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA_VERSION:
        raise MemoryFileError(
            f"The search memory {path} has schema version {found}, and this nni-diffnas reads up to "
            f"{SCHEMA_VERSION}: install a newer nni-diffnas."
        )
    if found == SCHEMA_VERSION:
        return
    copy = path.with_name(f"{path.name}.version{found}")
    if not copy.exists():
        draft = copy.with_name(f".{copy.name}.{os.getpid()}")
        connection.execute("VACUUM INTO ?", (str(draft),))
        draft.replace(copy)
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        while version < SCHEMA_VERSION:
            if version not in MIGRATIONS:
                raise MemoryFileError(
                    f"The search memory {path} has schema version {found}, from which there is no way to "
                    f"{SCHEMA_VERSION}: open it with the nni-diffnas that wrote it."
                )
            for statement in MIGRATIONS[version].split(";"):
                connection.execute(statement)
            version += 1
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a damaged file; SQLite compares the header with the length, and small files are read in full."""
    if path.stat().st_size <= CHECKED_BYTES:
        (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if finding != "ok":
            raise sqlite3.DatabaseError(finding)
    else:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()


def open_memory_file(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the memory at ``path``, creating it where there is none and ``create`` is set.

    Returns:
        a connection in WAL mode and autocommit, usable from any thread, one at a time.

    Raises:
        MemoryFileError: the folder is missing or read-only, or the file is foreign, damaged or too new.
    """
    if not path.parent.is_dir():
        raise MemoryFileError(f"The folder of the search memory {path} does not exist: create it first.")
    orphan = path.with_name(f"{path.name}-wal")
    # Asked before `path`: a log whose memory exists a moment later was never an orphan. A real orphan would be
    # replayed into the new file by SQLite.
    orphaned = orphan.exists()
    if not path.exists():
        if not create:
            raise MemoryFileError(f"There is no search memory {path}: check the path.")
        if orphaned:
            raise MemoryFileError(f"{orphan} belongs to a search memory that is gone: restore that, or delete the log.")
        _create(path)
    _recognise(path)
    connection = None
    try:
        connection = _connect(path)
        _check(connection, path)
        _migrate(connection, path)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise MemoryFileError(
                f"The search memory {path} is damaged or cut off ({error}): restore it from a copy."
            ) from error
        raise
    return connection
