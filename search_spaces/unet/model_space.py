"""`UNetSpace`: the UNet family as an NNI model space, for ``NasExperiment`` and NNI's own strategies."""

from __future__ import annotations

from typing import Any

import nni
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from .family import UNetFamily

__all__ = ["UNetSpace"]


class UNetSpace(ModelSpace):
    """The choices of `UNetFamily` as NNI mutables; freezes to a plain `network.UNet`.

    It holds no weights: a network exists only once its choices are made, by ``space.freeze(sample)`` or by
    constructing the space inside NNI's ``model_context(sample)``. A sample names all labels of the space; labels that
    do not apply to the network (heads where nothing attends) are ignored.

    Example:
        >>> space = UNetSpace(preset="digits", heads=[1, 2])
        >>> network = space.freeze(space.family.space.complete(space.family.default))

    Args:
        preset: see `UNetFamily`.
        options: overrides of the preset, see `UNetOptions`.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """

    def __init__(self, preset: str = "cifar10", **options: Any) -> None:
        super().__init__()
        self.family = self.family_of(preset, **options)
        for label, values in self.family.space.choices.items():
            self.add_mutable(nni.choice(label, list(values)))

    @staticmethod
    def family_of(*args: Any, **kwargs: Any) -> UNetFamily:
        """The family behind a space that was constructed with these arguments; builds nothing."""
        return UNetFamily(*args, **kwargs)

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


def _frozen(family: UNetFamily, sample: dict[str, Any]) -> nn.Module:
    # Inside an experiment, NNI's sample may carry labels of the evaluator's too.
    return family.build({label: value for label, value in sample.items() if label in family.space.choices})
