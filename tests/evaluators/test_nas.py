"""The evaluator behind NNI's NAS door: small, serialisable, and it reports what NNI can rank."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nni
import pytest
import torch
from torch import nn

from nni_diffnas.api.errors import JobError
from nni_diffnas.evaluators import DiffusionEvaluation, DiffusionEvaluator
from nni_diffnas.testing import SmallFamily
from nni_diffnas.trial.parameters import TRIAL_ID

OPTIONS: dict[str, Any] = {
    "extractor": "random", "training": {"images": 320}, "score_images": 50, "sampler_steps": 3, "curve_images": 20,
}  # fmt: skip


def test_it_survives_nnis_serializer() -> None:
    evaluator = DiffusionEvaluator({"source": "digits", "held_out": 0.2}, direction="minimize", seed=4, **OPTIONS)
    evaluator.prepare()
    dumped = nni.dump(evaluator)
    assert len(dumped) < 2000
    loaded = nni.load(dumped)
    assert type(loaded) is DiffusionEvaluator
    assert loaded.evaluation().settings == evaluator.evaluation().settings
    assert (loaded.seed, loaded.objective, loaded.data) == (4, evaluator.objective, evaluator.data)


def test_a_trial_hears_of_the_labels_that_its_network_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NNI's sample names all labels, also those of parts that are not there."""
    family, contexts = SmallFamily(), []

    def evaluate(self: Any, model: Any, context: Any) -> dict[str, float]:
        contexts.append(context)
        return {"rfid": 1.0}

    monkeypatch.setattr("nni_diffnas.doors.evaluator.traced_family", lambda model: family)
    monkeypatch.setattr(DiffusionEvaluation, "evaluate", evaluate)
    monkeypatch.setattr(nni, "report_final_result", lambda metrics: None)
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / "trial"))
    sample = {**family.space.complete(family.default), TRIAL_ID: "t-0"}
    model = SimpleNamespace(sample=sample, executable_model=nn.Module)
    DiffusionEvaluator({"source": "digits"}, **OPTIONS)._execute(model)
    assert "heads" in sample
    assert contexts[0].architecture == family.default


def test_bad_options_are_refused_before_the_experiment() -> None:
    with pytest.raises(JobError, match=r"evaluator\.score_image is no option"):
        DiffusionEvaluator({"source": "digits"}, score_image=3)
    for seconds in (0, -1.0, float("inf"), float("nan")):
        with pytest.raises(JobError, match=f"max_trial_seconds is {seconds}: give seconds above 0"):
            DiffusionEvaluator({"source": "digits"}, max_trial_seconds=seconds)
    with pytest.raises(JobError, match="seed is -1: give a number from 0"):
        DiffusionEvaluator({"source": "digits"}, seed=-1)


def test_reports_through_nni(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_denoiser: type[nn.Module]) -> None:
    final: list[dict[str, float]] = []
    intermediate: list[dict[str, float]] = []
    monkeypatch.setattr(nni, "report_final_result", final.append)
    monkeypatch.setattr(nni, "report_intermediate_result", intermediate.append)
    monkeypatch.setenv("NNI_OUTPUT_DIR", str(tmp_path / "trial"))

    class Frozen:
        def __init__(self) -> None:
            self.sample = {"width": 24}

        def executable_model(self) -> nn.Module:
            return small_denoiser()

    monkeypatch.setattr(nni, "get_current_parameter", Frozen)
    evaluator = DiffusionEvaluator({"source": "digits"}, **OPTIONS)
    scores = [evaluator._execute(Frozen())["rfid"] for _ in range(2)]
    assert scores[0] == scores[1], "equal architectures start from equal weights"
    assert final[0]["default"] == -final[0]["rfid"] == -scores[0]
    assert len(intermediate) == 2 * 3
    assert all(report["default"] == -report["rfid"] for report in intermediate)
    assert '"width": 24' in (tmp_path / "trial" / "evaluation.json").read_text()
    assert torch.initial_seed() == evaluator.seed
