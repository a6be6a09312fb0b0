"""`ConditionRule`: what the conditions of a space say about noised rows, by sum-product messages, in closed form.

A conditional label is present when any of its conditions is met. So evidence that a label is present is evidence for
the values that would make it so, and the other way round. The messages are exact where each label is tied to others
by one path only (depth to layers, attention of the levels to heads), and a good start for learning elsewhere.
"""

from __future__ import annotations

import math

import torch

from .encoding import Encoding

__all__ = ["ConditionRule"]

_SWEEPS = 2
"""Passes over all conditions, children to parents and back: enough for conditions on conditional labels."""


class ConditionRule:
    """Adds to the logits of each row what the other rows and the conditions say.

    Args:
        encoding: of the space.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.log_sizes = torch.as_tensor(encoding.sizes).log()
        self.missing = torch.cat([~encoding.exists, ~encoding.conditional[:, None]], dim=1)
        self.factors: list[tuple[int, list[tuple[int, torch.Tensor]]]] = []
        for row, conditions in encoding.conditions:
            wanted = []
            for parent, values in conditions:
                met = torch.zeros(encoding.width + 1, dtype=torch.bool)
                met[values] = True
                wanted.append((parent, met))
            self.factors.append((row, wanted))

    def __call__(self, evidence: torch.Tensor) -> torch.Tensor:
        """Logits of each row given the evidence in all rows.

        Args:
            evidence: ``n x L x (V + 1)`` log likelihoods of the values and, last, of absence; minus infinity where
                there is no such value.

        Returns:
            The same shape: posterior logits under uniform values, not normalised.
        """
        rows = list(evidence.unbind(1))
        upward: dict[tuple[int, int], torch.Tensor] = {}
        downward: dict[int, torch.Tensor] = {}
        for _ in range(_SWEEPS if self.factors else 0):
            for child, parents in reversed(self.factors):
                heard = self._without(rows, upward, downward, child, None)
                present = _logsumexp(heard[:, :-1]) - self.log_sizes[child]
                odds = present - heard[:, -1] if child not in downward else self._own_odds(rows, upward, child)
                beliefs = [self._met(rows, upward, downward, parent, met, child) for parent, met in parents]
                for i, (parent, met) in enumerate(parents):
                    some, none = _any([belief for j, belief in enumerate(beliefs) if j != i], odds)
                    ratio = odds - torch.logaddexp(some + odds, none)
                    upward[child, parent] = ratio[:, None] * met
            for child, parents in self.factors:
                beliefs = [self._met(rows, upward, downward, parent, met, child) for parent, met in parents]
                some, none = _any(beliefs, rows[child][:, 0])
                downward[child] = torch.cat(
                    [(some - self.log_sizes[child])[:, None].expand(-1, rows[child].shape[1] - 1), none[:, None]], dim=1
                )
        out = [self._without(rows, upward, downward, row, None) for row in range(len(rows))]
        return torch.stack(out, dim=1).masked_fill(self.missing, -math.inf)

    def _own_odds(
        self, rows: list[torch.Tensor], upward: dict[tuple[int, int], torch.Tensor], row: int
    ) -> torch.Tensor:
        heard = self._without(rows, upward, {}, row, None)
        return _logsumexp(heard[:, :-1]) - self.log_sizes[row] - heard[:, -1]

    @staticmethod
    def _without(
        rows: list[torch.Tensor],
        upward: dict[tuple[int, int], torch.Tensor],
        downward: dict[int, torch.Tensor],
        row: int,
        child: int | None,
    ) -> torch.Tensor:
        """All that ``row`` has heard, except from ``child``."""
        heard = rows[row]
        for (sender, receiver), message in upward.items():
            if receiver == row and sender != child:
                heard = heard + message
        return heard + downward[row] if row in downward else heard

    def _met(
        self,
        rows: list[torch.Tensor],
        upward: dict[tuple[int, int], torch.Tensor],
        downward: dict[int, torch.Tensor],
        parent: int,
        met: torch.Tensor,
        child: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log probabilities that a condition is met and that it is not."""
        heard = self._without(rows, upward, downward, parent, child).masked_fill(self.missing[parent], -math.inf)
        normal = heard.log_softmax(dim=1)
        return _logsumexp(normal[:, met]), _logsumexp(normal[:, ~met])


def _logsumexp(values: torch.Tensor) -> torch.Tensor:
    """Over dimension 1; a finite bound stands for the logarithm of nothing."""
    if values.shape[1] == 0:
        return values.new_full((len(values),), -80.0)
    return values.logsumexp(dim=1).clamp_min(-80.0)


def _any(beliefs: list[tuple[torch.Tensor, torch.Tensor]], like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log probabilities that any of independent conditions is met, and that none is."""
    some, none = torch.full_like(like, -80.0), torch.zeros_like(like)
    for met, unmet in beliefs:
        some = torch.logaddexp(some, none + met)
        none = none + unmet
    return some, none
