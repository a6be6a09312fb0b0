"""Search spaces: what can be chosen, and how the chosen network is built and priced."""

from typing import TYPE_CHECKING

from nni_diffnas.process.lazy import lazy_names

if TYPE_CHECKING:
    from .blockwise.family import BlockwiseUNetFamily as BlockwiseUNetFamily
    from .blockwise.model_space import BlockwiseUNetSpace as BlockwiseUNetSpace
    from .mobilenetv3 import MobileNetV3Family as MobileNetV3Family
    from .nasbench201 import NASBench201Family as NASBench201Family
    from .tabular import TableFamily as TableFamily
    from .unet.family import UNetFamily as UNetFamily
    from .unet.model_space import UNetSpace as UNetSpace

__all__ = [
    "BlockwiseUNetFamily",
    "BlockwiseUNetSpace",
    "MobileNetV3Family",
    "NASBench201Family",
    "TableFamily",
    "UNetFamily",
    "UNetSpace",
]
__getattr__ = lazy_names(
    __name__,
    {
        "BlockwiseUNetFamily": ".blockwise.family",
        "BlockwiseUNetSpace": ".blockwise.model_space",
        "MobileNetV3Family": ".mobilenetv3",
        "NASBench201Family": ".nasbench201",
        "TableFamily": ".tabular",
        "UNetFamily": ".unet.family",
        "UNetSpace": ".unet.model_space",
    },
)
