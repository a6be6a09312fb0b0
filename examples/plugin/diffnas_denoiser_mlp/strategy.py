"""A strategy of one's own: train the cheapest architectures first."""

from __future__ import annotations

from collections.abc import Sequence

from nni_diffnas.api.strategy import AskTellStrategy
from nni_diffnas.api.trial import Suggestion, Trial

__all__ = ["CheapestFirst"]


class CheapestFirst(AskTellStrategy):
    """Draw a pool of random architectures and train the cheapest that is not known yet."""

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Name the cheapest of 50 draws."""
        drawn = [a for a in (self.draw() for _ in range(50)) if a is not None]
        unique = {self.space.key_of(a): a for a in drawn}.values()
        ordered = sorted(unique, key=lambda a: cost.macs if (cost := self.cost(a)) else 0)
        return [Suggestion(a, "cheapest") for a in ordered[:count]]

    def update(self, trials: Sequence[Trial]) -> None:
        """Learn nothing: the cost is known."""
