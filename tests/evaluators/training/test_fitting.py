"""Networks, images and recipes that do not fit are refused before anything trains."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators.diffusion import DiffusionEvaluation
from nni_diffnas.search_spaces.unet.family import UNetFamily

SMALL: dict[str, Any] = {"width_factors": [0.5], "depths": [1], "attention": [False], "middle": ["none"]}


def evaluation(**training: Any) -> DiffusionEvaluation:
    return DiffusionEvaluation(
        {"source": "digits"}, extractor="random", score_images=20, sampler_steps=3, curve_points=0,
        training={"steps": 3, "batch_size": 8, **training},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("space", "training", "sentence"),
    [
        (
            {"learned_sigma": True},
            {},
            r"also predicts variances \(2 output channels for 1\).*learned_sigma: false in space",
        ),
        ({}, {"recipe": "iddpm"}, "'iddpm' learns variances.*learned_sigma: true in space"),
        ({"sample_size": 16}, {}, "made for images of 16 x 16 pixels and the data has 8 x 8: set sample_size in space"),
        ({"in_channels": 3}, {}, "cannot be trained on images and timesteps of 1 x 8 x 8 pixels"),
        ({"num_classes": 10}, {}, "takes class_labels below 10"),
        ({}, {"class_conditional": True}, "takes no class_labels"),
    ],
)
def test_misfits(tmp_path: Path, space: dict[str, Any], training: dict[str, Any], sentence: str) -> None:
    family = UNetFamily("digits", **SMALL, **space)
    with pytest.raises(JobError, match=sentence):
        evaluation(**training).check(family)
    with pytest.raises(JobError, match=sentence):
        evaluation(**training).evaluate(family.build(family.default), TrialContext({}, tmp_path))


def test_a_good_network_is_left_as_it_was() -> None:
    family = UNetFamily("digits", **SMALL)
    state = torch.random.get_rng_state()
    evaluation().check(family)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_network_with_learned_variances_samples_in_plain_diffusers(tmp_path: Path) -> None:
    from diffusers import DDPMPipeline

    from nni_diffnas.results.export import export_pipeline

    family = UNetFamily("digits", **SMALL, learned_sigma=True)
    judge = evaluation(recipe="iddpm", timesteps=200, images=640, steps=None, batch_size=32)
    judge.check(family)
    torch.manual_seed(0)
    metrics = judge.evaluate(family.build(family.default), TrialContext({}, tmp_path))
    assert metrics["rfid"] > 0
    scheduler = judge.scheduler_config()
    assert scheduler is not None
    assert scheduler["variance_type"] == "learned_range"
    export_pipeline(family, family.default, tmp_path / "model.safetensors", scheduler, tmp_path / "pipeline")
    pipeline = DDPMPipeline.from_pretrained(str(tmp_path / "pipeline"))
    assert pipeline.unet.config.out_channels == 2
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(batch_size=2, num_inference_steps=20, output_type="np").images
    assert images.shape == (2, 8, 8, 1)
    assert 0.02 < images.std() < 0.7


def test_edms_networks_make_no_pipeline() -> None:
    assert evaluation(prediction="edm").scheduler_config() is None
