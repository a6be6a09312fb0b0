"""What the terminal is told of a language model: each fault once, its end, and long waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .chat import Attempt, AttemptOutcome

__all__ = ["SLOW_S", "Telling"]

SLOW_S = 20.0
"""Seconds after which a question is said to be under way."""

_OUTAGES: frozenset[AttemptOutcome] = frozenset(("timeout", "connection", "rate_limited", "server_error"))

_MEANING: dict[str, str] = {
    "timeout": "does not answer in time (raise timeout_s, or lower answer_tokens and memory_tokens)",
    "connection": "cannot be reached",
    "rate_limited": "wants fewer requests",
    "server_error": "answers with errors",
    "no_quota": "has no quota left",
    "unauthorized": "refuses the key",
    "not_found": "does not know the model",
    "no_endpoint": "has no chat completions at this address (check the path of base_url, which often ends in /v1)",
    "too_long": "cannot take prompt and answer into its context",
    "no_schema": "rejected a request with a JSON schema",
    "bad_request": "rejected a request",
    "unreadable": "sends what is no chat completion",
    "cut_off": "was cut off at the limit of an answer: what was complete is used (raise answer_tokens)",
    "empty": "gives an empty answer",
    "refused": "refuses to answer",
    "tool_call": "calls a tool that it does not have",
}


def _print(line: str) -> None:
    print(f"nni-diffnas: {line}", flush=True)


class Telling:
    """Says each kind of fault once: of an outage until it is over, of all others once a search.

    Args:
        name: of the model.
        address: where it is asked.
        say: takes one line.
    """

    def __init__(self, name: str, address: str, say: Callable[[str], None] = _print) -> None:
        self._who = f"language model {name} at {address}"
        self._say = say
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Say something of the model."""
        self._say(f"{self._who} {text}.")

    def ended(self, attempt: Attempt) -> None:
        """Take note of how a request ended."""
        with self._lock:
            over = bool(self._told & _OUTAGES) and attempt.outcome not in _OUTAGES
            self._told -= _OUTAGES if over else frozenset()
            first = attempt.outcome not in self._told and attempt.outcome in _MEANING
            if first:
                self._told.add(attempt.outcome)
        if over:
            self.line("answers again")
        if first:
            said = f" ({attempt.detail})" if attempt.detail else ""
            self.line(f"{_MEANING[attempt.outcome]}{said}")

    @contextmanager
    def waiting(self, what: str, slow_s: float = SLOW_S) -> Iterator[None]:
        """Say so when what is done inside takes long.

        Args:
            what: is asked, e.g. ``round 3``.
            slow_s: seconds that are long.
        """
        timer = threading.Timer(slow_s, self.line, [f"has been working on {what} for {slow_s:g} s"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
