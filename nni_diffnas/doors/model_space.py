"""`FamilySpace`: the networks of a family as an NNI model space, for ``NasExperiment`` and NNI's own strategies."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import nni
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from nni_diffnas.api.family import Family

__all__ = ["FamilySpace"]


class FamilySpace(ModelSpace):
    """The choices of a family as NNI mutables; freezes to a plain network.

    It holds no weights: a network exists only once its choices are made, by ``space.freeze(sample)`` or by
    constructing the space inside NNI's ``model_context(sample)``. A sample names all labels of the space; labels that
    do not apply to the network are ignored.

    Args:
        args: see `family_of`, as do ``kwargs``.
    """

    plugin: ClassVar[str] = ""
    """The space plug-in that takes the same arguments, by which a job names this space; empty where there is none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.family = self.family_of(*args, **kwargs)
        for label, values in self.family.space.choices.items():
            self.add_mutable(nni.choice(label, list(values)))

    @staticmethod
    @abstractmethod
    def family_of(*args: Any, **kwargs: Any) -> Family:
        """The family behind a space that was constructed with these arguments; builds nothing."""

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


def _frozen(family: Family, sample: dict[str, Any]) -> nn.Module:
    # Inside an experiment, NNI's sample may carry labels of the evaluator's too.
    return family.build({label: value for label, value in sample.items() if label in family.space.choices})
