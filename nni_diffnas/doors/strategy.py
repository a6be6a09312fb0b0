"""`AskTellStrategy`: a searching algorithm that is one of NNI's strategies; every other door serves it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from nni.nas.execution import ExecutionEngine
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import Strategy

from ..api.trial import Objective, Trial
from ..searching.options import ConfiguredStrategy, SearchArguments, SearchOptions
from ..searching.search import Search
from .engine import EngineLoop, open_search

__all__ = ["AskTellStrategy"]


class AskTellStrategy(ConfiguredStrategy, Strategy):
    """Base of every strategy of nni-diffnas: what `StrategyHooks` says, and an NNI strategy for a `NasExperiment`.

    Args:
        objective: name of the metric that ranks trials, or an `Objective`. The tuner door replaces it by the job's.
        direction: ``minimize`` or ``maximize``; read where ``objective`` is a name.
        budget: windows on MACs, parameters or latency, checked before anything is trained.
        seed: of everything random in the strategy.
        memory: where to keep the trials; by default in the experiment's folder. The door closes it.
        warm_start: trials of earlier experiments, used as if they had been run. Those that have not ended, were scored
            by another protocol or lie outside the space are left out: they cannot be ranked with this search's, and
            may be trained again.
        train_first: ``default and by hand`` trains the space's default network first, so that every search knows what
            it has to beat; where the budget excludes it, it is a `REFERENCE`, which is no candidate, and its versions
            scaled to the budget by hand follow (`Family.scaled`). ``all`` trains, after these, what the space is known
            to do well with at the budget (`Family.recommended`). ``none`` leaves all to the strategy.
        halving: let trials end themselves that are not among the best 1/halving at a rung of their training (the
            evaluator's curve points), by the objective, or, given as ``{eta: 3, metric: held_out_loss}``, by another
            metric; ``None``: all train to the end. See `Halving`.

    Raises:
        StrategyError: an option out of range.
    """

    def __init__(self, **options: Unpack[SearchArguments]) -> None:
        super().__init__()
        self._opened: Search | None = None
        self._own_memory = False
        self.options = SearchOptions.of(**options)

    @property
    def trials(self) -> list[Trial]:
        """All trials of its search, for the script that ran it."""
        return self.search.trials

    @property
    def objective(self) -> Objective:
        """The metric that ranks them."""
        return self.options.objective

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        self._opened, self._own_memory = open_search(self, model_space, engine)
        return model_space

    def _run(self) -> None:
        assert self._opened is not None, "NNI initializes a strategy before it runs it"
        self._loop = EngineLoop(self._opened, self.engine, self.model_space, close_memory=self._own_memory)
        self._loop.run()

    def state_dict(self) -> dict[str, Any]:
        """Everything, for NNI's checkpoint; nothing before the search is open, since the first one is saved before."""
        return {} if self._opened is None else self._opened.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of NNI's, once the search is open."""
        if self._opened is not None and state_dict:
            self._opened.load_state_dict(state_dict)
