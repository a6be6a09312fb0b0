"""`ReplayedModel`: the answers of a transcript instead of a model, without network or key.

What is replayed is the order in which architectures were handed out: each is found by its **round** and **slot**,
proposals and fillings alike, however many workers are free now and however long the model took. No question is
compared, since questions hold scores, and those differ from machine to machine. So the sequence of architectures
depends on nothing but the transcript, the space, the budget and the trials known at the start. An answer can be read by
its round and **step** (0 asks for proposals, 1, 2, ... for repairs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.space import Architecture

from .exchange import Answer, Fill, LanguageModel, Question, RecordedRound
from .ledger import Ledger, LedgerRow
from .transcript import read_transcript

__all__ = ["ReplayedModel"]


class ReplayedModel(LanguageModel):
    """Answer from a transcript.

    Args:
        path: of the transcript.

    Raises:
        JobError: it cannot be read, or is no transcript.
    """

    def __init__(self, path: Path) -> None:
        entries = read_transcript(path)
        self.head = entries[0]
        super().__init__(str(self.head.get("model", "unknown")), Ledger())
        self.path = path
        self._answers: dict[tuple[int, int], Answer] = {}
        self._wanted: dict[int, int] = {}
        self._fills: dict[int, dict[int, Fill]] = {}
        self._accepted: dict[int, dict[int, Architecture]] = {}
        self._handed: list[tuple[int, int]] = []
        try:
            for entry in entries[1:]:
                self._read(entry)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise JobError(f"Transcript {str(path)!r} is damaged: an entry has no usable {error}.") from error

    def _read(self, entry: Mapping[str, Any]) -> None:
        match entry["event"]:
            case "asked":
                self._wanted[int(entry["round"])] = int(entry["wanted"])
            case "exchange":
                place = int(entry["round"]), int(entry["step"])
                cut_off = bool(entry.get("cut_off"))
                self._answers[place] = Answer(str(entry["answer"]), str(entry["fault"]), cut_off=cut_off)
            case "accepted":
                self._accepted.setdefault(int(entry["round"]), {})[int(entry["slot"])] = dict(entry["architecture"])
            case "handed":
                self._handed += [(int(round), int(slot)) for round, slot in entry["slots"]]
            case "filled":
                parent = entry["parent"]
                fill = Fill(dict(entry["architecture"]), None if parent is None else dict(parent))
                self._fills.setdefault(int(entry["round"]), {})[int(entry["slot"])] = fill

    def open(self, folder: Path | None, about: Mapping[str, Any], listen: Callable[[LedgerRow], None]) -> None:
        """Refuse a search on another space."""
        if self.head.get("space") != about.get("space"):
            raise JobError(
                f"Transcript {str(self.path)!r} was written for another search space (key "
                f"{self.head.get('space')}, here {about.get('space')}): replay it with the job it was made with."
            )

    def check(self) -> None:
        """A transcript is always there."""

    def forecast(self, prompts: Sequence[int], answer_tokens: int) -> str:
        """Nothing is asked."""
        return f"answers come from transcript {str(self.path)!r} and cost nothing"

    def abandon(self) -> None:
        """Nothing is under way."""

    def note(self, event: str, body: Mapping[str, Any]) -> None:
        """Write nothing: the transcript exists."""

    def ask(self, question: Question) -> Answer:
        """Return the recorded answer of the same round and step."""
        missing = f"the transcript holds no answer for round {question.round}, step {question.step}"
        return self._answers.get((question.round, question.step), Answer(fault=missing))

    def recorded(self, round: int) -> RecordedRound | None:
        """What the round asked for, and what filled it."""
        if round not in self._wanted:
            return None
        return RecordedRound(
            self._wanted[round],
            self._fills.get(round, {}),
            self._accepted.get(round, {}),
            {step: answer.text for (number, step), answer in sorted(self._answers.items()) if number == round},
        )

    @property
    def order(self) -> Sequence[tuple[int, int]]:
        """As it was recorded; rounds of which that was not recorded come one after the other."""
        slots = {(r, slot) for found in (self._accepted, self._fills) for r, named in found.items() for slot in named}
        first = min((round for round, _ in self._handed), default=None)
        return [*sorted(place for place in slots if first is None or place[0] < first), *self._handed]
