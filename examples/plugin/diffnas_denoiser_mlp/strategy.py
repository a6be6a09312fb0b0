"""A strategy of one's own: train the cheapest architectures first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy

__all__ = ["CheapestFirst"]


class CheapestFirst(AskTellStrategy):
    """Draw a pool of random architectures and train the cheapest that is not known yet."""

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Name the cheapest of 50 draws."""
        drawn = islice(iter(self.search.draw, None), 50)  # fewer where no more are left
        unique = {self.search.space.key_of(a): a for a in drawn}.values()
        family = self.search.family
        ordered = sorted(unique, key=lambda a: family.cost(a).macs if family else 0)
        return [Suggestion(a, "cheapest") for a in ordered[:count]]

    def update(self, trials: Sequence[Trial]) -> None:
        """Learn nothing: the cost is known."""
