"""Evaluators: train a network and say how good it is."""

from typing import TYPE_CHECKING

from nni_diffnas.lazy import lazy_names

if TYPE_CHECKING:
    from .diffusion import DiffusionEvaluation as DiffusionEvaluation
    from .nas import DiffusionEvaluator as DiffusionEvaluator
    from .tabular import TabularEvaluation as TabularEvaluation

__all__ = ["DiffusionEvaluation", "DiffusionEvaluator", "TabularEvaluation"]
__getattr__ = lazy_names(
    __name__,
    {"DiffusionEvaluation": ".diffusion", "DiffusionEvaluator": ".nas", "TabularEvaluation": ".tabular"},
)
