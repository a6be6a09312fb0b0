"""Replaying a transcript: what it had trained is suggested again, in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Suggestion
from nni_diffnas.language_model.exchange import LanguageModel

from .fallback import Fallback
from .known import KnownTrials
from .notes import Notes
from .parsing import read_answer

__all__ = ["Replaying"]


class Replaying:
    """Goes through a transcript.

    Args:
        model: that answers from it.
        space: what is searched.
        known: what has been tried.
        notes: take over the recorded lessons.
        fallback: makes what fills a place that the transcript cannot.
    """

    def __init__(
        self, model: LanguageModel, space: Space, known: KnownTrials, notes: Notes, fallback: Callable[[], Fallback]
    ) -> None:
        self._model, self._space, self._known, self._notes, self._fallback = model, space, known, notes, fallback
        self.done = 0
        """How many architectures of the transcript have been handed out."""
        self._read = 0

    def next(self, order: Sequence[tuple[int, int]]) -> list[Suggestion]:
        """What the transcript had trained next; beyond its end, and where that may not be trained here, a mutation.

        One at a time: its parent may be the one before.

        Args:
            order: rounds and slots as they were handed out.
        """
        fallback = self._fallback()
        suggested: Suggestion | None = None
        if self.done < len(order):
            suggested = self._recorded(*order[self.done], fallback)
            self.done += 1
        if suggested is None or self._known.refusal(suggested.architecture):
            suggested = fallback.find([])
        return [] if suggested is None else [suggested]

    def _recorded(self, round: int, slot: int, fallback: Fallback) -> Suggestion | None:
        recorded = self._model.recorded(round)
        if recorded is None:
            return None
        if round > self._read:
            self._read = round
            for text in recorded.answers.values():
                self._notes.lessons = read_answer(text, self._space).lessons or self._notes.lessons
        if slot in recorded.fills:
            return fallback.repeat(recorded.fills[slot])
        return Suggestion(recorded.accepted[slot], "proposal") if slot in recorded.accepted else None
