"""`BlockwiseEvaluator`: `BlockwiseEvaluation` for NNI's own `NasExperiment`. It imports NNI's NAS package."""

from __future__ import annotations

from typing import ClassVar

import nni

from nni_diffnas.api.family import Family

from ..nas import DiffusionEvaluator
from .evaluation import BlockwiseEvaluation

__all__ = ["BlockwiseEvaluator"]


@nni.trace
class BlockwiseEvaluator(DiffusionEvaluator):
    """Trains blocks and students in a `NasExperiment` over a `BlockwiseUNetSpace`, with a `BlockwiseLocalSearch`.

    Example:
        >>> space = BlockwiseUNetSpace("teacher")
        >>> evaluator = BlockwiseEvaluator({"source": "digits"}, training={"images": 30000})
        >>> evaluator.prepare()
        >>> evaluator.check(space.family)
        >>> NasExperiment(space, evaluator, BlockwiseLocalSearch()).run(8080)

    Args:
        data, metric, direction, seed: see `DiffusionEvaluator`.
        options: fields of `BlockwiseSettings`, JSON values only.
    """

    plugin: ClassVar[str] = "blockwise"

    def evaluation(self) -> BlockwiseEvaluation:
        """A new evaluation with these settings."""
        return BlockwiseEvaluation(self.data, **self.options)

    def check(self, family: Family) -> None:
        """Refuse a teacher that does not fit the data; call it before the experiment, so that it is known at once."""
        self.evaluation().check(family)
