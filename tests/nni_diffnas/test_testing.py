"""Our own plug-ins, and that of examples/plugin, in the cases that we give to others."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from blockwise_teachers import save_teacher
from chat_server import ChatServer
from stand_ins import MutatingModel

from nni_diffnas.api.evaluation import Evaluation
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.evaluators import DiffusionEvaluation, TabularEvaluation
from nni_diffnas.search_spaces import (
    BlockwiseUNetFamily,
    MobileNetV3Family,
    NASBench201Family,
    TableFamily,
    UNetFamily,
)
from nni_diffnas.strategies import DiffusionGuided, GPTProposer, RandomSearch, RegularizedEvolution
from nni_diffnas.testing import EvaluationCases, FamilyCases, StrategyCases


class TestRandomSearch(StrategyCases):
    def make(self, **options: Any) -> AskTellStrategy:
        return RandomSearch(**options)


class TestRegularizedEvolution(StrategyCases):
    def make(self, **options: Any) -> AskTellStrategy:
        return RegularizedEvolution(population=4, sample=2, **options)


class TestDiffusionGuided(StrategyCases):
    trials = 8

    def make(self, **options: Any) -> AskTellStrategy:
        return DiffusionGuided(training_steps=10, candidates=32, sampler_steps=5, **options)


def alike(messages: list[dict[str, str]]) -> str:
    """Answer the same question in the same way each time, as no real model promises to."""
    return MutatingModel(zlib.crc32(json.dumps(messages).encode()))(messages)


class TestGPTProposer(StrategyCases):
    trials = 10

    @pytest.fixture(autouse=True)
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with ChatServer(alike) as server:
            self.url = server.url
            yield

    def make(self, **options: Any) -> AskTellStrategy:
        return GPTProposer(base_url=self.url, **options)


class TestCheapestFirst(StrategyCases):
    @pytest.fixture(autouse=True)
    def plugin(self, plugin_site: Path) -> None:
        """Install examples/plugin."""

    def make(self, **options: Any) -> AskTellStrategy:
        from diffnas_denoiser_mlp.strategy import CheapestFirst

        made: AskTellStrategy = CheapestFirst(**options)
        return made


class TestUNetFamily(FamilyCases):
    def make(self) -> Family:
        return UNetFamily(preset="digits")


class TestMobileNetV3Family(FamilyCases):
    def make(self) -> Family:
        return MobileNetV3Family()


class TestNASBench201Family(FamilyCases):
    def make(self) -> Family:
        return NASBench201Family()


class TestBlockwiseUNetFamily(FamilyCases):
    @pytest.fixture(autouse=True)
    def saved(self, tmp_path: Path) -> None:
        self.teacher = save_teacher(tmp_path)

    def make(self) -> Family:
        return BlockwiseUNetFamily(str(self.teacher))


def save_table(folder: Path) -> str:
    choices = np.array([[a, b] for a in range(3) for b in range(4)])
    np.savez(folder / "table.npz", labels=["a", "b"], choices=choices, metrics=["rfid"], values=choices[:, :1] + 1.0)
    return str(folder / "table.npz")


class TestTableFamily(FamilyCases):
    @pytest.fixture(autouse=True)
    def saved(self, tmp_path: Path) -> None:
        self.path = save_table(tmp_path)

    def make(self) -> Family:
        return TableFamily(self.path)


class TestMLPFamily(FamilyCases):
    @pytest.fixture(autouse=True)
    def plugin(self, plugin_site: Path) -> None:
        """Install examples/plugin."""

    def make(self) -> Family:
        from diffnas_denoiser_mlp.space import MLPFamily

        made: Family = MLPFamily()
        return made


class TestDiffusionEvaluation(EvaluationCases):
    architecture: ClassVar[Architecture] = dict(UNetFamily(preset="digits").default)

    def make(self) -> Evaluation:
        quick: dict[str, Any] = {"training": {"images": 256}, "score_images": 32, "sampler_steps": 2, "curve_points": 1}
        return DiffusionEvaluation({"source": "digits"}, extractor="random", curve_images=16, **quick)

    def model(self) -> Any:
        import torch

        torch.manual_seed(0)
        return UNetFamily(preset="digits").build(self.architecture)


class TestTabularEvaluation(EvaluationCases):
    architecture: ClassVar[Architecture] = {"a": 1, "b": 2}

    @pytest.fixture(autouse=True)
    def saved(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.path = save_table(tmp_path_factory.mktemp("table"))

    def make(self) -> Evaluation:
        return TabularEvaluation({"path": self.path})

    def model(self) -> Any:
        return TableFamily(self.path).build(self.architecture)


class TestDenoise2D(EvaluationCases):
    @pytest.fixture(autouse=True)
    def plugin(self, plugin_site: Path) -> None:
        """Install examples/plugin."""

    def make(self) -> Evaluation:
        from diffnas_denoiser_mlp.evaluator import Denoise2D

        made: Evaluation = Denoise2D({}, steps=20)
        return made

    def model(self) -> Any:
        import torch
        from diffnas_denoiser_mlp.space import MLPFamily

        torch.manual_seed(0)
        return MLPFamily().build(MLPFamily().default)
