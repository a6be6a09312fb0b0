"""A small space, and a strategy that suggests what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy


class Fixed(AskTellStrategy):
    """Suggests what it was given, once."""

    def __init__(self, *suggestions: Suggestion, **options: Any) -> None:
        super().__init__(train_first="none", **options)
        self.left = list(suggestions)
        self.seen: list[Trial] = []

    def suggest(self, count: int) -> Sequence[Suggestion]:
        given, self.left = self.left[:count], self.left[count:]
        return given

    def update(self, trials: Sequence[Trial]) -> None:
        self.seen += trials


SPACE = Space({"a": (1, 2, 3), "b": (True, False)})


ORIGIN = Origin("Other", "random")
