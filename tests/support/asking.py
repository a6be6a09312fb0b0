"""Questions to a language model on a server of one's own, which may go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chat_server import ChatServer, Fault

from nni_diffnas.language_model import LanguageModelOptions, Message, Question, open_language_model

KEY = "sk-planted-0123456789abcdefghij"


SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def once(fault: Fault) -> Callable[[int, dict[str, Any]], Fault | None]:
    """The first request goes wrong, the others do not."""
    return lambda number, body: fault if number == 0 else None


def always(fault: Fault) -> Callable[[int, dict[str, Any]], Fault | None]:
    return lambda number, body: fault


def model_at(server: ChatServer, **options: Any) -> Any:
    return open_language_model(
        LanguageModelOptions(**{"base_url": server.url, "backoff_s": 0.01, "timeout_s": 5.0, **options})
    )


def question(step: int = 0, schema: dict[str, Any] | None = None) -> Question:
    schemas = () if schema is None else (schema,)
    return Question(1, step, (Message("system", "be brief"), Message("user", "what now?")), schemas)
