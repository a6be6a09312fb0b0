"""What a language model's answers leave behind for the next prompts: lessons, and what could not be trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nni_diffnas.language_model.exchange import LanguageModel

from .repair import Rejection

__all__ = ["Notes"]

_KEPT_REJECTIONS = 12


@dataclass
class Notes:
    """Lessons and rejections of a search, and where they are written down.

    Args:
        model: keeps the transcript.
        log: writes into the memory's journal.
        space: key of the space, which the lessons are about.
        lessons: the latest.
        rejections: the latest, each proposal once.
    """

    model: LanguageModel
    log: Callable[[str, Mapping[str, Any]], None]
    space: str = ""
    lessons: tuple[str, ...] = ()
    rejections: list[Rejection] = field(default_factory=list)

    def learn(self, round: int, lessons: tuple[str, ...]) -> None:
        """Keep the lessons of an answer, where it has any others."""
        if lessons and lessons != self.lessons:
            self.lessons = lessons
            self.log("lessons", {"round": round, "lessons": list(lessons), "space": self.space})

    def refuse(self, round: int, step: int, rejections: Sequence[Rejection], *, show: bool = True) -> None:
        """Keep what was rejected on record; the next prompts show each once."""
        for rejection in rejections:
            body = {"round": round, "step": step, **rejection.to_json()}
            self.model.note("rejected", body)
            self.log("proposal rejected", body)
        if show:
            latest = {rejection.proposal: rejection for rejection in rejections}
            earlier = [rejection for rejection in self.rejections if rejection.proposal not in latest]
            self.rejections = [*earlier, *latest.values()][-_KEPT_REJECTIONS:]
