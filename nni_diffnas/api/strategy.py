"""`StrategyHooks`: what a searching algorithm writes; `SearchView`: what it sees of its search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .cost import Budget
from .errors import BudgetError, StrategyError
from .family import Family, sample_within
from .space import Architecture, Space, Value
from .trial import Objective, Suggestion, Trial

__all__ = ["About", "SearchView", "SharedMemory", "StrategyHooks"]


class SharedMemory(Protocol):
    """The search memory, as a strategy may use it: read what earlier searches have found, keep a journal of its own."""

    def log(self, kind: str, experiment: str, body: Mapping[str, Any]) -> None:
        """Append an event."""

    def events(self, kind: str | None = None, experiment: str | None = None) -> Sequence[Any]:
        """Events in the order in which they were logged."""

    def trials(self, *, space_key: str | None = None, protocol: str | None = None) -> Sequence[Trial]:
        """Trials of all its searches, or of those in one space by one protocol."""

    def find(self, space_key: str, architecture_key: str, protocol: str | None = None) -> Sequence[Trial]:
        """Trials of one architecture."""


@dataclass(frozen=True)
class About:
    """What a search is, for strategies that keep records or tell people and language models of it.

    Args:
        experiment: id of the NNI experiment.
        protocol: what the scores mean; scores of other protocols cannot be ranked with them.
        task: one line on what is learned from which data.
        folder: of the experiment; ``None`` where nothing is written.
        memory: shared with other searches perhaps; ``None`` where the trials are kept for this run only.
    """

    experiment: str = ""
    protocol: str = ""
    task: str = ""
    folder: Path | None = None
    memory: SharedMemory | None = None


class SearchView(Protocol):
    """One running search, to be read; only drawing changes something, the random numbers that come next."""

    @property
    def space(self) -> Space:
        """What is searched."""

    @property
    def family(self) -> Family | None:
        """What prices the networks; ``None`` for a stranger's NNI model space."""

    @property
    def objective(self) -> Objective:
        """The metric that ranks trials."""

    @property
    def budget(self) -> Budget:
        """Windows on the costs; what is suggested has to keep them."""

    @property
    def rng(self) -> np.random.Generator:
        """Random numbers of the strategy; their state is remembered with the trials."""

    @property
    def trials(self) -> list[Trial]:
        """All trials, those of a warm start included, in order of submission."""

    @property
    def pending(self) -> list[Trial]:
        """Trials that have been suggested and have not ended."""

    def draw(self, taken: Collection[Architecture] = ()) -> Architecture | None:
        """Draw a random architecture within budget that is neither known nor ``taken``; ``None`` where none is left."""

    def refusal(self, architecture: Architecture, settings: Mapping[str, Value] | None = None) -> str:
        """Say why a valid architecture may not be trained (outside the budget, already known); empty when it may."""

    @property
    def about(self) -> About:
        """What the search is: experiment, protocol, task, folder, memory."""


class StrategyHooks(ABC):
    """A searching algorithm. `suggest` and `update` make one; the other hooks are for those who need them.

    `search` is what it sees. It never reaches for NNI, files or the network itself.
    """

    _view: SearchView | None = None

    wake: Callable[[], None] | None = None
    """What a door that can be woken sets: called from any thread, it has the door call `update` with what has ended
    meanwhile, perhaps nothing, and then `suggest` for the workers that are free."""

    @property
    def search(self) -> SearchView:
        """The search that it serves.

        Raises:
            StrategyError: there is none yet: a door has to bind one.
        """
        if self._view is None:
            raise StrategyError(f"{type(self).__name__} has no search space yet: a door has to bind it first.")
        return self._view

    def begin(self, view: SearchView) -> None:
        """Serve this search from here on; a `Search` calls it."""
        self._view = view

    @abstractmethod
    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Name up to ``count`` architectures to train next.

        Called when workers are free. Pending trials are in `SearchView.pending`; finished ones have gone through
        `update`. Fewer than ``count`` means: nothing more for now; none at all while nothing is pending ends the
        search. It may take its time (train a surrogate, ask a server), since nobody waits for the search memory
        meanwhile, but must not block for ever.
        """

    @abstractmethod
    def update(self, trials: Sequence[Trial]) -> None:
        """Receive finished and failed trials, each once, in the order in which they ended, with all metrics.

        Trials of a warm start come first, before the first `suggest`. There may be none: when networks start that no
        strategy has to suggest, and when a door has been woken. A trial that was given up as failed, because its
        process ended without a word, may come once more when it reports after all.
        """

    def state(self) -> dict[str, Any]:
        """Return what must be remembered beyond the trials: primitives and tensors only."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; called after `setup` instead of replaying `update`."""

    def check_budget(self) -> None:
        """Refuse a budget that no architecture of the space meets; called before `setup`.

        Raises:
            BudgetError: the message states the nearest cost.
        """
        if self.search.budget.windows:
            if self.search.family is None:
                raise BudgetError("A budget is given, but this search space cannot say costs before training.")
            sample_within(self.search.family, self.search.budget, np.random.default_rng(0))

    def setup(self) -> None:
        """Prepare what depends on the space; called once, after `search` is there and before everything else."""

    def check(self) -> None:
        """Find out whether what the strategy needs from outside (a language model, say) is there.

        Called by the doors and the doctor once the space is bound, before anything is trained.

        Raises:
            DiffNASError: it is not; the sentence names the remedy.
        """

    def forecast(self, suggestions: int) -> str:
        """Say what so many suggestions will spend beside time and disk (on a language model, say), if anything.

        Called by the doors and the doctor once the space is bound, before anything is trained.
        """
        return ""

    def planned(self, trials: int) -> int:
        """How many trials the search will be, of those that it may have; fewer where it ends by itself."""
        return trials

    def whole(self, trials: int) -> float:
        """How many trials of full length so many amount to; fewer where some are short by the strategy's own plan."""
        return float(trials)

    def summary(self) -> str:
        """What the strategy has to say when the search ends, e.g. what it cost; empty means nothing."""
        return ""
