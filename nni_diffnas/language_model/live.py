"""`LiveModel`: a language model behind a server, with retries, limits, ledger and transcript."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni_diffnas.api.errors import JobError

from .chat import Attempt, ChatEndpoint
from .exchange import Answer, LanguageModel, Message, Question, to_wire
from .ledger import Ledger, LedgerRow, estimate_tokens
from .transcript import Transcript

__all__ = ["LiveModel", "RetryPolicy"]

_logger = logging.getLogger(__name__)

_UNANSWERED = {
    "bad_request": "check that the server speaks OpenAI's chat completions, and what it says of the request",
    "unreadable": "check that base_url is that of OpenAI's chat completions, as a rule with /v1 at its end",
    "cut_off": "raise answer_tokens, of which the model's thoughts are a part",
    "empty": "check model, and raise answer_tokens if it thinks before it answers",
    "refused": "choose another model",
    "tool_call": "choose another model, or a server that offers it no tools",
}
"""Ends of a first question that bode no answers later, each with its remedy."""

_PASSING = ("timeout", "connection", "rate_limited", "server_error", "unreadable", "cut_off", "empty", "refused")
_RETRIED = frozenset((*_PASSING, "tool_call"))
"""Faults that another try may not meet; the model draws its answers, so that this holds for its own faults too."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a question is repeated.

    Args:
        retries: after the first try.
        backoff_s: longest wait before the first retry; doubles with each. The wait is drawn uniformly from the upper
            half, so that several searches do not knock at once.
        max_wait_s: longest wait; a server that asks for more is not asked again for this question.
    """

    retries: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 60.0

    def wait(self, retry: int, asked: float | None, rng: random.Random) -> float | None:
        """Seconds before retry number ``retry`` (from 0); ``None`` gives up.

        Args:
            retry: number of the retry.
            asked: seconds of ``Retry-After``.
            rng: of the jitter.
        """
        drawn: float = min(self.backoff_s * 2.0**retry, self.max_wait_s) * rng.uniform(0.5, 1.0)
        if asked is None:
            return drawn
        return None if asked > self.max_wait_s else max(asked, drawn)


class LiveModel(LanguageModel):
    """Ask a server.

    After a question that failed for good, the next ones are tried once until one is answered: a search goes on with
    its fall-back instead of waiting out every retry at a dead server.

    Args:
        endpoint: the server and model.
        ledger: of the requests, with the limits.
        policy: of the retries.
        answer_tokens: the most that an answer may have.
        structured: whether to ask for a JSON schema, until the server says that it does not know it.
        transcript: file of the transcript; ``None`` means ``transcript.jsonl`` in the experiment's folder.
        seed: of the jitter.
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        ledger: Ledger,
        policy: RetryPolicy,
        *,
        answer_tokens: int,
        structured: bool = True,
        transcript: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(endpoint.model, ledger, answer_tokens)
        self.endpoint, self.policy, self.structured = endpoint, policy, structured
        self._file = transcript
        self._transcript: Transcript | None = None
        self._listen: Callable[[LedgerRow], None] = lambda row: None
        self._rng = random.Random(seed)
        self._down = False
        self._stopped = ""

    def open(self, folder: Path | None, about: Mapping[str, Any], listen: Callable[[LedgerRow], None]) -> None:
        """Start (or go on with) the transcript."""
        self._listen = listen
        file = self._file or (None if folder is None else folder / "transcript.jsonl")
        if file is not None:
            head = {"model": self.name, "server": self.endpoint.address, **about}
            self._transcript = Transcript(file, head, self.endpoint.redactor)

    @property
    def last_round(self) -> int:
        """Latest round in the transcript."""
        return 0 if self._transcript is None else self._transcript.last_round

    def check(self) -> None:
        """Ask for one word: finds a wrong key, model or address, and a server that does not answer, for a few tokens.

        A server that is busy has accepted the key, and may answer later.

        Raises:
            JobError: the key, the model's name or the address is wrong, or the answer is none.
        """
        question = Question(0, 0, (Message("user", "Answer with the word: ready"),))
        attempt = self._try(question, None, self.answer_tokens)  # as many as later: a model may think before it answers
        if attempt.outcome in _UNANSWERED and attempt.outcome != "bad_request":
            attempt = self._try(question, None, self.answer_tokens)
        self.note("check", {"outcome": attempt.outcome, "status": attempt.status, "answered_by": attempt.answered_by})
        remedy = "and base_url, which says where the key is sent"
        if attempt.outcome in ("unauthorized", "no_quota"):
            raise JobError(
                f"{self.endpoint.address} refused the key (HTTP {attempt.status}: {attempt.detail}): check the "
                f"environment variable OPENAI_API_KEY {remedy}."
            )
        if attempt.outcome == "not_found":
            raise JobError(
                f"{self.endpoint.address} does not know model {self.name!r} (HTTP 404: {attempt.detail}): check model, "
                f"OPENAI_API_KEY {remedy}."
            )
        if attempt.outcome == "connection":
            raise JobError(
                f"No language model can be reached at {self.endpoint.address} ({attempt.detail}): start the server, "
                f"or check base_url (without it OpenAI is asked, with the key in OPENAI_API_KEY)."
            )
        if attempt.outcome in _UNANSWERED:
            raise JobError(
                f"{self.endpoint.address} did not answer a question of one word ({attempt.outcome}, HTTP "
                f"{attempt.status}: {attempt.detail}): {_UNANSWERED[attempt.outcome]}."
            )

    def ask(self, question: Question) -> Answer:
        """Ask, and ask again where that can help; the transcript and the ledger know every try."""
        attempts: list[Attempt] = []
        fault = self._stopped
        tries = 0 if self._stopped else 1 if self._down else 1 + self.policy.retries
        retry = 0
        while retry < tries:
            schema = question.schema if self.structured else None
            size = estimate_tokens("".join(message.content for message in question.messages))
            fault = self.ledger.refusal(size, self.answer_tokens)
            if fault:
                break
            attempt = self._try(question, schema, self.answer_tokens)
            attempts.append(attempt)
            fault = "" if attempt.outcome == "ok" else f"{attempt.outcome}: {attempt.detail}"
            if attempt.outcome == "no_schema":
                self.structured = False  # and the same question again, at once
                continue
            if attempt.outcome not in _RETRIED:
                break
            retry += 1
            wait = self.policy.wait(retry - 1, attempt.retry_after, self._rng) if retry < tries else None
            if wait is None:
                break
            time.sleep(wait)
        self._judge(attempts)
        answer = Answer(attempts[-1].text, "") if attempts and not fault else Answer("", fault)
        self._record(question, attempts, answer)
        return answer

    def _judge(self, attempts: list[Attempt]) -> None:
        if not attempts:
            return
        last = attempts[-1]
        self._down = last.outcome != "ok"
        if last.outcome in ("unauthorized", "not_found", "no_quota"):
            self._stopped = (
                f"{self.endpoint.address} refuses every request ({last.outcome}: {last.detail}): check OPENAI_API_KEY "
                f"and base_url"
            )
            _logger.warning("The language model is not asked any more: %s.", self._stopped)

    def _try(self, question: Question, schema: Mapping[str, Any] | None, answer_tokens: int) -> Attempt:
        attempt = self.endpoint.attempt(question.messages, schema, answer_tokens)
        answered = attempt.status == 200
        prompt, completion = attempt.prompt_tokens, attempt.completion_tokens
        estimated = answered and (prompt is None or completion is None)
        if estimated:
            prompt = estimate_tokens("".join(message.content for message in question.messages))
            completion = estimate_tokens(attempt.text)
        price = self.ledger.price
        row = LedgerRow(
            round=question.round,
            step=question.step,
            model=self.name,
            outcome=attempt.outcome,
            status=attempt.status,
            prompt_tokens=prompt or 0,
            completion_tokens=completion or 0,
            estimated=estimated,
            latency_s=attempt.latency_s,
            cost_usd=None if price is None else price.of(prompt or 0, completion or 0),
        )
        self.ledger.enter(row)
        self._listen(row)
        return attempt

    def note(self, event: str, body: Mapping[str, Any]) -> None:
        """Write an event of the search into the transcript."""
        if self._transcript is not None:
            self._transcript.write(event, body)

    def _record(self, question: Question, attempts: list[Attempt], answer: Answer) -> None:
        self.note(
            "exchange",
            {
                "round": question.round,
                "step": question.step,
                "messages": to_wire(question.messages),
                "structured": self.structured and question.schema is not None,
                "attempts": [
                    {"outcome": a.outcome, "status": a.status, "detail": a.detail, "latency_s": a.latency_s}
                    for a in attempts
                ],
                "answered_by": attempts[-1].answered_by if attempts else "",
                "answer": answer.text,
                "fault": answer.fault,
            },
        )
