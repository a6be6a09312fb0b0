"""`CostModel`: a differentiable copy of a family's cost, fitted to random architectures before any trial.

Costs are known without training, so this costs no trial. Decisions are made with the exact cost; the copy only says
which way to go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nni_diffnas.api.errors import BudgetError
from nni_diffnas.api.family import Family

from .encoding import Encoding
from .features import Features

__all__ = ["CostModel"]

_GOOD = 0.01
"""Root mean square error of a logarithm that is good enough for any window."""


class CostModel:
    """Logarithms of the costs of (relaxed) architectures.

    A perceptron on the labels and what flows between them, beside a linear map: sums of parts are linear, products not.

    Args:
        features: views of the space.
        family: says the costs.
        names: of the costs, e.g. ``macs``.
        architectures: how many random ones to fit to.
        steps: of Adam at most; fewer where the error falls below 1 % before.

    Raises:
        BudgetError: the family cannot say one of them.
    """

    def __init__(
        self, features: Features, family: Family, names: Sequence[str], architectures: int = 4000, steps: int = 1000
    ) -> None:
        self.names, self._features = tuple(names), features
        encoding: Encoding = features.encoding
        drawn = encoding.sample(architectures, np.random.default_rng(0))
        costs = [family.cost(architecture).as_metrics() for architecture in encoding.architectures(drawn)]
        for name in names:
            if any(name not in cost for cost in costs):
                raise BudgetError(f"This search space cannot say {name} before training: bound or weigh another cost.")
        y = torch.tensor([[max(cost[name], 1e-9) for name in names] for cost in costs]).log()
        x = self._columns(encoding.one_hot(drawn))
        self.mean, self.deviation = y.mean(0), y.std(0).clamp_min(1e-6)
        y = (y - self.mean) / self.deviation
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._linear = torch.nn.Linear(x.shape[1], len(names))
            self._bent = torch.nn.Sequential(
                torch.nn.Linear(x.shape[1], 96), torch.nn.SiLU(), torch.nn.Linear(96, 96), torch.nn.SiLU(),
                torch.nn.Linear(96, len(names)),
            )  # fmt: skip
        optimizer = torch.optim.Adam([*self._linear.parameters(), *self._bent.parameters()], lr=5e-3, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = torch.Generator().manual_seed(0)
        error = torch.full((len(names),), torch.inf)
        for _ in range(steps):
            rows = torch.randint(len(x), (256,), generator=order)
            squares = (self._linear(x[rows]) + self._bent(x[rows]) - y[rows]).square().mean(0)
            recent = squares.detach() * self.deviation**2
            error = torch.where(error.isinf(), recent, 0.95 * error + 0.05 * recent)
            if float(error.max()) < _GOOD**2:
                break
            loss = squares.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        self._linear.requires_grad_(False)
        self._bent.requires_grad_(False)

    def _columns(self, p: torch.Tensor) -> torch.Tensor:
        p = p.float()
        return torch.cat([self._features.labels(p), self._features.flow(p)], dim=-1)

    def standard(self, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` probabilities to ``... x names`` logarithms, of mean 0 and deviation 1 in the space."""
        x = self._columns(p)
        found: torch.Tensor = self._linear(x) + self._bent(x)
        return found

    def log(self, name: str, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` probabilities to ``...`` logarithms of one cost."""
        at = self.names.index(name)
        return self.standard(p)[..., at] * self.deviation[at] + self.mean[at]
