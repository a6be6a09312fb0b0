"""What has been tried: in this search, and in earlier ones that share its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import SearchView, StrategyHooks
from nni_diffnas.api.trial import Trial

__all__ = ["KnownTrials"]


@dataclass(frozen=True)
class KnownTrials:
    """Trials of this search and of its memory.

    Args:
        strategy: of the search; a checkpoint that is restored gives it another view of that.
        coming: architectures that wait for a worker.
    """

    strategy: StrategyHooks
    coming: Callable[[], Sequence[Architecture]]

    @property
    def search(self) -> SearchView:
        """The search."""
        return self.strategy.search

    def trials(self) -> list[Trial]:
        """Trials of this space under this protocol: those of the shared memory, then those of this search."""
        about = self.search.about
        known = {trial.id: trial for trial in self.search.trials}
        earlier: list[Trial] = []
        if about.memory is not None:
            others = about.memory.trials(space_key=self.search.space.key, protocol=about.protocol)
            earlier = [trial for trial in others if trial.id not in known]
        same = [t if t.protocol == about.protocol or not t.metrics else replace(t, metrics={}) for t in known.values()]
        return [*earlier, *same]

    def refusal(self, architecture: Architecture) -> str:
        """Say why an architecture may not be trained: as the search does, about to be, or trained before in the memory;
        empty when it may.
        """
        why = self.search.refusal(architecture)
        if architecture in self.coming():
            why = why or "about to be trained"
        about, space = self.search.about, self.search.space
        if not why and about.memory is not None:
            before = about.memory.find(space.key, space.key_of(architecture), about.protocol)
            why = "already trained or pending in an earlier search of this memory" if before else ""
        return why
