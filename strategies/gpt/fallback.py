"""What fills a slot that the model left open: an in-budget mutation of a good architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import SearchView
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.language_model.exchange import Fill

__all__ = ["Fallback"]

_GOOD = 0.25
_TRIES = 200


class Fallback:
    """Mutates architectures of the best quarter; draws at random where there is none, or nothing near it is left.

    Args:
        search: the search whose slots are filled.
        remembered: all trials that count.
        refusal: says why an architecture may not be trained; empty when it may.
    """

    def __init__(self, search: SearchView, remembered: Sequence[Trial], refusal: Callable[[Architecture], str]) -> None:
        self._search, self._remembered, self._refusal = search, remembered, refusal
        scored = [
            (score, trial)
            for trial in remembered
            if trial.status == "succeeded" and (score := search.objective.score(trial.metrics)) is not None
        ]
        scored.sort(key=lambda pair: -pair[0])
        self._good = [trial for _, trial in scored[: max(1, round(_GOOD * len(scored)))]]

    def find(self, taken: Sequence[Architecture]) -> Suggestion | None:
        """Find an architecture that is in budget, unknown and not ``taken``; ``None`` where there is none."""
        search = self._search
        for attempt in range(_TRIES if self._good else 0):
            parent = self._good[int(search.rng.integers(len(self._good)))]
            child = dict(parent.architecture)
            for _ in range(1 + attempt // 50):  # further away where the neighbourhood is used up
                child = search.space.mutate(child, search.rng)
            if child not in taken and not self._refusal(child):
                return Suggestion(child, "mutation", parent.id)
        refused = list(taken)
        while (drawn := search.draw(refused)) is not None and self._refusal(drawn):
            refused.append(drawn)
        return None if drawn is None else Suggestion(drawn, "random")

    def architecture_of(self, parent: str | None) -> Architecture | None:
        """The architecture of a trial."""
        return next((trial.architecture for trial in self._good if trial.id == parent), None)

    def repeat(self, fill: Fill) -> Suggestion:
        """The recorded filling of a slot, its parent looked up among this search's trials."""
        parents = (t.id for t in self._remembered if fill.parent is not None and t.architecture == fill.parent)
        return Suggestion(fill.architecture, "random" if fill.parent is None else "mutation", next(parents, None))
