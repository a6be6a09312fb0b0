"""`BlockwiseUNetSpace`: students of a teacher as an NNI model space."""

from __future__ import annotations

from nni_diffnas.doors.model_space import FamilySpace

__all__ = ["BlockwiseUNetSpace"]


class BlockwiseUNetSpace(FamilySpace):
    """The choices of `BlockwiseUNetFamily`, whose arguments it takes, as NNI mutables; freezes to a fresh student.

    Example:
        >>> space = BlockwiseUNetSpace("teacher", widths=[0.5, 1.0])
        >>> student = space.freeze(space.family.space.complete(space.family.default))
    """

    plugin = "blockwise"
