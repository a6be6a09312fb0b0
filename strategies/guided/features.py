"""`Features`: what a surrogate sees of an architecture, differentiable in the relaxed one-hot matrix.

Each view but the last is multilinear in the rows, so that on relaxed matrices it is an expectation under independent
rows:

    labels     the one-hot rows themselves
    flow       how often each sequence of values occurs along the paths of the DAG from its sources to its sinks; values
               that let nothing through end a path, so what cannot act on the output is not seen, and cells that compute
               the same look alike whichever label computes it. Where paths are too many or too long: how often each
               value occurs among the labels that share their list of values, and each pair of values along the edges
               (Weisfeiler-Lehman colours of iterations 0 and 1, Shervashidze et al. 2011, counted edge by edge)
    numbers    of each label whose values are positive numbers, the logarithm: a width of 24 lies between 16 and 32
    known      what can be said before training: what other data sets suggest (`TaskPredictor`), the analytic flow
               (`Prior`), and last the logarithms of costs (`CostModel`)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import numpy as np
import torch

from nni_diffnas.api.space import Value

from .encoding import Encoding

__all__ = ["Features"]

_MAX_PATHS, _MAX_COLUMNS = 64, 1024
"""Beyond these, ``flow`` looks at edges instead of paths."""


class Features:
    """Views of one space.

    Args:
        encoding: of the space.
        cuts: label to the values that let nothing through; see `nni_diffnas.api.family.Family.cuts`.
    """

    def __init__(self, encoding: Encoding, cuts: Mapping[str, tuple[Value, ...]] | None = None) -> None:
        self.encoding = encoding
        self.known: list[Callable[[torch.Tensor], torch.Tensor]] = []
        """``... x L x V`` matrices to ``... x d`` numbers, mean 0 and deviation about 1; added where there are any."""
        self.guesses = 0
        """So many of their first columns guess at the score, up to a factor of either sign."""
        space = encoding.space
        exists = encoding.exists.flatten()
        constant = (torch.as_tensor(encoding.sizes) == 1) & ~encoding.conditional
        self._kept = (exists & ~constant.repeat_interleave(encoding.width)).nonzero()[:, 0]
        groups = list(dict.fromkeys(space.choices.values()))
        self._group_of = [groups.index(values) for values in space.choices.values()]
        self._through = [
            [i for i, value in enumerate(values) if value not in (cuts or {}).get(label, ())]
            for label, values in space.choices.items()
        ]
        self.paths = self._find_paths()
        """Rows along each path from a source to a sink, those along the same lists of values together; empty where they
        are too many or too long."""
        shared = [g for g in range(len(groups)) if self._group_of.count(g) > 1 and len(groups[g]) > 1]
        self._groups = [([i for i, h in enumerate(self._group_of) if h == g], len(groups[g])) for g in shared]
        self._edges = self._find_edges(shared)
        self._scale = 1.0
        drawn = encoding.one_hot(encoding.sample(512, np.random.default_rng(0)))
        # Two random architectures shall lie sqrt(2) apart, as two random values do on one label.
        self._scale = float(self.flow(drawn).var(0).sum().clamp_min(1e-12).rsqrt())
        self._logarithms = self._find_logarithms(drawn)

    def _find_paths(self) -> list[list[tuple[int, ...]]]:
        """What `paths` says."""
        graph = self.encoding.space.graph()
        row = {label: i for i, label in enumerate(self.encoding.space.labels)}

        def onwards(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
            following = list(graph.successors(path[-1]))
            if not following:
                yield path
            for label in following:
                yield from onwards((*path, label))

        starts = (label for label in row if graph.in_degree(label) == 0)
        paths = list(islice((path for label in starts for path in onwards((label,))), _MAX_PATHS + 1))
        if len(paths) > _MAX_PATHS:
            return []
        kinds: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for path in paths:
            rows = tuple(row[label] for label in path)
            kinds.setdefault(tuple(self._group_of[i] for i in rows), []).append(rows)
        # A kind's columns are products of values: count them as floats, which do not overflow on long paths.
        columns = sum(float(np.prod([float(len(self._through[i])) for i in listed[0]])) for listed in kinds.values())
        return list(kinds.values()) if columns <= _MAX_COLUMNS else []

    def _find_logarithms(self, drawn: torch.Tensor) -> torch.Tensor:
        """``d x L x V``: for each label of numbers, their logarithms, of mean 0 and deviation 1 among ``drawn``."""
        found = []
        for row, values in enumerate(self.encoding.space.choices.values()):
            numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
            if len(values) == 1 or len(numbers) < len(values) or min(numbers) <= 0:
                continue
            logarithms = torch.tensor([math.log(value) for value in numbers])
            of_value = torch.zeros(self.encoding.labels, self.encoding.width)
            share = drawn[:, row, : len(values)].mean(0)
            of_value[row, : len(values)] = logarithms - (share * logarithms).sum() / share.sum()
            deviation = torch.einsum("nlv,lv->n", drawn, of_value).std()
            found.append(of_value / deviation.clamp_min(1e-6))
        return torch.stack(found) if found else torch.zeros(0, self.encoding.labels, self.encoding.width)

    def _find_edges(self, shared: list[int]) -> list[tuple[list[int], list[int]]]:
        row = {label: i for i, label in enumerate(self.encoding.space.labels)}
        kinds: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for a, b in self.encoding.space.edges:
            kind = (self._group_of[row[a]], self._group_of[row[b]])
            if kind[0] in shared and kind[1] in shared:
                kinds.setdefault(kind, []).append((row[a], row[b]))
        return [([a for a, _ in pairs], [b for _, b in pairs]) for pairs in kinds.values() if len(pairs) > 1]

    def labels(self, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` matrices to ``... x d`` one-hot columns, without those that never change."""
        return p.flatten(-2)[..., self._kept]

    def flow(self, p: torch.Tensor) -> torch.Tensor:
        """``... x d`` counts along paths or edges; ``d`` is 0 where no two labels have anything in common."""
        if self.paths:
            found = [
                torch.stack([self._along(p, path) for path in listed]).sum(0) * self._scale for listed in self.paths
            ]
            return torch.cat(found, -1)
        counted = [p[..., rows, :size].sum(-2) / len(rows) ** 0.5 for rows, size in self._groups]
        counted += [
            torch.einsum("...ev,...ew->...vw", p[..., a, :], p[..., b, :]).flatten(-2) / len(a) ** 0.5
            for a, b in self._edges
        ]
        return torch.cat(counted, -1) * self._scale if counted else p.new_zeros(*p.shape[:-2], 0)

    def _along(self, p: torch.Tensor, path: tuple[int, ...]) -> torch.Tensor:
        product = p[..., path[0], self._through[path[0]]]
        for row in path[1:]:
            product = (product[..., :, None] * p[..., row, self._through[row]][..., None, :]).flatten(-2)
        return product

    def numbers(self, p: torch.Tensor) -> torch.Tensor:
        """``... x d`` logarithms of the labels that are numbers; 0, their mean, where a label is absent."""
        return torch.einsum("...lv,dlv->...d", p, self._logarithms.to(p.dtype))

    def views(self, p: torch.Tensor) -> list[torch.Tensor]:
        """All views, in the order of the module's docstring; where nothing is known there is no last view."""
        known = [each(p) for each in self.known]
        return [self.labels(p), self.flow(p), self.numbers(p), *([torch.cat(known, -1)] if known else [])]

    def inputs(self, p: torch.Tensor) -> torch.Tensor:
        """``... x L x V`` matrices to the ``... x d`` float64 inputs of the surrogates: all views in a row."""
        return torch.cat([view.double() for view in self.views(p.double())], dim=-1)
