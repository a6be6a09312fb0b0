"""`View`: a running search as its strategy sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..api.cost import Budget
from ..api.errors import BudgetError
from ..api.family import Family, sample_within
from ..api.space import Architecture, Space, Value
from ..api.strategy import About
from ..api.trial import REFERENCE, Objective, Trial
from .history import History

__all__ = ["View"]

_DRAWS = 2000
"""Random draws before giving up, or before walking to a budget that they do not meet."""


@dataclass(frozen=True)
class View:
    """What `SearchView` promises, read from a history.

    Args:
        space: what is searched.
        family: builds and prices; a budget needs it.
        objective: ranks the trials.
        budget: windows on the costs.
        rng: of the strategy.
        history: of the search.
        about: what the search is.
    """

    space: Space
    family: Family | None
    objective: Objective
    budget: Budget
    rng: np.random.Generator
    history: History = field(repr=False)
    about: About

    @property
    def trials(self) -> list[Trial]:
        """All trials, those of a warm start included, in order of submission."""
        return list(self.history.trials.values())

    @property
    def pending(self) -> list[Trial]:
        """Trials that have been suggested and have not ended."""
        return [trial for trial in self.history.trials.values() if trial.status == "pending"]

    def refusal(self, architecture: Architecture, settings: Mapping[str, Value] | None = None) -> str:
        """Say why a valid architecture may not be trained (outside the budget, already known); empty when it may."""
        if self.budget.windows and not (settings or {}).get(REFERENCE):
            if self.family is None:
                raise BudgetError("A budget is given, but this search space cannot say costs before training.")
            cost = self.family.cost(architecture)
            if not self.budget.admits(cost):
                return self.budget.explain(cost)
        return self.repetition(architecture, settings)

    def repetition(self, architecture: Architecture, settings: Mapping[str, Value] | None = None) -> str:
        """Say that there is a trial of this architecture with these settings; empty where there is none."""
        known = self.history.knows(architecture, settings or {})
        return "already trained or pending in this search" if known else ""

    def draw(self, taken: Collection[Architecture] = ()) -> Architecture | None:
        """Draw a random architecture within budget that is neither known nor ``taken``; ``None`` where none is left."""

        def fresh(drawn: Architecture) -> bool:
            return drawn not in taken and not self.refusal(drawn)

        if self.family is None:
            return next(filter(fresh, (self.space.sample(self.rng) for _ in range(_DRAWS))), None)
        try:
            return sample_within(self.family, self.budget, self.rng, _DRAWS, fresh)
        except BudgetError:
            return None
