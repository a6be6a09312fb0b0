"""The tables of a search memory, and the way from older versions of them to the present one."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from ..api.errors import MemoryFileError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "SCHEMA", "SCHEMA_VERSION", "migrate"]

APPLICATION_ID = 0x6E644E41
"""Marks a SQLite file as a search memory (the bytes ``ndNA``)."""

SCHEMA_VERSION = 1
"""Version of `SCHEMA`; raise it together with a new entry of `MIGRATIONS`."""

MIGRATIONS: dict[int, str] = {}
"""SQL that turns a file of version ``n`` into version ``n + 1``, by ``n``."""

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


def migrate(connection: sqlite3.Connection, path: Path) -> None:
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
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        connection.execute("VACUUM INTO ?", (str(draft),))
        # Never replace a copy: whoever finds one may have copied the migrated file.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path.with_name(f"{path.name}.version{found}"))
    finally:
        draft.unlink(missing_ok=True)
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
