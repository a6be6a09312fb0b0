"""`SearchOptions`: what a user says of a search, whatever the strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, TypedDict, Unpack, get_args

from ..api.cost import Budget
from ..api.errors import StrategyError
from ..api.strategy import StrategyHooks
from ..api.trial import Direction, Objective, Trial
from ..memory import SearchMemory
from .halving import Halving

__all__ = ["ConfiguredStrategy", "SearchArguments", "SearchOptions", "TrainFirst"]

TrainFirst = Literal["all", "default and by hand", "none"]


class SearchArguments(TypedDict, total=False):
    """What every strategy takes, by name; see `AskTellStrategy`."""

    objective: str | Objective
    direction: Direction
    budget: Budget | None
    seed: int
    memory: SearchMemory | None
    warm_start: Sequence[Trial]
    train_first: TrainFirst
    halving: float | Mapping[str, Any] | None


@dataclass(frozen=True)
class SearchOptions:
    """What is wanted of a search: `SearchArguments`, understood."""

    objective: Objective = field(default_factory=Objective)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    memory: SearchMemory | None = None
    warm_start: tuple[Trial, ...] = ()
    train_first: TrainFirst = "all"
    halving: Halving | None = None

    @classmethod
    def of(cls, **given: Unpack[SearchArguments]) -> SearchOptions:
        """From the arguments of a strategy.

        Raises:
            StrategyError: one is out of range.
            TypeError: one is unknown.
        """
        if unknown := given.keys() - SearchArguments.__annotations__.keys():
            raise TypeError(
                f"a strategy has no option {min(unknown)!r}, only {', '.join(SearchArguments.__annotations__)}"
            )
        objective, direction = given.get("objective", "rfid"), given.get("direction", "minimize")
        train_first = given.get("train_first", cls.train_first)
        if direction not in get_args(Direction):
            raise StrategyError(f"direction is {direction!r}: use 'minimize' or 'maximize'.")
        if train_first not in get_args(TrainFirst):
            choices = ", ".join(map(repr, get_args(TrainFirst)))
            raise StrategyError(f"train_first is {train_first!r}: use {choices}.")
        seed = given.get("seed", cls.seed)
        if not isinstance(seed, Integral) or not 0 <= seed < 2**31:
            raise StrategyError(f"seed is {seed!r}: give a whole number from 0 to {2**31 - 1}.")
        return cls(
            objective if isinstance(objective, Objective) else Objective(objective, direction),
            given.get("budget") or Budget(),
            int(seed),
            given.get("memory"),
            tuple(given.get("warm_start", ())),
            train_first,
            Halving.of(given.get("halving")),
        )


class ConfiguredStrategy(StrategyHooks):
    """A strategy that knows what is wanted of its search."""

    options: SearchOptions
