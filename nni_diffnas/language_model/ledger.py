"""`Ledger`: every request to a language model with its tokens, latency, price and outcome; and the limits on them."""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nni_diffnas.api.errors import JobError

__all__ = ["PRICES", "Ledger", "LedgerRow", "Limits", "Price", "Totals", "price_of"]


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Price of one request in US dollars."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


PRICES: Mapping[str, Price] = {
    "gpt-4": Price(30.0, 60.0),
    "gpt-4-turbo": Price(10.0, 30.0),
    "gpt-4-turbo-preview": Price(10.0, 30.0),
    "gpt-4o": Price(2.5, 10.0),
    "gpt-4o-2024-05-13": Price(5.0, 15.0),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-4.1": Price(2.0, 8.0),
    "gpt-4.1-mini": Price(0.4, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.4),
    "gpt-5": Price(1.25, 10.0),
    "gpt-5-mini": Price(0.25, 2.0),
    "gpt-5-nano": Price(0.05, 0.4),
    "o3": Price(2.0, 8.0),
    "o4-mini": Price(1.1, 4.4),
}
"""OpenAI's list prices, looked up in November 2026 (sources: docs/how-to/language-model.md).

The option ``prices`` overrides them.
"""


def price_of(model: str, overrides: Mapping[str, Mapping[str, float]] | None, own_server: bool) -> Price | None:
    """Price of a model; a dated name (``gpt-4o-2024-08-06``) has the price of its family.

    Args:
        model: its name.
        overrides: by model, ``{"input": ..., "output": ...}`` in US dollars per million tokens.
        own_server: a server of one's own, whose prices no list knows.

    Returns:
        ``None`` where the price is not known.

    Raises:
        JobError: an override that is not two numbers of at least 0.
    """
    table = {} if own_server else dict(PRICES)
    for name, entry in (overrides or {}).items():
        numbers = isinstance(entry, Mapping) and set(entry) == {"input", "output"}
        if not numbers or not all(isinstance(v, int | float) and 0 <= v < math.inf for v in entry.values()):
            raise JobError(
                f"prices of model {name!r} are {entry!r}: give input and output in US dollars per million tokens."
            )
        table[name] = Price(float(entry["input"]), float(entry["output"]))
    return table.get(model) or table.get(re.sub(r"-(\d{4}-\d{2}-\d{2}|\d{4})$", "", model))


@dataclass(frozen=True)
class Limits:
    """What a search may spend on a model; ``None`` leaves it open."""

    cost_usd: float | None = None
    tokens: int | None = None
    requests: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value >= 0:
                raise JobError(f"max_{name} is {value!r}: give a number of at least 0, or leave it out.")


@dataclass(frozen=True)
class LedgerRow:
    """One request.

    Args:
        round, step: of the question it belongs to; round 0 is the check before the search.
        model: that was asked.
        outcome: ``ok`` or the fault, see `chat.Attempt`.
        status: HTTP status; 0 where none came.
        prompt_tokens, completion_tokens: as the server counted them.
        estimated: the server did not count (it timed out, say), so that the tokens are estimates.
        latency_s: seconds until the answer or the fault.
        cost_usd: ``None`` where the price is not known.
    """

    round: int
    step: int
    model: str
    outcome: str
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    latency_s: float = 0.0
    cost_usd: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; ``LedgerRow(**body)`` reads it back."""
        return asdict(self)


@dataclass(frozen=True)
class Totals:
    """Sums over a ledger; ``cost_usd`` is ``None`` where no price is known."""

    requests: int
    outcomes: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost_usd: float | None

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class Ledger:
    """All requests of a search, in order.

    Args:
        price: of the model; ``None`` where it is not known.
        limits: at which asking stops.
        own_server: the model runs on a server of one's own, which sends no bills.

    Raises:
        JobError: a limit on the cost of a model without a price.
    """

    def __init__(self, price: Price | None = None, limits: Limits | None = None, own_server: bool = False) -> None:
        self.price = price
        self.limits = limits or Limits()
        self.own_server = own_server
        self.rows: list[LedgerRow] = []
        self._under_way: list[tuple[int, int]] = []
        self._unheard = (0, 0)
        self._lock = threading.Lock()
        if price is None and self.limits.cost_usd is not None:
            raise JobError(
                f"max_cost_usd is {self.limits.cost_usd:g}, but the model's price is not known: "
                f"give prices: {{MODEL: {{input: ..., output: ...}}}} in US dollars per million tokens."
            )

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Start from the rows of an earlier part of the search, given as JSON."""
        self.rows = [LedgerRow(**row) for row in rows]

    def reserve(self, prompt_tokens: int, answer_tokens: int) -> str:
        """Set aside what a request may take at worst, until it is entered; or say which limit forbids it.

        Args:
            prompt_tokens: the most that the prompt can have.
            answer_tokens: the most that the answer may have.
        """
        with self._lock:
            if why := self.refusal(prompt_tokens, answer_tokens):
                return why
            self._under_way.append((prompt_tokens, answer_tokens))
            return ""

    @property
    def under_way(self) -> int:
        """Requests that were reserved and have not been entered."""
        return len(self._under_way)

    def enter(self, row: LedgerRow, reserved: tuple[int, int] | None = None, *, heard: bool = True) -> None:
        """Append a request, in place of what was reserved for it.

        Args:
            row: the request.
            reserved: what was set aside.
            heard: the server has said what it counts; where it has not, all that was set aside may be spent.
        """
        with self._lock:
            self.rows.append(row)
            if reserved in self._under_way:
                self._under_way.remove(reserved)
                if not heard:
                    prompt, answer = self._unheard
                    spent = row.prompt_tokens, row.completion_tokens
                    self._unheard = (prompt + reserved[0] - spent[0], answer + reserved[1] - spent[1])

    def totals(self) -> Totals:
        """Sum everything up."""
        costs = [row.cost_usd for row in self.rows if row.cost_usd is not None]
        return Totals(
            requests=len(self.rows),
            outcomes=dict(Counter(row.outcome for row in self.rows)),
            prompt_tokens=sum(row.prompt_tokens for row in self.rows),
            completion_tokens=sum(row.completion_tokens for row in self.rows),
            latency_s=sum(row.latency_s for row in self.rows),
            cost_usd=sum(costs) if self.price is not None else None,
        )

    def refusal(self, prompt_tokens: int, answer_tokens: int) -> str:
        """Say which limit one more request could break, at worst; empty where none.

        Args:
            prompt_tokens: the most that the prompt can have.
            answer_tokens: the most that the answer may have.
        """
        spent, limits = self.totals(), self.limits
        if limits.requests is not None and spent.requests + len(self._under_way) >= limits.requests:
            return f"max_requests of {limits.requests} is used up"
        prompt = prompt_tokens + sum(prompt for prompt, _ in (*self._under_way, self._unheard))
        answer = answer_tokens + sum(answer for _, answer in (*self._under_way, self._unheard))
        if limits.tokens is not None and spent.tokens + prompt + answer > limits.tokens:
            return f"max_tokens of {limits.tokens} leaves no room for another request ({spent.tokens} used)"
        if limits.cost_usd is not None and self.price is not None:
            known = spent.cost_usd or 0.0
            if known + self.price.of(prompt, answer) > limits.cost_usd:
                return f"max_cost_usd of {limits.cost_usd:g} leaves no room for another request ({known:.4f} spent)"
        return ""

    def forecast(self, model: str, prompts: Sequence[int], answer_tokens: int, answer_limit: int) -> str:
        """Say what questions will cost when each is answered at once, and at which of them a limit ends the asking.

        Args:
            model: its name.
            prompts: estimated tokens of each question.
            answer_tokens: estimated tokens of an answer.
            answer_limit: the most that an answer may have, by which limits are kept.
        """
        ahead, stop = Ledger(self.price, self.limits), ""
        for tokens in prompts:
            if stop := ahead.refusal(tokens, answer_limit):
                break
            cost = None if self.price is None else self.price.of(tokens, answer_tokens)
            row = LedgerRow(0, 0, model, "ok", prompt_tokens=tokens, completion_tokens=answer_tokens, cost_usd=cost)
            ahead.enter(row)
        spent = ahead.totals()
        cost_usd = "" if spent.cost_usd is None else f" and cost about {spent.cost_usd:.2g} USD"
        text = (
            f"{spent.requests} questions to {model} will take about {spent.prompt_tokens:,} + "
            f"{spent.completion_tokens:,} tokens{cost_usd} (repairs and retries come on top)"
        )
        if spent.cost_usd is None and not self.own_server:
            price = f"{{{model}: {{input: ..., output: ...}}}}"
            text += f"; its price is not known: set prices: {price} in US dollars per million tokens"
        if stop:
            text += f"; {stop}, so that mutation takes the place of {len(prompts) - spent.requests} more"
        elif self.limits.cost_usd is not None:
            text += f"; max_cost_usd ends them at {self.limits.cost_usd:g} USD"
        return text

    def describe(self) -> str:
        """One line for the terminal and the report."""
        totals = self.totals()
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(totals.outcomes.items()))
        names = ", ".join(sorted({row.model for row in self.rows}))
        unknown = f"price of {names} unknown (set prices)" if names else "nothing spent"
        if self.own_server:
            unknown = "on a server of one's own, without a price"
        cost = unknown if totals.cost_usd is None else f"{totals.cost_usd:.4f} USD"
        return (
            f"{totals.requests} requests ({outcomes or 'none'}), {totals.prompt_tokens} + "
            f"{totals.completion_tokens} tokens, {totals.latency_s:.1f} s, {cost}"
        )
