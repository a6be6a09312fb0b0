"""Keeps keys out of all that is written down or raised: whatever comes back from a server passes through here."""

from __future__ import annotations

import os
import re
from typing import Any

__all__ = ["LOOKS_LIKE_A_KEY", "Redactor", "environment_secrets"]

LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|xai)-[A-Za-z0-9_-]{16,}|\bBearer\s+[A-Za-z0-9._~+/=-]{8,}")
"""Keys of the well-known servers, and what follows ``Bearer`` in a header."""

_GONE = "[key removed]"
_SHORTEST = 8
"""Shorter "keys" are stand-ins for servers that want none (``none``, ``EMPTY``, ``ollama``): no secret, and words that
an answer may well contain."""


_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
_SHORTEST_OF_ENVIRONMENT = 12
"""Shorter values of such variables are switches and numbers."""


def environment_secrets() -> list[str]:
    """Values of the environment's variables whose name says key, token, secret or password; paths are none."""
    named = (value for name, value in os.environ.items() if _SECRET_NAME.search(name))
    found = {value for value in named if len(value) >= _SHORTEST_OF_ENVIRONMENT and not os.path.exists(value)}
    return sorted(found, key=len, reverse=True)  # one may hold another


class Redactor:
    """Removes one known key, those of the environment, and anything that looks like one.

    Args:
        key: the key in use; may be empty.
    """

    def __init__(self, key: str = "") -> None:
        self._keys = [*([key] if len(key) >= _SHORTEST else []), *environment_secrets()]

    def __repr__(self) -> str:
        return "Redactor()"

    def text(self, text: str) -> str:
        """The text without keys."""
        for key in self._keys:
            text = text.replace(key, _GONE)
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
