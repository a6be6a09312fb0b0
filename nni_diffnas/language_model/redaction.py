"""Keeps keys out of all that is written down or raised: whatever comes back from a server passes through here."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["LOOKS_LIKE_A_KEY", "Redactor"]

LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|xai)-[A-Za-z0-9_-]{16,}|\bBearer\s+[A-Za-z0-9._~+/=-]{8,}")
"""Keys of the well-known servers, and what follows ``Bearer`` in a header."""

_GONE = "[key removed]"
_SHORTEST = 8
"""Shorter "keys" are stand-ins for servers that want none (``none``, ``EMPTY``, ``ollama``): no secret, and words that
an answer may well contain."""


class Redactor:
    """Removes one known key, and anything that looks like one.

    Args:
        key: the key in use; may be empty.
    """

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= _SHORTEST else ""

    def __repr__(self) -> str:
        return "Redactor()"

    def text(self, text: str) -> str:
        """The text without keys."""
        if self._key:
            text = text.replace(self._key, _GONE)
        return LOOKS_LIKE_A_KEY.sub(_GONE, text)

    def body(self, body: Any) -> Any:
        """The same JSON without keys in any of its strings."""
        if isinstance(body, str):
            return self.text(body)
        if isinstance(body, dict):
            return {self.text(str(name)): self.body(value) for name, value in body.items()}
        if isinstance(body, list | tuple):
            return [self.body(value) for value in body]
        return body
