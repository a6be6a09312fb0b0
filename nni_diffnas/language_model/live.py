"""`LiveModel`: a language model behind a server, with retries, limits, ledger and transcript."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nni_diffnas.api.errors import JobError

from .chat import Attempt, ChatEndpoint
from .exchange import Answer, LanguageModel, Message, Question, to_wire
from .ledger import Ledger, LedgerRow
from .telling import Telling
from .transcript import Transcript

__all__ = ["LiveModel", "RetryPolicy"]

_UNANSWERED = {
    "bad_request": "check that the server speaks OpenAI's chat completions, and what it says of the request",
    "no_endpoint": "check host, port and path of base_url; the path is often /v1",
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

_UNCOUNTED = frozenset(("timeout", "abandoned"))
"""The server has the prompt and works on it, and nobody hears what it counts."""

_READS = 10.0
"""How many times as fast as it writes a model reads: roughly, for a forecast."""

_CHECK = "Count from 1 to 9, digits only."


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
    """Ask a server; several questions may be under way at once.

    After a question that failed for good, the next ones are tried once until one is answered: a search goes on with
    its fall-back instead of waiting out every retry at a dead server. An answer that was cut off is handed on as far as
    it goes, since another try would be cut off too.

    Args:
        endpoint: the server and model.
        ledger: of the requests, with the limits.
        policy: of the retries.
        answer_tokens: the most that an answer may have.
        structured: whether to ask for a JSON schema, as long as the server takes one.
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
        self.telling = Telling(self.name, endpoint.address)
        self._file = transcript
        self._transcript: Transcript | None = None
        self._listen: Callable[[LedgerRow], None] = lambda row: None
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._refused = 0
        self._down = False
        self._over = False
        self._stopped = ""
        self._check: tuple[Attempt, float] | None = None

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
        """Ask for a few tokens: finds a wrong key, model or address, no answers, and how fast the model writes.

        A server that is busy has accepted the key, and may answer later.

        Raises:
            JobError: the key, the model's name or the address is wrong, or the answer is none.
        """
        question = Question(0, 0, (Message("user", _CHECK),))
        attempt = self._try(question, None, self.answer_tokens)  # as many as later: a model may think before it answers
        if attempt.outcome in _UNANSWERED and attempt.outcome not in ("bad_request", "no_endpoint"):
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
                f"{self.endpoint.address} did not answer a question of a few words ({attempt.outcome}, HTTP "
                f"{attempt.status}: {attempt.detail}): {_UNANSWERED[attempt.outcome]}."
            )
        if attempt.status == 200:
            written = attempt.completion_tokens or self.tokens.text(attempt.text)
            read = attempt.prompt_tokens or self.tokens.text(_CHECK)
            self._check = attempt, attempt.latency_s / max(1.0, written + read / _READS)
        else:
            self.telling.ended(attempt)

    def expected_seconds(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """Seconds of a question at the speed of the check; ``None`` where it was not answered."""
        if self._check is None:
            return None
        _, speed = self._check
        return speed * (answer_tokens + prompt_tokens / _READS)

    def forecast(self, prompts: Sequence[int], answer_tokens: int) -> str:
        """Say who answered the check and how fast, what the questions will cost, and how long they will take."""
        told = super().forecast(prompts, answer_tokens)
        seconds = self.expected_seconds(sum(prompts) / max(1, len(prompts)), answer_tokens)
        if self._check is None or seconds is None:
            return told
        attempt, _ = self._check
        who = f"model {self.name} at {self.endpoint.address} answered as {attempt.answered_by or 'nobody'} in"
        limit = self.endpoint.timeout_s
        late = f", longer than timeout_s of {limit:g}: raise it, or lower answer_tokens and memory_tokens"
        taken = f"at that speed a question takes about {seconds:.0f} s{late if seconds > limit else ''}"
        return f"{who} {attempt.latency_s:.1f} s; {told}; {taken}"

    def ask(self, question: Question) -> Answer:
        """Ask, and ask again where that can help; the transcript and the ledger know every try."""
        began = time.monotonic()
        with self.telling.waiting(f"round {question.round}"):
            attempts, fault = self._attempts(question)
        self._judge(attempts)
        seconds = time.monotonic() - began
        last = attempts[-1] if attempts else Attempt("ok")
        if attempts and not fault:
            answer = Answer(last.text, cut_off=last.outcome == "cut_off", seconds=seconds)
        else:
            answer = Answer("", fault, overflow=last.overflow, seconds=seconds)
        self._record(question, attempts, answer)
        return answer

    def _attempts(self, question: Question) -> tuple[list[Attempt], str]:
        """Try until there is an answer or no hope; return all tries, and what is wrong with the last one."""
        attempts: list[Attempt] = []
        fault = self._stopped
        tries = 0 if self._stopped else 1 if self._down else 1 + self.policy.retries
        schemas = (*question.schemas, None) if self.structured else (None,)
        refused = min(self._refused, len(schemas) - 1)
        retry = 0
        while retry < tries and not self._over:
            room = self.tokens.most([message.content for message in question.messages]), self.answer_tokens
            fault = self.ledger.reserve(*room)
            if fault:
                break
            attempt = self._try(question, schemas[refused], self.answer_tokens, room)
            attempts.append(attempt)
            self.telling.ended(attempt)
            if attempt.outcome == "no_schema":
                refused += 1  # and the same question again at once: only that can tell what was refused
                continue
            if attempt.outcome == "ok" or (attempt.outcome == "cut_off" and attempt.text.strip()):
                self._settle(refused, len(schemas))
                return attempts, ""
            fault = f"{attempt.outcome}: {attempt.detail}"
            if attempt.outcome not in _RETRIED:
                break
            retry += 1
            wait = self.policy.wait(retry - 1, attempt.retry_after, self._rng) if retry < tries else None
            if wait is None:
                break
            self._sleep(wait)
        return attempts, fault

    def _settle(self, refused: int, schemas: int) -> None:
        """Ask from now on in the form that was taken."""
        if refused > self._refused:
            self._refused = refused
            form = "without a JSON schema" if refused == schemas - 1 else "with a JSON schema that bounds less"
            self.telling.line(f"takes the question {form}, and is asked so from now on")

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._over and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def _judge(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        last = attempts[-1]
        self._down = last.outcome not in ("ok", "cut_off", "too_long", "abandoned")
        if last.outcome in ("unauthorized", "not_found", "no_quota"):
            self._stopped = (
                f"{self.endpoint.address} refuses every request ({last.outcome}: {last.detail}): check OPENAI_API_KEY "
                f"and base_url"
            )
            self.telling.line("is not asked any more")

    def _try(
        self,
        question: Question,
        schema: Mapping[str, Any] | None,
        answer_tokens: int,
        reserved: tuple[int, int] | None = None,
    ) -> Attempt:
        attempt = self.endpoint.attempt(question.messages, schema, answer_tokens)
        texts = [message.content for message in question.messages]
        prompt, completion = attempt.prompt_tokens, attempt.completion_tokens
        self.tokens.learn(texts, prompt)
        uncounted = attempt.status == 200 and (prompt is None or completion is None)
        estimated = uncounted or attempt.outcome in _UNCOUNTED
        if estimated:
            prompt = self.tokens.prompt(texts)
            completion = self.tokens.text(attempt.text)
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
        with self._lock:  # in the journal in the order of the ledger
            self.ledger.enter(row, reserved, heard=attempt.outcome not in _UNCOUNTED)
            self._listen(row)
        return attempt

    def abandon(self) -> None:
        """Give up the questions that are under way, and enter what they have cost."""
        self._over = True
        self.endpoint.abandon()
        until = time.monotonic() + 2.0
        while self.ledger.under_way and time.monotonic() < until:
            time.sleep(0.02)
        self._over = False

    def note(self, event: str, body: Mapping[str, Any]) -> None:
        """Write an event of the search into the transcript."""
        if self._transcript is not None:
            self._transcript.write(event, body)

    def _record(self, question: Question, attempts: Sequence[Attempt], answer: Answer) -> None:
        self.note(
            "exchange",
            {
                "round": question.round,
                "step": question.step,
                "messages": to_wire(question.messages),
                "structured": self.structured and self._refused < len(question.schemas),
                "attempts": [
                    {"outcome": a.outcome, "status": a.status, "detail": a.detail, "latency_s": a.latency_s}
                    for a in attempts
                ],
                "answered_by": attempts[-1].answered_by if attempts else "",
                "answer": answer.text,
                "fault": answer.fault,
                "cut_off": answer.cut_off,
            },
        )
