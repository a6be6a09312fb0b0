"""The latent example end to end: teachers made on real digits, students in latents, with and without text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from blockwise_teachers import QUICK, example_with_teachers
from diffusers import DiffusionPipeline

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.teacher_pipeline import TeacherPipeline
from nni_diffnas.results.export import export_pipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example_with_teachers("blockwise_latent", tmp_path_factory.mktemp("example"))


def prompts(example: Path) -> list[str]:
    listed: list[str] = yaml.safe_load((example / "text.yml").read_text())["evaluator"]["prompts"]
    return listed


@pytest.mark.parametrize("kind", ["latent", "text"])
def test_a_latent_student(kind: str, example: Path, tmp_path: Path) -> None:
    folder = example / "teachers"
    reads: dict[str, Any] = {"prompts": prompts(example), "trust_remote_code": True} if kind == "text" else {}
    family = BlockwiseUNetFamily(folder / kind)
    judge = BlockwiseEvaluation(
        {"source": str(folder / "digits16.npz")},
        **QUICK,
        **reads,
    )
    judge.prepare()
    judge.check(family)
    block = judge.evaluate(
        family.build(family.default),
        TrialContext(family.default, tmp_path, settings={"task": "block", "block": "up0"}, family=family),
    )
    assert len(block["front"]) >= 2
    architecture = family.space.sample(np.random.default_rng(1))
    torch.manual_seed(0)
    student = family.build(architecture)
    metrics = judge.evaluate(student, TrialContext(architecture, tmp_path, settings={"task": "retrain"}, family=family))
    assert metrics["rfid"] > 0
    exported = export_pipeline(family, architecture, tmp_path / "model.safetensors", {}, tmp_path / "pipeline")
    pipeline = DiffusionPipeline.from_pretrained(exported, trust_remote_code=True)
    arguments: dict[str, Any] = {"prompt": ["the digit two"]} if kind == "text" else {"batch_size": 1}
    (image,) = pipeline(**arguments, num_inference_steps=2).images
    assert (image.size, image.mode) == ((16, 16), "L")
    assert sum(p.numel() for p in pipeline.unet.parameters()) == family.cost(architecture).params


def test_prompts_have_to_fit_the_classes(example: Path) -> None:
    folder = example / "teachers"
    judge = BlockwiseEvaluation({"source": str(folder / "digits16.npz")}, **QUICK, prompts=prompts(example)[:3])
    with pytest.raises(JobError, match="3 texts, the data has 10 classes"):
        judge.check(BlockwiseUNetFamily(folder / "text"))


def test_prompts_belong_to_the_numbers_of_the_classes(example: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.resize([3, 7], 60))
    listed, reads = prompts(example), {"source": str(tmp_path / "x.npz")}
    family = BlockwiseUNetFamily(example / "teachers" / "text")
    with pytest.raises(JobError, match="2 texts, the data has 2 classes, numbered up to 7: give one text for each"):
        BlockwiseEvaluation(reads, **QUICK, prompts=listed[:2]).check(family)
    judge = BlockwiseEvaluation(reads, **QUICK, prompts=listed[:8], trust_remote_code=True)
    judge.check(family)
    numbers = judge.images.numbers_in_turn(4)
    assert numbers is not None
    teacher = TeacherPipeline(family, listed[:8], trust_remote_code=True)
    told = teacher.condition(torch.from_numpy(numbers), 4)["encoder_hidden_states"]
    assert torch.equal(told, teacher.texts[[3, 7, 3, 7]])
    assert not torch.equal(told, teacher.texts[[0, 1, 0, 1]])
