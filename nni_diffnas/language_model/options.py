"""From options to a `LanguageModel`: reads the key from the environment, and nothing else ever does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from nni_diffnas.api.errors import JobError

from .exchange import LanguageModel
from .ledger import Ledger, Limits, price_of

__all__ = ["FilePath", "LanguageModelOptions", "open_language_model", "read_template"]

FilePath = str | Path
"""Where a user names a file."""

KEY_VARIABLE = "OPENAI_API_KEY"


@dataclass(frozen=True)
class LanguageModelOptions:
    """How a language model is reached and what it may cost.

    Args:
        model: its name at the server.
        base_url: of an OpenAI-compatible server (vLLM, Ollama, llama.cpp, ...), e.g. ``http://localhost:8000/v1``;
            ``None`` means the environment variable ``OPENAI_BASE_URL``, and without that OpenAI.
        replay: transcript to replay instead of asking; nothing else here matters then.
        transcript: file of the transcript; by default ``transcript.jsonl`` in the experiment's folder.
        timeout_s: seconds after which a request is given up.
        retries: of a request that failed, beside the first try.
        backoff_s: longest wait before the first retry, in seconds; doubles with each.
        answer_tokens: the most that an answer may have.
        temperature: of the sampling; ``None`` leaves it to the server.
        structured: ask for a JSON schema where the server supports it.
        prices: by model, ``{"input": ..., "output": ...}`` in US dollars per million tokens.
        max_cost_usd: US dollars at which asking stops; the search goes on without the model.
        max_tokens: tokens, of prompts and answers, at which it stops.
        max_requests: requests at which it stops.
        seed: of the jitter between retries.
    """

    model: str = "gpt-4"
    base_url: str | None = None
    replay: FilePath | None = None
    transcript: FilePath | None = None
    timeout_s: float = 120.0
    retries: int = 4
    backoff_s: float = 1.0
    answer_tokens: int = 2000
    temperature: float | None = None
    structured: bool = True
    prices: Mapping[str, Mapping[str, float]] | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    max_requests: int | None = None
    seed: int = 0

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What a user may say; the seed is the search's."""
        return tuple(field.name for field in fields(cls) if field.name != "seed")

    def __post_init__(self) -> None:
        for name, least in (("timeout_s", 0.01), ("retries", 0), ("backoff_s", 0), ("answer_tokens", 16)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < 1e9:
                raise JobError(f"{name} is {value!r}: give a number of at least {least:g}.")
        for name in ("temperature", "max_cost_usd", "max_tokens", "max_requests"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise JobError(f"{name} is {value!r}: give a number.")
        if not isinstance(self.base_url, str | None):
            raise JobError(f"base_url is {self.base_url!r}: give an address such as http://localhost:8000/v1.")
        if not isinstance(self.prices, Mapping | None):
            raise JobError(f"prices are {self.prices!r}: give input and output for each model, by its name.")
        if not self.model or not isinstance(self.model, str):
            raise JobError(f"model is {self.model!r}: name a model of the server, e.g. gpt-4.")


def _address(base_url: str | None) -> str | None:
    """Base URL without anything secret in it.

    Raises:
        JobError: not an address, or one that carries a password or a query.
    """
    address = base_url or os.environ.get("OPENAI_BASE_URL") or None
    if address is None:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise JobError(
            "base_url holds a password or a query, and NNI shows it to everyone: give the plain address and put the "
            "key into the environment variable OPENAI_API_KEY."
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise JobError(f"base_url is {address!r}: give an address such as http://localhost:8000/v1.")
    return address


def _key(base_url: str | None) -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        if base_url is not None:
            return "none"  # servers of one's own usually want no key, and the openai package insists on one
        raise JobError(
            f"No key for OpenAI: set the environment variable {KEY_VARIABLE}, or set base_url to a server of your own "
            f"(or replay to a transcript, which needs neither)."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise JobError(f"The environment variable {KEY_VARIABLE} holds characters that no key has: set it anew.")
    return key


def open_language_model(options: LanguageModelOptions) -> LanguageModel:
    """Make a model from its options; nothing is sent and the openai package is not imported yet.

    Raises:
        JobError: no key, a bad address, limit or price, or a transcript that cannot be replayed.
    """
    if options.replay is not None:
        from .replay import ReplayedModel

        return ReplayedModel(Path(os.path.expanduser(options.replay)))
    from .chat import ChatEndpoint
    from .live import LiveModel, RetryPolicy

    base_url = _address(options.base_url)
    price = price_of(options.model, options.prices, base_url is not None)
    limits = Limits(options.max_cost_usd, options.max_tokens, options.max_requests)
    ledger = Ledger(price, limits, own_server=base_url is not None)
    endpoint = ChatEndpoint(options.model, base_url, _key(base_url), options.timeout_s, options.temperature)
    return LiveModel(
        endpoint,
        ledger,
        RetryPolicy(options.retries, options.backoff_s),
        answer_tokens=options.answer_tokens,
        structured=options.structured,
        transcript=None if options.transcript is None else Path(os.path.expanduser(options.transcript)),
        seed=options.seed,
    )


def read_template(path: FilePath) -> str:
    """Read a prompt template that the user wrote.

    Raises:
        JobError: no such file, or no text.
    """
    file = Path(os.path.expanduser(path))
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"Prompt template {str(file)!r} cannot be read ({error}): check the path.") from error
