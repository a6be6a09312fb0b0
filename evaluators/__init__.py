"""Evaluators: train a network and say how good it is."""

from typing import TYPE_CHECKING

from nni_diffnas.process.lazy import lazy_names

if TYPE_CHECKING:
    from .blockwise.evaluation import BlockwiseEvaluation as BlockwiseEvaluation
    from .blockwise.nas import BlockwiseEvaluator as BlockwiseEvaluator
    from .diffusion import DiffusionEvaluation as DiffusionEvaluation
    from .nas import DiffusionEvaluator as DiffusionEvaluator
    from .tabular import TabularEvaluation as TabularEvaluation

__all__ = [
    "BlockwiseEvaluation",
    "BlockwiseEvaluator",
    "DiffusionEvaluation",
    "DiffusionEvaluator",
    "TabularEvaluation",
]
__getattr__ = lazy_names(
    __name__,
    {
        "BlockwiseEvaluation": ".blockwise.evaluation",
        "BlockwiseEvaluator": ".blockwise.nas",
        "DiffusionEvaluation": ".diffusion",
        "DiffusionEvaluator": ".nas",
        "TabularEvaluation": ".tabular",
    },
)
