"""`UNetSpace`: the UNet family as an NNI model space."""

from __future__ import annotations

from nni_diffnas.doors.model_space import FamilySpace

__all__ = ["UNetSpace"]


class UNetSpace(FamilySpace):
    """The choices of `UNetFamily`, whose arguments it takes, as NNI mutables; freezes to a plain `network.UNet`.

    Example:
        >>> space = UNetSpace(preset="digits", heads=[1, 2])
        >>> network = space.freeze(space.family.space.complete(space.family.default))
    """

    plugin = "unet"
