"""Design lessons that the model draws and is shown again: short, few, and never more than data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["MAX_CHARACTERS", "MAX_LESSONS", "clean_lessons", "one_line", "render_lessons"]

MAX_LESSONS = 8
MAX_CHARACTERS = 120


def one_line(text: str, limit: int) -> str:
    """Printable text on one line, cut at ``limit`` characters: foreign words cannot fake a section of the prompt."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def clean_lessons(written: Any) -> tuple[str, ...]:
    """Lessons out of an answer: strings, each on one line, without repetitions."""
    if isinstance(written, str):
        written = written.splitlines()
    if not isinstance(written, list):
        return ()
    lines = [one_line(lesson, MAX_CHARACTERS).lstrip("-*# ") for lesson in written if isinstance(lesson, str)]
    return tuple(dict.fromkeys(line for line in lines if line))[:MAX_LESSONS]


def render_lessons(lessons: Sequence[str]) -> str:
    """Lessons as the prompt shows them."""
    return "\n".join(f"- {lesson}" for lesson in lessons) or "none yet"
