"""`BlockwiseUNetSpace`: students of a teacher as an NNI model space, for ``NasExperiment`` and NNI's own strategies."""

from __future__ import annotations

from typing import Any

import nni
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from .family import BlockwiseUNetFamily

__all__ = ["BlockwiseUNetSpace"]


class BlockwiseUNetSpace(ModelSpace):
    """The choices of `BlockwiseUNetFamily` as NNI mutables; freezes to a student with fresh weights.

    It holds no weights: a network exists only once its choices are made, by ``space.freeze(sample)`` or by
    constructing the space inside NNI's ``model_context(sample)``.

    Example:
        >>> space = BlockwiseUNetSpace("teacher", widths=[0.5, 1.0])
        >>> student = space.freeze(space.family.space.complete(space.family.default))

    Args:
        teacher: folder of a pipeline with a ``UNet2DModel`` or ``UNet2DConditionModel``.
        options: see `BlockwiseUNetFamily`.

    Raises:
        SpaceError: a teacher or options that cannot be searched.
    """

    def __init__(self, teacher: str, **options: Any) -> None:
        super().__init__()
        self.family = self.family_of(teacher, **options)
        for label, values in self.family.space.choices.items():
            self.add_mutable(nni.choice(label, list(values)))

    @staticmethod
    def family_of(*args: Any, **kwargs: Any) -> BlockwiseUNetFamily:
        """The family behind a space that was constructed with these arguments; builds nothing."""
        return BlockwiseUNetFamily(*args, **kwargs)

    @classmethod
    def create_fixed_module(cls, sample: dict[str, Any], *args: Any, **kwargs: Any) -> nn.Module:
        """What constructing the space means inside ``model_context(sample)``: build the network."""
        return _frozen(cls.family_of(*args, **kwargs), sample)

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        """Build the network of a sample.

        Raises:
            SpaceError: a label without a value, or a value that the space does not offer.
        """
        return _frozen(self.family, sample)


def _frozen(family: BlockwiseUNetFamily, sample: dict[str, Any]) -> nn.Module:
    # Inside an experiment, NNI's sample may carry labels of the evaluator's too.
    return family.build({label: value for label, value in sample.items() if label in family.space.choices})
