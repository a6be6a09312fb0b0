"""`BlockwiseEvaluator`: `BlockwiseEvaluation` for NNI's own `NasExperiment`. It imports NNI's NAS package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nni

from nni_diffnas.doors.evaluator import EvaluationDoor

__all__ = ["BlockwiseEvaluator"]


@nni.trace
class BlockwiseEvaluator(EvaluationDoor):
    """Trains blocks and students in a `NasExperiment` over a `BlockwiseUNetSpace`, with a `BlockwiseLocalSearch`.

    Example:
        >>> space = BlockwiseUNetSpace("teacher")
        >>> evaluator = BlockwiseEvaluator({"source": "digits"}, training={"images": 30000})
        >>> evaluator.prepare()
        >>> evaluator.check(space.family)
        >>> NasExperiment(space, evaluator, BlockwiseLocalSearch()).run(8080)

    Args:
        data: fields of `DataSettings`, JSON values only.
        options: ``metric``, ``direction``, ``seed``, ``max_trial_seconds``, see `EvaluationDoor`; and fields of
            `BlockwiseSettings`, JSON values only.
    """

    def __init__(self, data: Mapping[str, Any], *positional: Any, **options: Any) -> None:
        super().__init__("blockwise", data, *positional, **options)
