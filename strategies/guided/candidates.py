"""`Candidates`: architectures that the diffusion model generates within the budget, pulled towards what is wanted."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import SearchView

from .cost_model import CostModel
from .generator import Generator
from .guidance import together, towards_window
from .network import Tilt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .encoding import Indices

__all__ = ["Candidates"]

_RESTARTS, _ENOUGH = 2, 0.25
"""How often architectures out of budget are sent back into the noise, until so many are within: one is suggested."""


class Candidates:
    """Generates architectures for one search.

    Args:
        search: what has been tried, and what is admitted.
        generator: of its space, trained.
        cost_model: a differentiable copy of the costs that the budget bounds; ``None`` where it bounds none.
        steps: noise levels of the sampler.
    """

    def __init__(self, search: SearchView, generator: Generator, cost_model: CostModel | None, steps: int) -> None:
        self._search, self._generator, self._steps = search, generator, steps
        self._budget = [] if cost_model is None else list(self._budget_tilts(cost_model))
        self.generated = self.invalid = 0
        """Architectures generated so far, and how many of them were not architectures of the space."""

    def _budget_tilts(self, model: CostModel) -> Sequence[Tilt]:
        tilts = []
        for name, window in self._search.budget.windows.items():

            def quantity(p: torch.Tensor, name: str = name) -> torch.Tensor:
                return model.log(name, p)

            low = -math.inf if window.min is None else math.log(max(window.min, 1e-9))
            high = math.inf if window.max is None else math.log(max(window.max, 1e-9))
            tilts.append(towards_window(quantity, low, high))
        return tilts

    def generate(
        self,
        count: int,
        noise: torch.Generator,
        *,
        pull: Tilt | None = None,
        parents: Indices | None = None,
        taken: Collection[Architecture] = (),
    ) -> list[Architecture]:
        """Generate; leave out what is invalid (counted), known, out of budget or there twice.

        Args:
            count: how many are generated.
            noise: source of randomness.
            pull: towards what is wanted, beside the budget.
            parents: ``count x L`` architectures to start from, noised half-way, instead of nothing.
            taken: known beside those of the search.
        """
        tilts = [*([] if pull is None else [pull]), *self._budget]
        started: dict[str, Any] = {} if parents is None else {"start": parents, "start_position": 0.5}
        rounds = _RESTARTS if self._search.budget.windows else 0
        indices, valid = self._generator.within(
            count,
            noise,
            self._admits,
            rounds=rounds,
            enough=_ENOUGH,
            tilt=together(tilts),
            steps=self._steps,
            **started,
        )
        self.generated += len(valid)
        self.invalid += int((~valid).sum())
        unique = np.unique(indices[valid], axis=0, return_index=True)[1]
        drawn = self._generator.encoding.architectures(indices[valid][np.sort(unique)])
        return [a for a in drawn if a not in taken and not self._search.refusal(a)]

    def _admits(self, indices: Indices) -> NDArray[np.bool_]:
        search = self._search
        if search.family is None or not search.budget.windows:
            return np.ones(len(indices), dtype=bool)
        architectures = self._generator.encoding.architectures(indices)
        return np.array([search.budget.admits(search.family.cost(a)) for a in architectures], dtype=bool)
