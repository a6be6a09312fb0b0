"""What is printed reaches its reader, whatever his terminal can show, and nobody where there is none."""

from __future__ import annotations

import io
import os
import sys

__all__ = ["printable", "show_all"]


def printable(text: str) -> str:
    """A text, such as a file's name, in one line: line breaks, control characters and bytes of no encoding escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def show_all() -> None:
    """Escape what the encoding of standard output and error has no character for.

    Names of classes and folders are of any alphabet, or of none (bytes of another encoding); Python would end the
    process, a running search perhaps. A stream that was closed before Python began (``2>&-``) leads nowhere instead: it
    would be ``None``, which has no ``isatty``, and its number would be that of the next file that is opened.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
