"""What is printed reaches its reader, whatever his terminal can show."""

from __future__ import annotations

import io
import sys

__all__ = ["printable", "show_all"]


def printable(text: str) -> str:
    """A text, such as a file's name, in one line: line breaks, control characters and bytes of no encoding escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show_all() -> None:
    """Escape what the encoding of standard output and error has no character for.

    Names of classes and folders are of any alphabet, or of none (bytes of another encoding); Python would end the
    process, a running search perhaps.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
