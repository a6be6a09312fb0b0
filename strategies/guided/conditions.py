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
        self.factors: list[tuple[int, list[int], torch.Tensor]] = []
        """Label, its ``k`` parents, and ``k x (V + 1)``: the values of theirs that make it present."""
        for row, conditions in encoding.conditions:
            met: dict[int, torch.Tensor] = {}
            for parent, values in conditions:
                met.setdefault(parent, torch.zeros(encoding.width + 1, dtype=torch.bool))[values] = True
            if met:
                self.factors.append((row, list(met), torch.stack(list(met.values()))))

    def __call__(self, evidence: torch.Tensor) -> torch.Tensor:
        """Logits of each row given the evidence in all rows.

        Args:
            evidence: ``n x L x (V + 1)`` log likelihoods of the values and, last, of absence; minus infinity where
                there is no such value.

        Returns:
            The same shape: posterior logits under uniform values, not normalised.
        """
        heard = evidence.clone()  # all that each row has heard, messages included
        upward = [evidence.new_zeros(len(evidence), *met.shape) for _, _, met in self.factors]
        downward = [evidence.new_zeros(len(evidence), evidence.shape[2]) for _ in self.factors]
        for _ in range(_SWEEPS):
            for i, (child, parents, met) in reversed(list(enumerate(self.factors))):
                own = heard[:, child] - downward[i]
                odds = (_logsumexp(own[:, :-1]) - self.log_sizes[child] - own[:, -1])[:, None]
                some, none = _any_other(*self._beliefs(heard, upward[i], parents, met))
                message = (odds - torch.logaddexp(some + odds, none))[..., None] * met
                heard.index_add_(1, torch.tensor(parents), message - upward[i])
                upward[i] = message
            for i, (child, parents, met) in enumerate(self.factors):
                some, none = _any(*self._beliefs(heard, upward[i], parents, met))
                said = (some - self.log_sizes[child])[:, None].expand(-1, evidence.shape[2] - 1)
                message = torch.cat([said, none[:, None]], dim=1)
                heard[:, child] += message - downward[i]
                downward[i] = message
        return heard.masked_fill(self.missing, -math.inf)

    def _beliefs(
        self, heard: torch.Tensor, upward: torch.Tensor, parents: list[int], met: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``n x k`` log probabilities that each condition is met, and not, without what the label itself has said."""
        others = (heard[:, parents] - upward).masked_fill(self.missing[parents], -math.inf).log_softmax(dim=2)
        return _logsumexp(others.masked_fill(~met, -math.inf)), _logsumexp(others.masked_fill(met, -math.inf))


def _logsumexp(values: torch.Tensor) -> torch.Tensor:
    """Over the last dimension; a finite bound stands for the logarithm of nothing."""
    return values.logsumexp(dim=-1).clamp_min(-80.0)


def _any(met: torch.Tensor, unmet: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``n`` log probabilities that any of ``n x k`` independent conditions is met, and that none is."""
    # The first that is met, summed over which one that is: exact where 1 - exp(none) is not.
    return _logsumexp(met + unmet.cumsum(1) - unmet), unmet.sum(1)


def _any_other(met: torch.Tensor, unmet: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``n x k``: the same without each condition in turn."""
    k = met.shape[1]
    first = (met + unmet.cumsum(1) - unmet)[:, None, :] - torch.ones(k, k).triu(1) * unmet[:, :, None]
    first = first.masked_fill(torch.eye(k, dtype=torch.bool), -math.inf)
    return _logsumexp(first), unmet.sum(1, keepdim=True) - unmet
