"""Search spaces: what can be chosen, and how the chosen network is built and priced."""

from typing import TYPE_CHECKING

from nni_diffnas.lazy import lazy_names

if TYPE_CHECKING:
    from .unet.family import UNetFamily as UNetFamily
    from .unet.model_space import UNetSpace as UNetSpace

__all__ = ["UNetFamily", "UNetSpace"]
__getattr__ = lazy_names(__name__, {"UNetFamily": ".unet.family", "UNetSpace": ".unet.model_space"})
