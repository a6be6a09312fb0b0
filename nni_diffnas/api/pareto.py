"""The Pareto front: what nothing else beats in everything at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["pareto_front"]


def pareto_front(points: ArrayLike) -> list[int]:
    """Rows that no other row beats: nowhere more, and somewhere less.

    Args:
        points: ``n x d`` numbers, less is better; turn the sign of what is to be large.

    Returns:
        Positions of the rows, by their first column, then the next; rows that are equal are on the front together.
    """
    rows = np.asarray(points, dtype=np.float64)
    if not len(rows):
        return []
    beaten = [bool(((rows <= row).all(axis=1) & (rows < row).any(axis=1)).any()) for row in rows]
    return [int(i) for i in np.lexsort(rows.T[::-1]) if not beaten[i]]
