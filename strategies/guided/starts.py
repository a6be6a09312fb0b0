"""`Starts`: the first networks of a search, drawn from what the prior likes, and spread out.

The prior is good to start with and useless to finish: so nothing is sorted. From random architectures within budget
those that it ranks highest are kept, and of these the one is taken that lies farthest from all that has been tried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from nni_diffnas.api.family import draws_within
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import SearchView

from .features import Features
from .prior import Prior

__all__ = ["Starts"]

_TRIES = 20_000
"""Random draws at most, where a budget admits few of them."""

_POOL = 1024
"""Random architectures within budget that are ranked for a start."""

_KEPT = {True: 16, False: 64}
"""So many of them are kept, by whether the prior is the analytic flow; costs say less."""


class Starts:
    """Draws architectures to begin with.

    Args:
        search: what has been tried, and what is admitted.
        features: views of the space, in which distances are measured.
        prior: ranks the draws; ``None``: all are alike.
    """

    def __init__(self, search: SearchView, features: Features, prior: Prior | None) -> None:
        self._search, self._features, self._prior = search, features, prior

    def draw(self, taken: Collection[Architecture]) -> Architecture | None:
        """One more; ``None`` where nothing new is within budget.

        Args:
            taken: also tried, though not in the search yet.
        """
        drawn = [a for a in self._draws() if a not in taken and not self._search.refusal(a)]
        if not drawn:
            return None
        liked = self._liked(drawn)
        tried = [*(trial.architecture for trial in self._search.trials), *taken]
        if not tried:
            return liked[int(self._search.rng.integers(len(liked)))]
        return liked[int(self._distances(liked, tried).argmax())]

    def _liked(self, drawn: list[Architecture]) -> list[Architecture]:
        ranks = None if self._prior is None else self._prior.rank(drawn)
        if self._prior is None or ranks is None:
            return drawn[: _KEPT[False]]
        kept = _KEPT[self._prior.flow is not None]
        return [drawn[i] for i in np.argsort(-ranks, kind="stable")[:kept]]

    def _draws(self) -> list[Architecture]:
        """Distinct random architectures within budget."""
        search = self._search
        drawn: Iterator[Architecture] = (search.space.sample(search.rng) for _ in range(_POOL))
        if search.family is not None:
            drawn = draws_within(search.family, search.budget, search.rng, _TRIES)
        return list({tuple(a.items()): a for a in islice(drawn, _POOL)}.values())

    def _distances(self, architectures: Sequence[Architecture], others: Sequence[Architecture]) -> torch.Tensor:
        """Squared distance of each to the nearest of the others, in labels and data flow."""

        def inputs(of: Sequence[Architecture]) -> torch.Tensor:
            encoding = self._features.encoding
            p = encoding.one_hot(encoding.indices(of))
            return torch.cat([self._features.labels(p), self._features.flow(p)], dim=-1)

        return torch.cdist(inputs(architectures), inputs(others)).square().amin(1)
