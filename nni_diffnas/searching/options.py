"""`SearchOptions`: what a user says of a search, whatever the strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..api.cost import Budget
from ..api.errors import StrategyError
from ..api.strategy import StrategyHooks
from ..api.trial import Direction, Objective, Trial
from ..memory import SearchMemory
from .halving import Halving

__all__ = ["ConfiguredStrategy", "SearchOptions", "TrainFirst"]

TrainFirst = Literal["default and by hand", "none"]


@dataclass(frozen=True)
class SearchOptions:
    """What is wanted of a search.

    Args:
        objective: ranks the trials.
        budget: windows on MACs, parameters or latency, checked before anything is trained.
        seed: of everything random in the strategy.
        memory: where to keep the trials; ``None`` keeps them for the length of the run only. The door closes it.
        warm_start: trials of earlier experiments, used as if they had been run. Those that have not ended, were scored
            by another protocol or lie outside the space are left out: they cannot be ranked with this search's, and
            may be trained again.
        train_first: see `AskTellStrategy`.
        halving: see `AskTellStrategy`.
    """

    objective: Objective = field(default_factory=Objective)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    memory: SearchMemory | None = None
    warm_start: tuple[Trial, ...] = ()
    train_first: TrainFirst = "default and by hand"
    halving: Halving | None = None

    @classmethod
    def of(
        cls,
        *,
        objective: str | Objective = "rfid",
        direction: Direction = "minimize",
        budget: Budget | None = None,
        seed: int = 0,
        memory: SearchMemory | None = None,
        warm_start: Sequence[Trial] = (),
        train_first: TrainFirst = "default and by hand",
        halving: float | Mapping[str, Any] | None = None,
    ) -> SearchOptions:
        """From the arguments of a strategy.

        Raises:
            StrategyError: one is out of range.
        """
        if direction not in get_args(Direction):
            raise StrategyError(f"direction is {direction!r}: use 'minimize' or 'maximize'.")
        if train_first not in get_args(TrainFirst):
            choices = " or ".join(map(repr, get_args(TrainFirst)))
            raise StrategyError(f"train_first is {train_first!r}: use {choices}.")
        return cls(
            objective if isinstance(objective, Objective) else Objective(objective, direction),
            budget or Budget(),
            seed,
            memory,
            tuple(warm_start),
            train_first,
            Halving.of(halving),
        )


class ConfiguredStrategy(StrategyHooks):
    """A strategy that knows what is wanted of its search."""

    options: SearchOptions
