"""`Rounds`: the questions that are under way, the proposals that are ready, and what takes the place of late ones.

A model is asked in the background; all else happens when the door asks for architectures or says that something has
come in. So nothing here needs a lock but the event that an answer sets.

Notation
    round      one question for proposals, with the repairs that follow from its answers
    slot       place in a round: proposals that were accepted, then fillings of the places that stayed open, then
               fillings that were trained while the model was still answering
    patience   seconds that a free worker waits for an answer
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Suggestion
from nni_diffnas.language_model.exchange import Answer, LanguageModel, Message, Question

from .fallback import Fallback
from .offers import Offer
from .repair import Rejection, render_repair

__all__ = ["Asked", "JudgedAnswer", "Ready", "Rounds"]

_LONGEST = 8000
"""Characters of an answer that are shown again in a repair message."""

_TIGHT = 1.15
"""How much more than what a server says a prompt is shortened: tokens are estimated."""


@dataclass(frozen=True)
class Asked:
    """A question for proposals.

    Args:
        messages: system and user.
        schemas: of the answer, see `Question`.
        example: that the prompt shows; repeating it is no proposal.
    """

    messages: tuple[Message, ...]
    schemas: tuple[Mapping[str, Any], ...]
    example: Architecture | None


@dataclass(frozen=True)
class JudgedAnswer:
    """What an answer holds, in order.

    Args:
        accepted: what can be trained, with the reason given for it.
        rejected: what cannot.
        refused: of this, what is of the space.
    """

    accepted: tuple[tuple[Architecture, str], ...]
    rejected: tuple[Rejection, ...]
    refused: tuple[Architecture, ...] = ()


@dataclass(frozen=True)
class Ready:
    """An architecture that waits for a worker."""

    round: int
    slot: int
    suggestion: Suggestion


class Proposer(Protocol):
    """What rounds need of whoever proposes: the words of questions, and a verdict on answers."""

    def compose(self, wanted: int, coming: Sequence[Architecture], memory_tokens: int | None) -> Asked:
        """Word a question; with ``memory_tokens`` its memory is shorter than usual."""

    def offers(self, refused: Sequence[Architecture]) -> tuple[Offer, ...]:
        """What can be trained near these."""

    def schemas(self, wanted: int, offers: Sequence[Offer]) -> tuple[Mapping[str, Any], ...]:
        """Schemas of the answer to a repair message."""

    def judge(self, answer: Answer, round: int, step: int, example: Architecture | None, most: int) -> JudgedAnswer:
        """Read an answer, keep its lessons and complaints, and accept at most so many of its proposals."""

    def fallback(self) -> Fallback:
        """What fills slots now."""

    def log(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write into the journal."""

    @property
    def busy(self) -> int:
        """How many are in training; where any is, the search goes on when nothing is suggested now."""

    @property
    def wake(self) -> Callable[[], None] | None:
        """Lets the door ask again; ``None`` where the door cannot be woken."""


@dataclass
class _Round:
    number: int
    wanted: int
    asked: Asked
    messages: list[Message]
    answer: Future[Answer]
    memory_tokens: int | None
    step: int = 0
    accepted: int = 0
    early: int = 0

    @property
    def missing(self) -> int:
        return self.wanted - self.accepted


class Rounds:
    """Asks in the background, and hands out what is ready.

    A worker that asks gets what is ready at once. Otherwise a question is asked; until its answer is there, the door is
    let go where something is in training and it can be woken, and else held. After ``patience_s`` a filling takes the
    slot; the proposals, when they come, are kept for the next workers. A model that is slower than this is asked ahead,
    while all workers are busy, until there is one for each.

    Args:
        proposer: words questions and judges answers.
        model: is asked.
        repairs: repair messages a round.
        patience_s: seconds that a free worker waits for the model.
        at_once: questions that are asked beside each other where several workers are free.
    """

    def __init__(
        self, proposer: Proposer, model: LanguageModel, repairs: int, patience_s: float, at_once: int = 1
    ) -> None:
        self._proposer, self._model = proposer, model
        self._repairs, self._patience_s, self._at_once = repairs, patience_s, at_once
        self.number = 0
        self.per_answer = 1
        self.ready: list[Ready] = []
        self._under_way: list[_Round] = []
        self._open: list[tuple[_Round, int, str]] = []
        self._since: float | None = None
        self._slow = False
        self._most = 1
        self._since_handed = 0
        self._memory_tokens: int | None = None
        self._came_in = threading.Event()
        self._timer: threading.Timer | None = None

    def expect(self, seconds: float) -> None:
        """Know how long a question will probably take before the first one has been asked."""
        self._slow = seconds > self._patience_s

    # Handing out -----------------------------------------------------------------------------------------------------

    def next(self, count: int) -> list[Suggestion]:
        """What can be trained now, up to ``count``; nothing where the door will be woken, or nothing is left."""
        self._most = max(self._most, self._proposer.busy + count)
        self._since = self._since or time.monotonic()
        self.attend()
        if not (self.ready or self._open or self._under_way):
            self._begin(count, [])
        while not (self.ready or self._open) and (left := self._since + self._patience_s - time.monotonic()) > 0:
            if self._proposer.wake is not None and self._proposer.busy:
                self._wake_in(left)
                return []
            self._came_in.wait(left)
            self.attend()
        self._since = None
        taken, self.ready = self.ready[:count], self.ready[count:]
        if len(taken) < count and (self._open or not taken):
            taken += self._fill(count - len(taken), [each.suggestion.architecture for each in taken])
        if taken:
            self._since_handed = 0
            self._model.note("handed", {"slots": [[each.round, each.slot] for each in taken]})
        suggested = [each.suggestion for each in taken]
        self._ask_ahead([suggestion.architecture for suggestion in suggested])
        return suggested

    @property
    def coming(self) -> list[Architecture]:
        """What is ready, and waits for a worker."""
        return [each.suggestion.architecture for each in self.ready]

    def _wake_in(self, seconds: float) -> None:
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(seconds, self._call)
            self._timer.daemon = True
            self._timer.start()

    def _call(self) -> None:
        self._came_in.set()
        if self._proposer.wake is not None:
            self._proposer.wake()

    def _fill(self, count: int, taken: list[Architecture]) -> list[Ready]:
        """Fill slots that stayed open; where none has, those of workers that have waited long enough."""
        filled: list[Ready] = []
        late = not self._open
        fallback = self._proposer.fallback()
        for _ in range(count):
            if late:
                if not self._under_way:
                    break
                round = self._under_way[0]
                slot, why = round.wanted + round.early, f"no answer after {self._patience_s:g} s"
            elif self._open:
                round, slot, why = self._open[0]
            else:
                break
            found = fallback.find([*taken, *self.coming])
            if found is None:
                self._open = []
                break
            if late:
                round.early += 1
                self._slow = True
            else:
                del self._open[0]
            taken.append(found.architecture)
            filled.append(Ready(round.number, slot, found))
            parent = fallback.architecture_of(found.parent)
            body = {"round": round.number, "slot": slot, "architecture": found.architecture, "parent": parent}
            self._model.note("filled", body)
            self._proposer.log("fallback", {**body, "why": why})
        return filled

    # Asking ----------------------------------------------------------------------------------------------------------

    def _ask_ahead(self, coming: Sequence[Architecture] = ()) -> None:
        """Ask a slow model for the next architecture of every worker before any of them is free.

        One that gives nothing of use is not asked for ever: twice as many questions as there are workers.
        """
        self._most = max(self._most, self._proposer.busy)
        missing = self._most - len(self.ready)
        wanted = self._slow and missing > 0 and self._since_handed < 2 * self._most
        waited_for = self._open and self._since is not None  # a free worker takes the slot at once
        if wanted and not (self._under_way or waited_for):
            self._begin(missing, coming)

    def _begin(self, wanted: int, coming: Sequence[Architecture]) -> None:
        """Ask for proposals, in several questions at once where that is allowed."""
        self._open = []
        for part in range(self._at_once):
            share = min(-(-wanted // (self._at_once - part)), self.per_answer)
            if share <= 0:
                break
            wanted -= share
            self.number += 1
            self._since_handed += 1
            asked = self._proposer.compose(share, [*self.coming, *coming], self._memory_tokens)
            self._model.note("asked", {"round": self.number, "wanted": share})
            messages = list(asked.messages)
            answer = self._ask(Question(self.number, 0, tuple(messages), asked.schemas))
            self._under_way.append(_Round(self.number, share, asked, messages, answer, self._memory_tokens))

    def _ask(self, question: Question) -> Future[Answer]:
        answer = self._model.begin(question)
        answer.add_done_callback(lambda _: self._call())
        return answer

    def attend(self) -> None:
        """Take in the answers that have come."""
        self._came_in.clear()
        for round in [round for round in self._under_way if round.answer.done()]:
            answer = round.answer.result()
            self._slow = answer.seconds > self._patience_s
            if answer.overflow is not None and self._shorten(round, answer):
                continue
            if answer.fault:
                self._end(round, answer.fault)
            else:
                self._take_in(round, answer)
        self._ask_ahead()

    def _take_in(self, round: _Round, answer: Answer) -> None:
        judged = self._proposer.judge(answer, round.number, round.step, round.asked.example, round.missing)
        for architecture, reason in judged.accepted:
            place = {"round": round.number, "step": round.step, "slot": round.accepted}
            body = {**place, "architecture": architecture, "reason": reason}
            self._model.note("accepted", body)
            self._proposer.log("proposal", body)
            self.ready.append(Ready(round.number, round.accepted, Suggestion(architecture, "proposal")))
            round.accepted += 1
        served = round.accepted and round.accepted + round.early >= round.wanted  # nobody waits for more of it
        if served or not round.missing:
            self._end(round, "")
        elif round.step == self._repairs:
            self._end(round, "no repair was left")
        else:
            round.step += 1
            alternatives = max(round.missing, min(self.per_answer, round.missing * 2**round.step))
            offers = self._proposer.offers(judged.refused) if round.step == self._repairs else ()
            repair = render_repair(
                judged.rejected, round.accepted, round.missing, alternatives, cut_off=answer.cut_off, offers=offers
            )
            round.messages += [Message("assistant", answer.text[:_LONGEST]), Message("user", repair)]
            schemas = self._proposer.schemas(alternatives, offers)
            round.answer = self._ask(Question(round.number, round.step, tuple(round.messages), schemas))

    def _shorten(self, round: _Round, answer: Answer) -> bool:
        """Ask again with less of the memory, as the server's words have it; whether there is anything to leave out."""
        overflow, tokens = answer.overflow, self._model.tokens
        assert overflow is not None
        whole = self._proposer.compose(round.wanted, self.coming, round.memory_tokens).messages
        bare = self._proposer.compose(round.wanted, self.coming, 0).messages
        size, least = (tokens.prompt([message.content for message in messages]) for messages in (whole, bare))
        if round.memory_tokens == 0 or size <= least:
            return False
        shown = size - least
        if overflow.context is not None and overflow.prompt is not None:
            scale = overflow.prompt / max(1, tokens.prompt([message.content for message in round.messages]))
            answers = min(self._model.answer_tokens, overflow.context // 4)
            room = shown - _TIGHT * (overflow.prompt + answers - overflow.context) / scale
        else:
            room = shown / 2
        round.memory_tokens = int(room) if 50 <= room < shown else 0
        if not round.step:  # with repairs a conversation is longer than the next question will be
            self._memory_tokens = round.memory_tokens
        round.asked = self._proposer.compose(round.wanted, self.coming, round.memory_tokens)
        round.messages[:2] = round.asked.messages
        schemas = round.asked.schemas
        round.answer = self._ask(Question(round.number, round.step, tuple(round.messages), schemas))
        return True

    def _end(self, round: _Round, why: str) -> None:
        self._under_way.remove(round)
        self._open += [(round, slot, why) for slot in range(round.accepted, round.wanted - round.early)]
