"""`Prior`: what is thought of networks before any is trained, by what the family can say of them.

Where it states gains (`nni_diffnas.api.family.Family.gains`): the analytic flow, that is, how much an untrained network
hands on from its sources to its sinks,

    flow = mean over widths of log(1 + sum over paths of (product along the path of the gains of the values))

Else what the family says (`nni_diffnas.api.family.Family.promise`). Else nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture

from .features import Features

__all__ = ["AnalyticFlow", "Prior"]


class AnalyticFlow:
    """The flow of (relaxed) architectures, of mean 0 and deviation 1 in the space.

    Args:
        features: views of the space; it has paths.
        family: states gains.
    """

    def __init__(self, features: Features, family: Family) -> None:
        encoding = features.encoding
        self._paths = [path for alike in features.paths for path in alike]
        self._gains = torch.zeros(len(family.gains), encoding.labels, encoding.width)
        for width, of_label in enumerate(family.gains):
            for row, (label, values) in enumerate(encoding.space.choices.items()):
                self._gains[width, row, : len(values)] = torch.tensor([of_label[label][value] for value in values])
        self._mean, self._deviation = 0.0, 1.0
        drawn = self(encoding.one_hot(encoding.sample(512, np.random.default_rng(0))))
        self._mean, self._deviation = float(drawn.mean()), float(drawn.std()) or 1.0

    def __call__(self, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` probabilities to ``...`` flows."""
        through = torch.einsum("...lv,wlv->...wl", p, self._gains.to(p.dtype))
        summed = torch.stack([through[..., list(path)].prod(-1) for path in self._paths]).sum(0)
        return (summed.log1p().mean(-1) - self._mean) / self._deviation


class Prior:
    """Ranks architectures before any is trained.

    Args:
        features: views of the space.
        family: what is searched; ``None`` for a stranger's model space.
    """

    def __init__(self, features: Features, family: Family | None) -> None:
        self._encoding = features.encoding
        self.flow: Callable[[torch.Tensor], torch.Tensor] | None = None
        """``n x L x V`` probabilities to ``n`` numbers, where the family states gains."""
        if family is not None and family.gains and features.paths:
            self.flow = AnalyticFlow(features, family)
        self._family = family

    @property
    def goes_by_costs(self) -> bool:
        """Whether the family promises more of what computes more, and nothing else: costs then guess at the score."""
        if self._family is None:
            return False
        drawn = [self._encoding.space.sample(rng) for rng in map(np.random.default_rng, range(64))]
        costs = [self._family.cost(each) for each in drawn]
        return [cost.macs or cost.params for cost in costs] == [self._family.promise(each) for each in drawn]

    def rank(self, architectures: Sequence[Architecture]) -> np.ndarray | None:
        """``n`` numbers, more is better; ``None`` where nothing is known that tells them apart."""
        if self.flow is not None:
            encoding = self._encoding
            found: np.ndarray = self.flow(encoding.one_hot(encoding.indices(architectures))).numpy()
            return found
        if self._family is None:
            return None
        promises = np.array([self._family.promise(architecture) for architecture in architectures], dtype=np.float64)
        return promises if np.ptp(promises) > 0 else None
