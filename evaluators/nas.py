"""`DiffusionEvaluator`: `DiffusionEvaluation` for NNI's own `NasExperiment`. It imports NNI's NAS package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nni

from nni_diffnas.doors.evaluator import EvaluationDoor

__all__ = ["DiffusionEvaluator"]


@nni.trace
class DiffusionEvaluator(EvaluationDoor):
    """Trains and scores each network of a `NasExperiment`.

    Example:
        >>> evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": 16000})
        >>> evaluator.prepare()
        >>> NasExperiment(UNetSpace(...), evaluator, RegularizedEvolution(...)).run(8080)

    Args:
        data: fields of `DataSettings`, JSON values only.
        options: ``metric``, ``direction``, ``seed``, ``max_trial_seconds``, see `EvaluationDoor`; and fields of
            `Settings`, JSON values only.

    Raises:
        JobError: an unknown option, or a value out of range.
    """

    def __init__(self, data: Mapping[str, Any], *positional: Any, **options: Any) -> None:
        super().__init__("diffusion", data, *positional, **options)
