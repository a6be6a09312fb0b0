"""What servers say of a prompt that does not fit into the model's context: each in its own words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Overflow", "read_overflow"]

_MEANT = re.compile(
    r"context[ _](?:length|size|window)|maximum (?:sequence|context|model|number of tokens)|prompt is too long"
    r"|too many tokens|exceed\w* .*tokens|input is too long",
    re.IGNORECASE,
)
_CONTEXT = (
    re.compile(r"(?:maximum|available|model'?s?) context (?:length|size|window)\D{0,12}?(\d+)", re.IGNORECASE),
    re.compile(r"context (?:length|size|window)\D{0,20}?(\d+)", re.IGNORECASE),
    re.compile(r"(?:maximum|limit)\D{0,30}?(\d+) tokens", re.IGNORECASE),
)
_PROMPT = (
    re.compile(r"\((\d+) in (?:the )?(?:messages|prompt)", re.IGNORECASE),
    re.compile(r"prompt contains(?: at least)? (\d+)", re.IGNORECASE),
    re.compile(r"request \((\d+) tokens", re.IGNORECASE),
    re.compile(r"(?:resulted in|request has|contains) (\d+) (?:input )?tokens", re.IGNORECASE),
)


@dataclass(frozen=True)
class Overflow:
    """A prompt that was too long.

    Args:
        context: tokens that prompt and answer may have together; ``None`` where the server does not say.
        prompt: tokens of the prompt as the server counts them; ``None`` where it does not say.
    """

    context: int | None = None
    prompt: int | None = None


def read_overflow(said: Mapping[str, Any], message: str) -> Overflow | None:
    """Read an error; ``None`` where it speaks of something else.

    Args:
        said: the error as JSON: OpenAI puts ``context_length_exceeded`` into ``code``, llama.cpp
            ``exceed_context_size_error`` into ``type`` and both numbers beside it, vLLM all into the sentence.
        message: its sentence.
    """
    named = f"{said.get('code')} {said.get('type')}"
    if "context" not in named and not _MEANT.search(message):
        return None
    return Overflow(
        _number(said.get("n_ctx")) or _found(_CONTEXT, message),
        _number(said.get("n_prompt_tokens")) or _found(_PROMPT, message),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _found(patterns: tuple[re.Pattern[str], ...], message: str) -> int | None:
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", message)
    return next((int(found[1]) for pattern in patterns if (found := pattern.search(plain))), None)
