"""`Features`: what a surrogate sees of an architecture, differentiable in the relaxed one-hot matrix.

Three views, each multilinear in the rows, so that on relaxed matrices they are expectations under independent rows:

    labels     the one-hot rows themselves
    counts     how often each value occurs among the labels that share their list of values (Weisfeiler-Lehman colours
               of iteration 0)
    pairs      how often each pair of values occurs along the edges of the DAG (what iteration 1 of Weisfeiler-Lehman
               refinement sees of the neighbours, Shervashidze et al. 2011; counted edge by edge, which has gradients)
"""

from __future__ import annotations

import torch

from .encoding import Encoding

__all__ = ["Features"]


class Features:
    """Views of one space.

    Args:
        encoding: of the space.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        space = encoding.space
        exists = encoding.exists.flatten()
        constant = (torch.as_tensor(encoding.sizes) == 1) & ~encoding.conditional
        self.kept = (exists & ~constant.repeat_interleave(encoding.width)).nonzero()[:, 0]
        groups = list(dict.fromkeys(space.choices.values()))
        group_of = torch.tensor([groups.index(values) for values in space.choices.values()])
        shared = [g for g in range(len(groups)) if (group_of == g).sum() > 1 and len(groups[g]) > 1]
        self.groups = [(group_of == g).nonzero()[:, 0] for g in shared]
        self.group_sizes = [len(groups[g]) for g in shared]
        row = {label: i for i, label in enumerate(space.labels)}
        self.edges: list[tuple[torch.Tensor, torch.Tensor]] = []
        kinds: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for a, b in space.edges:
            kind = (int(group_of[row[a]]), int(group_of[row[b]]))
            if kind[0] in shared and kind[1] in shared:
                kinds.setdefault(kind, []).append((row[a], row[b]))
        for pairs in kinds.values():
            if len(pairs) > 1:
                self.edges.append((torch.tensor([a for a, _ in pairs]), torch.tensor([b for _, b in pairs])))

    def labels(self, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` matrices to ``... x d`` one-hot columns, without those that never change."""
        return p.flatten(-2)[..., self.kept]

    def counts(self, p: torch.Tensor) -> torch.Tensor:
        """``... x d`` counts; ``d`` is 0 where no two labels share their values."""
        found = [
            p[..., rows, :size].sum(-2) / len(rows) ** 0.5
            for rows, size in zip(self.groups, self.group_sizes, strict=True)
        ]
        return torch.cat(found, -1) if found else p.new_zeros(*p.shape[:-2], 0)

    def pairs(self, p: torch.Tensor) -> torch.Tensor:
        """``... x d`` counts of pairs along edges; ``d`` is 0 where no two edges join labels of the same kinds."""
        found = [
            torch.einsum("...ev,...ew->...vw", p[..., a, :], p[..., b, :]).flatten(-2) / len(a) ** 0.5
            for a, b in self.edges
        ]
        return torch.cat(found, -1) if found else p.new_zeros(*p.shape[:-2], 0)
