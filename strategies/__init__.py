"""Strategies: which architecture to train next. Each is an NNI strategy and serves both doors."""

from typing import TYPE_CHECKING

from nni_diffnas.process.lazy import lazy_names

if TYPE_CHECKING:
    from .blockwise.strategy import BlockwiseLocalSearch as BlockwiseLocalSearch
    from .gpt.proposer import GPTProposer as GPTProposer
    from .guided.strategy import DiffusionGuided as DiffusionGuided
    from .random_search import RandomSearch as RandomSearch
    from .regularized_evolution import RegularizedEvolution as RegularizedEvolution

__all__ = ["BlockwiseLocalSearch", "DiffusionGuided", "GPTProposer", "RandomSearch", "RegularizedEvolution"]
__getattr__ = lazy_names(
    __name__,
    {
        "BlockwiseLocalSearch": ".blockwise.strategy",
        "DiffusionGuided": ".guided.strategy",
        "GPTProposer": ".gpt.proposer",
        "RandomSearch": ".random_search",
        "RegularizedEvolution": ".regularized_evolution",
    },
)
