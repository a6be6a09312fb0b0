"""A file that appears whole or not at all, whoever is killed while writing it and however many write it at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["written_whole"]


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Give a draft beside ``file`` that takes its place at the end; an exception leaves nothing of it.

    Args:
        file: what is written; its folder exists.
    """
    draft = file.with_name(f".{secrets.token_hex(8)}{file.suffix}")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
