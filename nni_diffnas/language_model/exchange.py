"""`LanguageModel`: what a strategy may ask of a language model, whether it is live, local or replayed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Literal

from nni_diffnas.api.space import Architecture

from .ledger import Ledger, LedgerRow
from .overflow import Overflow
from .tokens import TokenCount

__all__ = ["Answer", "Fill", "LanguageModel", "Message", "Question", "RecordedRound"]


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Question:
    """One question, and its place in the search: a replay finds the recorded answer by ``round`` and ``step``.

    Args:
        round: rounds of proposals count from 1; 0 is the check before the search.
        step: 0 asks for proposals, 1, 2, ... for repairs.
        messages: the conversation so far.
        schemas: JSON schemas of the answer for servers that support structured output, the most exact one first; where
            a server refuses one, it gets the next, and then none.
    """

    round: int
    step: int
    messages: tuple[Message, ...]
    schemas: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came back: a text, or the fault that remained after all retries.

    Args:
        text: of the answer.
        fault: why there is none.
        cut_off: the text ends in the middle, at the limit of its tokens.
        overflow: the prompt was too long; by how much, as far as the server says.
        seconds: that it took, retries included.
    """

    text: str = ""
    fault: str = ""
    cut_off: bool = False
    overflow: Overflow | None = None
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Fill:
    """An architecture that took the place of a missing proposal, and the one it was derived from."""

    architecture: Architecture
    parent: Architecture | None


@dataclass(frozen=True)
class RecordedRound:
    """What a transcript knows of a round.

    Args:
        wanted: proposals that were asked for.
        fills: what filled the slots that the model left open, by slot; and, numbered on from these, what was trained
            while the model was still answering.
        accepted: proposals that were trained, by slot.
        answers: texts of the answers, by step.
    """

    wanted: int
    fills: Mapping[int, Fill] = field(default_factory=dict)
    accepted: Mapping[int, Architecture] = field(default_factory=dict)
    answers: Mapping[int, str] = field(default_factory=dict)


class LanguageModel(ABC):
    """Answers questions, counts what that costs, and keeps a transcript.

    Strategies get one; they never see a network, a file or a key.

    Args:
        name: of the model that is asked.
        ledger: of all requests.
        answer_tokens: the most that an answer may have.
    """

    def __init__(self, name: str, ledger: Ledger, answer_tokens: int = 2000) -> None:
        self.name = name
        self.ledger = ledger
        self.answer_tokens = answer_tokens
        self.tokens = TokenCount()

    @abstractmethod
    def open(self, folder: Path | None, about: Mapping[str, Any], listen: Callable[[LedgerRow], None]) -> None:
        """Learn what the search is about before the first question.

        Args:
            folder: of the experiment, for the transcript; ``None`` keeps none.
            about: ``space`` (its key), ``task``, ``strategy``: the head of the transcript.
            listen: called with each ledger row once it is entered.

        Raises:
            JobError: a recorded model belongs to another space; a transcript that cannot be written.
        """

    @abstractmethod
    def check(self) -> None:
        """Find out, cheaply, whether the model can be asked at all.

        Raises:
            JobError: it cannot; the sentence names the remedy.
        """

    def expected_seconds(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """Seconds that a question will probably take; ``None`` where nobody knows."""
        return None

    def forecast(self, prompts: Sequence[int], answer_tokens: int) -> str:
        """Say what questions will cost.

        Args:
            prompts: estimated tokens of each.
            answer_tokens: estimated tokens of an answer.
        """
        return self.ledger.forecast(self.name, prompts, answer_tokens, self.answer_tokens)

    @abstractmethod
    def ask(self, question: Question) -> Answer:
        """Answer, or say why there is no answer. Never raises for what a server does; takes bounded time."""

    def begin(self, question: Question) -> Future[Answer]:
        """Ask, and do not wait for the answer."""
        answer: Future[Answer] = Future()

        def run() -> None:
            try:
                answer.set_result(self.ask(question))
            except BaseException as error:  # of this program: raised where the answer is read
                answer.set_exception(error)

        Thread(target=run, name="question", daemon=True).start()
        return answer

    @abstractmethod
    def abandon(self) -> None:
        """Give up the questions that are under way: the search is over."""

    @abstractmethod
    def note(self, event: str, body: Mapping[str, Any]) -> None:
        """Write an event of the search into the transcript, between the exchanges."""

    def recorded(self, round: int) -> RecordedRound | None:
        """What a transcript holds of a round; ``None`` for a model that is asked live."""
        return None

    @property
    def order(self) -> Sequence[tuple[int, int]] | None:
        """Round and slot of all that a transcript had trained, in that order; ``None`` for a model asked live."""
        return None

    @property
    def last_round(self) -> int:
        """Latest round in the transcript that is being continued; 0 for a new one."""
        return 0


def to_wire(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as the chat-completions protocol writes them."""
    return [{"role": message.role, "content": message.content} for message in messages]
