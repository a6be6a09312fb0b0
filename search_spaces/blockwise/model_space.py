"""`BlockwiseUNetSpace`: students of a teacher as an NNI model space."""

from __future__ import annotations

from typing import Any

from nni_diffnas.doors.model_space import FamilySpace

from .family import BlockwiseUNetFamily

__all__ = ["BlockwiseUNetSpace"]


class BlockwiseUNetSpace(FamilySpace):
    """The choices of `BlockwiseUNetFamily` as NNI mutables; freezes to a student with fresh weights.

    Example:
        >>> space = BlockwiseUNetSpace("teacher", widths=[0.5, 1.0])
        >>> student = space.freeze(space.family.space.complete(space.family.default))

    Args:
        teacher: folder of a pipeline with a ``UNet2DModel`` or ``UNet2DConditionModel``.
        options: see `BlockwiseUNetFamily`.

    Raises:
        SpaceError: a teacher or options that cannot be searched.
    """

    family: BlockwiseUNetFamily

    plugin = "blockwise"

    def __init__(self, teacher: str, **options: Any) -> None:
        super().__init__(teacher, **options)

    @staticmethod
    def family_of(*args: Any, **kwargs: Any) -> BlockwiseUNetFamily:
        """The family of these arguments."""
        return BlockwiseUNetFamily(*args, **kwargs)
