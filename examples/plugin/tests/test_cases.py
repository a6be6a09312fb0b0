"""The plug-in in the cases of `nni_diffnas.testing`: ``pip install -e . && pytest``."""

from __future__ import annotations

from typing import Any

from diffnas_denoiser_mlp.evaluator import Denoise2D
from diffnas_denoiser_mlp.space import MLPFamily
from diffnas_denoiser_mlp.strategy import CheapestFirst

from nni_diffnas.testing import EvaluationCases, FamilyCases, StrategyCases


class TestMLPFamily(FamilyCases):
    """The search space."""

    def make(self) -> MLPFamily:
        """The space as the job file makes it."""
        return MLPFamily()


class TestCheapestFirst(StrategyCases):
    """The strategy."""

    def make(self, **options: Any) -> CheapestFirst:
        """The strategy as a door makes it."""
        return CheapestFirst(**options)


class TestDenoise2D(EvaluationCases):
    """The evaluator."""

    def make(self) -> Denoise2D:
        """An evaluation of seconds."""
        return Denoise2D({}, steps=20)

    def model(self) -> Any:
        """Always the same network."""
        import torch

        torch.manual_seed(0)
        return MLPFamily().build(MLPFamily().default)
