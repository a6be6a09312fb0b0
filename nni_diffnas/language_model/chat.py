"""One request in the chat-completions protocol, through the openai package: every way it can end has a name."""

from __future__ import annotations

import email.utils
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from .exchange import Message, to_wire
from .overflow import Overflow, read_overflow
from .redaction import Redactor

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["Attempt", "AttemptOutcome", "ChatEndpoint", "read_completion"]

AttemptOutcome = Literal[
    "ok",
    "timeout",
    "connection",
    "rate_limited",
    "no_quota",
    "server_error",
    "unauthorized",
    "not_found",
    "no_endpoint",
    "too_long",
    "no_schema",
    "bad_request",
    "unreadable",
    "cut_off",
    "empty",
    "refused",
    "tool_call",
    "abandoned",
]
"""``unreadable``: a body that is no completion. ``tool_call``: the model wants the program to act, which it never does.
``no_endpoint``: nothing at the address answers chat completions. ``too_long``: prompt and answer do not fit into the
server's context. ``no_schema``: a request with a JSON schema was rejected; whether for its schema, only the same
question without one can tell. ``abandoned``: the search ended before the answer came."""

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0", "::1")

_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
"""Names of the field that limits an answer; some servers refuse one of them."""

MAX_ANSWER_CHARACTERS = 100_000
"""Longer answers are cut: no sensible one comes near, and everything behind this is read into memory."""


@dataclass(frozen=True)
class Attempt:
    """How one request ended.

    Args:
        outcome: ``ok`` or the fault.
        text: of the answer; of a cut-off answer or refusal, what there was.
        detail: what the server said of the fault.
        status: HTTP status; 0 where none came.
        prompt_tokens, completion_tokens: as counted by the server; ``None`` where it did not.
        answered_by: model that the server names.
        retry_after: seconds that the server asks to wait.
        latency_s: seconds that it took.
        overflow: of a prompt that is too long: what the server said of its context.
    """

    outcome: AttemptOutcome
    text: str = ""
    detail: str = ""
    status: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    answered_by: str = ""
    retry_after: float | None = None
    latency_s: float = 0.0
    overflow: Overflow | None = None


class ChatEndpoint:
    """A model behind a base URL.

    Args:
        model: its name.
        base_url: ``None`` means OpenAI.
        key: sent as the bearer token; never shown.
        timeout_s: seconds after which a request is given up, however slowly its answer drips in.
        temperature: of the sampling; ``None`` leaves it to the server.
    """

    def __init__(self, model: str, base_url: str | None, key: str, timeout_s: float, temperature: float | None) -> None:
        self.model, self.base_url, self.timeout_s, self.temperature = model, base_url, timeout_s, temperature
        self.redactor = Redactor(key)
        self._key = key
        self._idle: list[OpenAI] = []
        self._waiting: set[threading.Event] = set()
        # OpenAI has renamed the field; several local servers know the old name only.
        self._limit = "max_completion_tokens" if ".openai." in (base_url or ".openai.") else "max_tokens"

    @property
    def address(self) -> str:
        """Where the model is asked, for people."""
        return self.base_url or "OpenAI"

    def attempt(self, messages: Sequence[Message], schema: Mapping[str, Any] | None, answer_tokens: int) -> Attempt:
        """Send one request and name its end; takes `timeout_s` at most and raises nothing that a server can cause.

        Args:
            messages: the conversation.
            schema: of the answer; ``None`` asks for plain text.
            answer_tokens: the most that the answer may have.
        """
        started = time.monotonic()
        ended: list[Attempt] = []
        failed: list[Exception] = []
        client = self._open()
        finished = threading.Event()

        def run() -> None:
            try:
                ended.append(self._request(client, messages, schema, answer_tokens))
            except Exception as error:  # handed to the caller's thread below: it must not vanish with this one
                failed.append(error)
            finally:
                finished.set()

        # openai's own timeout restarts with every byte, so that a dripping answer could hold the search up for ever.
        self._waiting.add(finished)
        threading.Thread(target=run, name="language-model", daemon=True).start()
        came = finished.wait(self.timeout_s + 0.25)
        self._waiting.discard(finished)
        if failed:
            raise failed[0]
        if ended:
            self._idle.append(client)
        else:  # what this client still gets is nobody's, and it is closed: no later request may find it
            client.close()
            late = Attempt("timeout", detail=f"no complete answer within {self.timeout_s:g} s")
            ended.append(Attempt("abandoned", detail="the search was over") if came else late)
        latency = round(time.monotonic() - started, 4)
        return Attempt(**{**vars(ended[0]), **self._clean(ended[0]), "latency_s": latency})

    def abandon(self) -> None:
        """Give up all requests that are under way."""
        for waiting in list(self._waiting):
            waiting.set()

    def _clean(self, attempt: Attempt) -> dict[str, str]:
        def clean(text: str) -> str:
            # Half a surrogate pair is legal in JSON, and no later request, file or database could hold it.
            return self.redactor.text(text.encode("utf-8", "replace").decode())

        return {
            "text": clean(attempt.text)[:MAX_ANSWER_CHARACTERS],
            "detail": clean(" ".join(attempt.detail.split()))[:300],
            "answered_by": clean(attempt.answered_by)[:100],
        }

    def _open(self) -> OpenAI:
        """A client that no other request is using."""
        try:
            return self._idle.pop()
        except IndexError:
            from openai import DefaultHttpxClient, OpenAI

            # A proxy of the environment is for the world outside: it could not reach this machine's own servers.
            local = urlparse(self.base_url or "").hostname in _LOCAL
            return OpenAI(
                api_key=self._key,
                base_url=self.base_url,
                timeout=self.timeout_s,
                max_retries=0,
                http_client=DefaultHttpxClient(trust_env=False) if local else None,
            )  # retries are ours: openai's are neither counted nor seeded

    def _request(
        self, client: OpenAI, messages: Sequence[Message], schema: Mapping[str, Any] | None, answer_tokens: int
    ) -> Attempt:
        """One request, and at once another where the server does not take a field that it can do without."""
        first = self._send(client, messages, schema, answer_tokens)
        if first.outcome not in ("bad_request", "no_schema"):
            return first
        before = self._limit, self.temperature
        if self.temperature is not None and "temperature" in first.detail:
            self.temperature = None
        elif self._limit in first.detail:
            (self._limit,) = _LIMITS - {self._limit}
        else:
            return first
        second = self._send(client, messages, schema, answer_tokens)
        if second.outcome not in ("bad_request", "no_schema"):
            return second
        self._limit, self.temperature = before
        return first

    def _send(
        self, client: OpenAI, messages: Sequence[Message], schema: Mapping[str, Any] | None, answer_tokens: int
    ) -> Attempt:
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        body: dict[str, Any] = {"model": self.model, "messages": to_wire(messages), self._limit: answer_tokens}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if schema is not None:
            shape = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        try:
            reply = client.chat.completions.with_raw_response.create(**body)
            return read_completion(reply.content, reply.status_code)
        except APITimeoutError:
            return Attempt("timeout", detail=f"no answer within {self.timeout_s:g} s")
        except APIConnectionError as error:
            return Attempt("connection", detail=f"{error.message} {error.__cause__ or ''}")
        except APIStatusError as error:
            return _read_error(error.status_code, error.response.headers, error.body, schema is not None)
        except APIError as error:
            return Attempt("unreadable", detail=error.message)


def _read_error(status: int, headers: Mapping[str, str], body: object, structured: bool) -> Attempt:
    said = body if isinstance(body, Mapping) else {}
    whole = body if isinstance(body, str) else json.dumps(body, default=str) if body else ""
    message = str(said.get("message") or whole or f"HTTP {status}")
    overflow = read_overflow(said, message) if status in (400, 413, 422, 500) else None
    outcome: AttemptOutcome
    if overflow is not None:
        return Attempt("too_long", detail=message, status=status, overflow=overflow)
    if status in (401, 403):
        outcome = "unauthorized"
    elif status in (404, 405, 501):
        # A server that speaks the protocol names the model that it does not have; all others have no such path.
        named = said.get("code") == "model_not_found" or "model" in message.casefold()
        outcome = "not_found" if status == 404 and said and named else "no_endpoint"
    elif status in (408, 425, 429):
        outcome = "no_quota" if said.get("code") == "insufficient_quota" else "rate_limited"
    elif status >= 500:
        outcome = "server_error"
    else:
        outcome = "no_schema" if structured and status in (400, 415, 422) else "bad_request"
    return Attempt(outcome, detail=message, status=status, retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header: a number, or a date."""
    text = headers.get("retry-after") or ""
    try:
        seconds = float(text)
    except ValueError:
        date = email.utils.parsedate_tz(text)
        if date is None:
            return None
        seconds = email.utils.mktime_tz(date) - time.time()
    return max(0.0, seconds) if seconds < float("inf") else None


def read_completion(content: bytes, status: int = 200) -> Attempt:
    """Read the body of a completion; anything that is not one is ``unreadable``."""
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = _text(message.get("content")), message.get("refusal")
        calls = message.get("tool_calls") or message.get("function_call")
        reason = choice.get("finish_reason")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return _no_completion(content, status)
    outcome: AttemptOutcome = "ok"
    detail = ""
    if isinstance(refusal, str) and refusal:
        outcome, detail = "refused", refusal
    elif reason == "content_filter":
        outcome, detail = "refused", "the server's content filter stopped the answer"
    elif calls:
        outcome, detail = "tool_call", "the answer calls a tool, and none is offered"
    elif reason == "length":
        outcome, detail = "cut_off", "the answer reached the limit of its tokens"
    elif not text.strip():
        outcome, detail = "empty", "the answer is empty"
    usage = body.get("usage") if isinstance(body.get("usage"), Mapping) else {}
    return Attempt(
        outcome,
        text=text,
        detail=detail,
        status=status,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        answered_by=str(body.get("model") or ""),
    )


def _no_completion(content: bytes, status: int) -> Attempt:
    """A body without an answer: gateways put an error into one that they send with status 200."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    error = body.get("error") if isinstance(body, Mapping) else None
    said = error if isinstance(error, Mapping) else {"message": error} if isinstance(error, str) else {}
    code = _count(said.get("code")) or 0
    if 400 <= code < 600:
        return _read_error(code, {}, said, structured=False)
    why = f", it says: {said['message']}" if said.get("message") else ""
    return Attempt("unreadable", detail=f"the body is no chat completion{why}", status=status)


def _text(content: object) -> str:
    """Text of an answer: servers of reasoning models send a list of parts, their thoughts among them."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type", "text") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None
