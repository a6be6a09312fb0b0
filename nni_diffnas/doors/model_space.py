"""`FamilySpace`: the networks of any family as an NNI model space, for ``NasExperiment`` and NNI's own strategies."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import nni
from nni.nas.nn.pytorch import ModelSpace
from torch import nn

from ..api.family import Family
from ..plugins import find_plugin

__all__ = ["FamilySpace", "traced_family", "traced_space"]


class FamilySpace(ModelSpace):
    """The choices of a space plug-in as NNI mutables; freezes to a plain network.

    It holds no weights: a network exists only once its choices are made, by ``space.freeze(sample)`` or by
    constructing the space inside NNI's ``model_context(sample)``. A sample names all labels of the space; labels that
    do not apply to the network are ignored.

    Example:
        >>> space = FamilySpace("unet", preset="digits")
        >>> network = space.freeze(space.family.space.complete(space.family.default))

    Args:
        args: the plug-in's name and its arguments; a subclass that says ``plugin`` takes the arguments only. One that
            overrides `family_of` needs no plug-in: its ``plugin`` is empty, and no job file can name it.
        kwargs: further arguments of the plug-in.

    Raises:
        DiffNASError: no such plug-in, or it refuses its arguments.
    """

    plugin: ClassVar[str | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.family = self.family_of(*args, **kwargs)
        for label, values in self.family.space.choices.items():
            self.add_mutable(nni.choice(label, list(values)))

    @classmethod
    def named(cls, *args: Any) -> tuple[str, tuple[Any, ...]]:
        """The plug-in's name and its arguments."""
        return (str(args[0]), args[1:]) if cls.plugin is None else (cls.plugin, args)

    @classmethod
    def family_of(cls, *args: Any, **kwargs: Any) -> Family:
        """The family behind a space that was constructed with these arguments; builds nothing."""
        plugin, given = cls.named(*args)
        return cast(Family, find_plugin("spaces", plugin)(*given, **kwargs))

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


def traced_space(executable: Any) -> tuple[type[FamilySpace], tuple[Any, ...], dict[str, Any]] | None:
    """Class and arguments of the `FamilySpace` behind NNI's ``ExecutableModelSpace``; ``None`` for a stranger's."""
    traced = getattr(executable, "model", None)
    symbol = getattr(traced, "trace_symbol", None)
    if traced is None or not isinstance(symbol, type) or not issubclass(symbol, FamilySpace):
        return None
    return symbol, tuple(traced.trace_args), dict(traced.trace_kwargs)


def traced_family(executable: Any) -> Family | None:
    """Family behind NNI's ``ExecutableModelSpace``, frozen or not; ``None`` for a stranger's. Nothing is built."""
    found = traced_space(executable)
    return None if found is None else found[0].family_of(*found[1], **found[2])
