"""`UNetSpace`: the UNet family as an NNI model space."""

from __future__ import annotations

from typing import Any

from nni_diffnas.doors.model_space import FamilySpace

from .family import UNetFamily

__all__ = ["UNetSpace"]


class UNetSpace(FamilySpace):
    """The choices of `UNetFamily` as NNI mutables; freezes to a plain `network.UNet`.

    Example:
        >>> space = UNetSpace(preset="digits", heads=[1, 2])
        >>> network = space.freeze(space.family.space.complete(space.family.default))

    Args:
        preset: see `UNetFamily`.
        options: overrides of the preset, see `UNetOptions`.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """

    family: UNetFamily

    plugin = "unet"

    def __init__(self, preset: str = "cifar10", **options: Any) -> None:
        super().__init__(preset, **options)

    @staticmethod
    def family_of(*args: Any, **kwargs: Any) -> UNetFamily:
        """The family of these arguments."""
        return UNetFamily(*args, **kwargs)
