"""How many tokens a text has, without the model's tokenizer: learned from what the server counts.

Notation
    bytes / tokens    of one prompt; 3 to 4 for English prose with most tokenizers, 2.2 for tables with those that take
                      every digit apart, and never below 1
    framing           tokens that a server's chat template puts around each message
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

__all__ = ["TokenCount", "estimate_tokens"]

_BYTES_PER_TOKEN = 2.2
"""Deliberately few, where nothing has been counted yet."""

_FRAMING = 16
_MARGIN = 1.1
_ENOUGH = 400
"""Bytes of a prompt from which a ratio can be learned; of shorter ones the framing is the larger part."""


def estimate_tokens(text: str, bytes_per_token: float = _BYTES_PER_TOKEN) -> int:
    """Estimate the tokens of a text, rather too many than too few."""
    return math.ceil(len(text.encode("utf-8", "replace")) / bytes_per_token)


class TokenCount:
    """Learns from the usage that servers report; usable from several threads."""

    def __init__(self) -> None:
        self._ratios: list[float] = []
        self._lock = threading.Lock()

    @property
    def bytes_per_token(self) -> float:
        """Mean of what was counted; before the first answer, few."""
        with self._lock:
            return sum(self._ratios) / len(self._ratios) if self._ratios else _BYTES_PER_TOKEN

    def learn(self, messages: Sequence[str], counted: int | None) -> None:
        """Take in how many tokens a server has counted in a prompt.

        Args:
            messages: their texts.
            counted: ``None`` where it did not count.
        """
        size = _size(messages)
        if counted and size >= _ENOUGH:
            with self._lock:
                self._ratios = [*self._ratios[-49:], size / counted]

    def text(self, text: str) -> int:
        """Estimate of a text."""
        return estimate_tokens(text, self.bytes_per_token)

    def prompt(self, messages: Sequence[str]) -> int:
        """Estimate of a prompt."""
        return math.ceil(_size(messages) / self.bytes_per_token)

    def most(self, messages: Sequence[str]) -> int:
        """The most that a prompt can have: what limits are kept by.

        Before anything was counted, a token a byte, which no tokenizer exceeds; then the densest prompt so far, and a
        margin.
        """
        with self._lock:
            densest = min(self._ratios) / _MARGIN if self._ratios else 1.0
        return math.ceil(_size(messages) / max(densest, 1.0)) + _FRAMING * (len(messages) + 1)


def _size(messages: Sequence[str]) -> int:
    return sum(len(message.encode("utf-8", "replace")) for message in messages)
