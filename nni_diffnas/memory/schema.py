"""The tables of a search memory."""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "SCHEMA", "SCHEMA_VERSION"]

APPLICATION_ID = 0x6E644E41
"""Marks a SQLite file as a search memory (the bytes ``ndNA``)."""

SCHEMA_VERSION = 2
"""Version of `SCHEMA`. Files of version 1 are used as they are; nobody reads a column and two tables of theirs."""

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
    body TEXT NOT NULL
);
CREATE INDEX trials_of_architecture ON trials (space_key, architecture_key);
CREATE INDEX trials_of_experiment ON trials (experiment, status);
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
