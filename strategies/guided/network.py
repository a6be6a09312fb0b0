"""`Denoiser`: a small transformer, attention masked by the space's DAG, that says what a noised architecture was.

The posterior mean of a one-hot matrix is a matrix of probabilities, so the network predicts these (by cross-entropy, as
in score interpolation, Dieleman et al. 2022, arXiv 2211.15089) instead of the noise: ``D(x; sigma) = 2 p - 1``. For one
row, noised by ``sigma``, Bayes' rule with uniform values gives ``logit(value v) = 2 x_v / sigma^2``, ``logit(absent) =
0``; the conditions of the space tie rows together (`ConditionRule`). The network adds what this leaves out. This is
preconditioning in the spirit of EDM (Karras et al. 2022, arXiv 2206.00364, section 5): what can be said in closed form
is no matter of learning, and the inputs, posteriors, have the same scale at every noise level.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from .conditions import ConditionRule
from .encoding import Encoding

__all__ = ["Denoiser", "Tilt"]

Tilt = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Guidance: ``(x, sigma, p)`` to ``n x L x (V + 1)`` logits that are added to the evidence."""

_LARGE = 60.0
"""Bound of a logit: exp(60) stays finite in float32, and exp(-60) is nothing beside 1."""

_ODDS = 10.0
"""Scale and bound of log odds as features."""


class _Block(nn.Module):
    """Pre-norm transformer block; half of the heads look along the data flow, the other half against it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, rows, width = h.shape
        q, k, v = self.qkv(self.norm(h)).view(n, rows, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = h + self.out(attended.transpose(1, 2).reshape(n, rows, width))
        fed: torch.Tensor = h + self.feed(h)
        return fed


class Denoiser(nn.Module):
    """Probabilities of the values of each label, given a noised architecture.

    Args:
        encoding: of the space.
        width: of the hidden rows; divisible by ``heads``.
        depth: number of transformer blocks.
        heads: even.
    """

    def __init__(self, encoding: Encoding, width: int = 48, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        rows, columns = encoding.labels, encoding.width
        self.embed = nn.Linear(columns + 2, width)
        self.place = nn.Parameter(0.02 * torch.randn(rows, width))
        self.level = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, columns + 1)
        # One matrix for each row: what the same features mean differs from label to label.
        self.head_place = nn.Parameter(torch.zeros(rows, columns + 1))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        missing = torch.cat([~encoding.exists, ~encoding.conditional[:, None]], dim=1)
        self.register_buffer("missing", missing, persistent=False)
        # Four dimensions: with three, torch takes its slow way.
        self.register_buffer("mask", encoding.masks.repeat_interleave(heads // 2, dim=0)[None], persistent=False)
        self.rule = ConditionRule(encoding)
        self.missing: torch.Tensor
        self.mask: torch.Tensor

    def prior(self) -> torch.Tensor:
        """``L x V``: the mean of ``x0`` before anything is seen of it, in closed form."""
        nothing = torch.zeros(1, *self.missing.shape).masked_fill(self.missing, -math.inf)
        return 2 * self.rule(nothing).softmax(dim=2)[0, :, :-1] - 1

    def evidence(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """``n x L x (V + 1)`` log likelihoods of the values and, last, of absence, of each row by itself."""
        bayes = nn.functional.pad(2 * x / (sigma * sigma)[:, None, None], (0, 1)).masked_fill(self.missing, -math.inf)
        return (bayes - bayes.amax(dim=2, keepdim=True)).clamp_min(-_LARGE).masked_fill(self.missing, -math.inf)

    def learned(self, posterior: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """``n x L x (V + 1)``: what the network adds to the logits.

        Args:
            posterior: logits that are known in closed form.
            sigma: ``n`` noise levels, above 0.
        """
        present = posterior[..., :-1].logsumexp(2) - posterior[..., -1]
        odds = torch.where(self.missing[:, -1], 0.0, present).clamp(-_ODDS, _ODDS) / _ODDS
        h = self.embed(torch.cat([posterior.softmax(dim=2), odds[..., None]], dim=2)) + self.place
        h = h + self.level(sigma.log()[:, None] / 4)[:, None]
        for block in self.blocks:
            h = block(h, self.mask)
        added: torch.Tensor = self.head(self.norm(h)) + self.head_place
        return added

    def logits(self, x: torch.Tensor, sigma: torch.Tensor, tilt: Tilt | None = None) -> torch.Tensor:
        """``n x L x (V + 1)`` logits of the values and, last, of absence; what cannot be is minus infinity.

        Args:
            x: ``n x L x V`` noised matrices.
            sigma: ``n`` noise levels, above 0.
            tilt: guidance. It counts as evidence, so that conditions carry it to the other rows.
        """
        evidence = self.evidence(x, sigma)
        posterior = self.rule(evidence)
        added = self.learned(posterior, sigma)
        if tilt is not None:
            posterior = self.rule(evidence + tilt(x, sigma, (posterior + added).softmax(dim=2)[..., :-1]))
        return posterior + added

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, tilt: Tilt | None = None) -> torch.Tensor:
        """``D(x; sigma) = 2 p - 1``, the denoised estimate: ``n x L x V``."""
        return 2 * self.logits(x, sigma, tilt).softmax(dim=2)[..., :-1] - 1
