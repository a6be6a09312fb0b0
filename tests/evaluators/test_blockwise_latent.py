"""The latent example end to end: teachers made on real digits, students in latents, with and without text."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from nni_diffnas.errors import JobError
from nni_diffnas.evaluation import TrialContext
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.export import export_pipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "blockwise_latent"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    spec = importlib.util.spec_from_file_location("blockwise_latent_prepare", EXAMPLE / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("teachers")
    module.main(folder, steps=8)
    yield folder, module.PROMPTS
    sys.path[:] = before


@pytest.mark.parametrize("kind", ["latent", "text"])
def test_a_latent_student(kind: str, prepared: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, prompts = prepared
    reads: dict[str, Any] = {"prompts": prompts, "trust_remote_code": True} if kind == "text" else {}
    family = BlockwiseUNetFamily(folder / kind)
    judge = BlockwiseEvaluation(
        {"source": str(folder / "digits16.npz")},
        training={"images": 64, "batch_size": 32, "reports": 1},
        supernet={"steps": 20, "batch_size": 32, "cached_images": 32},
        score_images=16,
        sampler_steps=2,
        curve_points=0,
        extractor="random",
        **reads,
    )
    judge.prepare()
    judge.check(family)
    block = judge.evaluate(
        family.build(family.default),
        TrialContext(family.default, tmp_path, settings={"task": "block", "block": "up0"}),
    )
    assert len(block["front"]) >= 2
    architecture = family.space.sample(np.random.default_rng(1))
    torch.manual_seed(0)
    student = family.build(architecture)
    metrics = judge.evaluate(student, TrialContext(architecture, tmp_path, settings={"task": "retrain"}))
    assert metrics["rfid"] > 0
    exported = export_pipeline(family, architecture, tmp_path / "model.safetensors", {}, tmp_path / "pipeline")
    pipeline = DiffusionPipeline.from_pretrained(exported, trust_remote_code=True)
    arguments: dict[str, Any] = {"prompt": ["the digit two"]} if kind == "text" else {"batch_size": 1}
    (image,) = pipeline(**arguments, num_inference_steps=2).images
    assert (image.size, image.mode) == ((16, 16), "L")
    assert sum(p.numel() for p in pipeline.unet.parameters()) == family.cost(architecture).params


def test_prompts_have_to_fit_the_classes(prepared: tuple[Path, list[str]]) -> None:
    folder, prompts = prepared
    judge = BlockwiseEvaluation(
        {"source": str(folder / "digits16.npz")}, training={"images": 64}, prompts=prompts[:3], extractor="random"
    )
    with pytest.raises(JobError, match="3 texts, the data has 10 classes"):
        judge.check(BlockwiseUNetFamily(folder / "text"))
