"""`RandomSearch`: uniform draws within budget; the control that every other strategy is measured against."""

from __future__ import annotations

from collections.abc import Sequence

from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy

__all__ = ["RandomSearch"]


class RandomSearch(AskTellStrategy):
    """Train distinct architectures drawn uniformly from those within budget."""

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Draw ``count`` architectures; fewer once the space is exhausted."""
        drawn: list[Architecture] = []
        while len(drawn) < count and (architecture := self.search.draw(drawn)) is not None:
            drawn.append(architecture)
        return [Suggestion(architecture, "random") for architecture in drawn]

    def update(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""
