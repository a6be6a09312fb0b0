"""Values of choices, and what is made of them: architectures, conditions, their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

__all__ = ["Architecture", "Condition", "Value", "digest", "position", "same_value"]

Value = str | int | float | bool
"""One value of a choice: a JSON scalar."""

Architecture = dict[str, Value]
"""An assignment of values to labels."""

Condition = tuple[str, tuple[Value, ...]]
"""``(parent label, values)``: met when the parent is present and has one of the values."""


def digest(content: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``content`` as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def same_value(a: object, b: object) -> bool:
    """Whether two values of a choice are the same: equal, and both truth values or neither (``True`` is not 1)."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def position(values: Sequence[Value], value: object) -> int:
    """Index of ``value`` among ``values``; -1 where it is not among them."""
    return next((index for index, candidate in enumerate(values) if same_value(candidate, value)), -1)
