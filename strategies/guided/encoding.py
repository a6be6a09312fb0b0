"""`Encoding`: a `Space` as tensors: one-hot rows, which columns exist, the DAG's attention masks, sound decoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from nni_diffnas.api.space import Architecture, Space, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

__all__ = ["ABSENT", "Encoding"]

ABSENT = -1
"""Index of the value of an absent label."""


class Encoding:
    """Tensors of one space.

    An architecture is a row of ``L`` value indices, `ABSENT` where its label is absent.

    Args:
        space: what is searched.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.labels, self.width = space.shape
        self.sizes = np.array([len(values) for values in space.choices.values()], dtype=np.int64)
        position = {label: row for row, label in enumerate(space.labels)}
        self.conditions = [
            (
                position[label],
                [(position[p], [space.index_of(p, value) for value in values]) for p, values in conditions],
            )
            for label, conditions in space.conditions.items()
        ]
        self.conditions.sort(key=lambda item: item[0])  # parents come before their children

    @cached_property
    def exists(self) -> torch.Tensor:
        """``L x V`` bool: whether the label has so many values."""
        return torch.arange(self.width)[None] < torch.as_tensor(self.sizes)[:, None]

    @cached_property
    def conditional(self) -> torch.Tensor:
        """``L`` bool: whether the label can be absent."""
        flags = torch.zeros(self.labels, dtype=torch.bool)
        flags[[row for row, _ in self.conditions]] = True
        return flags

    @cached_property
    def masks(self) -> torch.Tensor:
        """``2 x L x L`` bool: who may attend to whom, along the data flow and against it.

        The first mask lets a label see itself and all its ancestors in the DAG, the second itself and all its
        descendants. A condition is an edge from the label that decides to the label that it decides upon.
        """
        import networkx as nx

        graph = self.space.graph()
        graph.add_edges_from((p, label) for label, listed in self.space.conditions.items() for p, _ in listed)
        closure = nx.to_numpy_array(nx.transitive_closure(graph), nodelist=list(self.space.labels)) > 0
        below = torch.from_numpy(closure) | torch.eye(self.labels, dtype=torch.bool)
        return torch.stack([below.T, below])

    def indices(self, architectures: Iterable[Mapping[str, Value]]) -> Indices:
        """``n x L`` value indices of valid architectures."""
        rows = [
            [
                self.space.index_of(label, architecture[label]) if label in architecture else ABSENT
                for label in self.space.labels
            ]
            for architecture in architectures
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, self.labels)

    def architectures(self, indices: Indices) -> list[Architecture]:
        """Inverse of `indices`."""
        values: Sequence[tuple[Value, ...]] = list(self.space.choices.values())
        return [
            {
                label: values[row][i]
                for row, (label, i) in enumerate(zip(self.space.labels, each, strict=True))
                if i >= 0
            }
            for each in indices.tolist()
        ]

    def one_hot(self, indices: Indices) -> torch.Tensor:
        """``n x L x V`` float32 one-hot matrices; all zero where absent."""
        matrix = torch.zeros(len(indices), self.labels, self.width)
        there = torch.from_numpy(indices >= 0)
        matrix.scatter_(2, torch.from_numpy(np.maximum(indices, 0))[..., None], there[..., None].float())
        return matrix

    def _presence(self, indices: Indices) -> NDArray[np.bool_]:
        """Which labels the conditions make present, parents decided by ``indices``."""
        present = np.ones(indices.shape, dtype=bool)
        for row, conditions in self.conditions:
            met = [present[:, parent] & np.isin(indices[:, parent], wanted) for parent, wanted in conditions]
            present[:, row] = np.any(met, axis=0) if met else False
        return present

    def sample(self, count: int, rng: np.random.Generator) -> Indices:
        """Draw each label uniformly and independently, as `Space.sample` does; absent labels are dropped."""
        drawn = rng.integers(0, self.sizes, size=(count, self.labels))
        return np.where(self._presence(drawn), drawn, ABSENT)

    def decode(self, matrix: torch.Tensor) -> tuple[Indices, NDArray[np.bool_]]:
        """Decode matrices in the scale of ``x0``: the largest value of each row, absent where none is above 0.

        A label without conditions is never absent. Nothing is repaired: where presence disagrees with the
        conditions, the architecture is invalid.

        Args:
            matrix: ``n x L x V``, roughly in [-1, 1].

        Returns:
            ``n x L`` indices, and ``n`` flags: whether they are an architecture of the space.
        """
        masked = matrix.masked_fill(~self.exists, -torch.inf)
        highest, index = masked.max(dim=2)
        absent = (highest <= 0) & self.conditional
        indices = torch.where(absent, ABSENT, index).numpy().astype(np.int64)
        finite = torch.isfinite(highest).all(dim=1).numpy()
        return indices, finite & ((indices >= 0) == self._presence(indices)).all(axis=1)

    def raw_valid(self, matrix: torch.Tensor) -> NDArray[np.bool_]:
        """Validity as the papers define it: thresholded at 0, each row has exactly one value (none where absent)."""
        ones = ((matrix > 0) & self.exists).sum(dim=2).numpy()
        indices, valid = self.decode(matrix)
        raw: NDArray[np.bool_] = valid & (ones == (indices >= 0)).all(axis=1)
        return raw
