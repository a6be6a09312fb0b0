"""`RegularizedEvolution`: aging evolution (Real et al., 2019, arXiv 1802.01548, Algorithm 1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution(AskTellStrategy):
    """Mutate the best of a random sample of the living population; the oldest member dies.

    Args:
        population: members that live at once (P in the paper), at least 2. The first P suggestions are random.
        sample: members drawn for each tournament (S in the paper), from 1 to ``population``.
        **options: of `AskTellStrategy`.

    Raises:
        StrategyError: sizes out of range.
    """

    def __init__(self, *, population: int = 16, sample: int = 4, **options: Any) -> None:
        super().__init__(**options)
        if population < 2 or not 1 <= sample <= population:
            raise StrategyError(
                f"population is {population} and sample {sample}: take population >= 2 and 1 <= sample <= population."
            )
        self.population_size = population
        self.sample_size = sample
        self._population: deque[str] = deque(maxlen=population)
        self._started = 0

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Fill the first population at random, then mutate tournament winners."""
        suggestions = []
        taken: list[Architecture] = []
        for _ in range(count):
            suggestion = self._next(taken)
            if suggestion is None:
                break
            self._started += 1
            taken.append(suggestion.architecture)
            suggestions.append(suggestion)
        return suggestions

    def _next(self, taken: list[Architecture]) -> Suggestion | None:
        if self._started >= self.population_size and self._population:
            for _ in range(100):
                parent = self._tournament()
                child = self.search.space.mutate(parent.architecture, self.search.rng)
                if child not in taken and not self.search.refusal(child):
                    return Suggestion(child, "mutation", parent.id)
        drawn = self.search.draw(taken)
        return None if drawn is None else Suggestion(drawn, "random")

    def _tournament(self) -> Trial:
        members = list(self._population)
        size = min(self.sample_size, len(members))
        drawn = [members[int(i)] for i in self.search.rng.choice(len(members), size=size, replace=False)]
        by_id = {trial.id: trial for trial in self.search.trials}

        def score(trial: Trial) -> float:
            value = self.search.objective.score(trial.metrics)
            return -float("inf") if value is None else value

        return max((by_id[name] for name in drawn), key=score)

    def update(self, trials: Sequence[Trial]) -> None:
        """Let successful trials live; failed ones leave no children."""
        for trial in trials:
            if self.search.objective.score(trial.metrics) is not None:
                self._population.append(trial.id)

    def state(self) -> dict[str, Any]:
        """Return the ids of the living and how many trials were started."""
        return {"population": list(self._population), "started": self._started}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the living population."""
        self._population = deque(state["population"], maxlen=self.population_size)
        self._started = int(state["started"])
