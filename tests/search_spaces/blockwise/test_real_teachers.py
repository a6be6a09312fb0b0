"""Teachers as people have them: their published sizes, and the forms that their weights are saved in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, LDMPipeline, UNet2DModel, VQModel
from safetensors.torch import save_model

from nni_diffnas.results.export import export_pipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily

DDPM_CIFAR10 = {
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": 2,
    "norm_eps": 1e-6,
    "sample_size": 32,
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
STABLE_DIFFUSION_1_5 = {
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}


@pytest.mark.parametrize(
    ("kind", "config", "params", "gmacs"),
    [
        ("UNet2DModel", DDPM_CIFAR10, 35_746_307, 6.22),  # 6.06 without the products of attention
        ("UNet2DConditionModel", STABLE_DIFFUSION_1_5, 859_520_964, 401.4),
    ],
)
def test_published_sizes_are_found_and_students_priced_and_built(
    tmp_path: Path, kind: str, config: dict[str, Any], params: int, gmacs: float
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(json.dumps({"unet": ["diffusers", kind]}))
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": kind, **config}))
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").touch()  # sizes and prices need no weights
    family = BlockwiseUNetFamily(tmp_path)
    assert family.teacher_cost.params == params
    assert family.teacher_cost.macs == pytest.approx(gmacs * 1e9, rel=0.01)
    half = family.space.validate({label: 0.5 if label.endswith("width") else 1 for label in family.default})
    with torch.device("meta"):
        student = family.build(half)
    assert sum(parameter.numel() for parameter in student.parameters()) == family.cost(half).params < 0.7 * params
    assert family.cost(half).macs < 0.7 * family.teacher_cost.macs


def latent_pipeline() -> LDMPipeline:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    return LDMPipeline(VQModel(block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=8), unet, DDIMScheduler())


@pytest.mark.parametrize(
    "saved",
    [
        {"variant": "fp16"},
        {"variant": "fp16", "max_shard_size": "30KB"},
        {"max_shard_size": "30KB"},
        {"safe_serialization": False},
    ],
)
def test_other_forms_of_weights_load_and_the_student_goes_home_in_plain_diffusers(
    tmp_path: Path, saved: dict[str, Any]
) -> None:
    pipeline = latent_pipeline()
    wanted = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    if "variant" in saved:
        pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "teacher", **saved)
    if "max_shard_size" in saved:
        assert len(list((tmp_path / "teacher" / "unet").glob("*.safetensors"))) > 1
    family = BlockwiseUNetFamily(tmp_path / "teacher")
    for name, value in family.teacher().state_dict().items():
        assert value.dtype == torch.float32, "students are trained in full precision"
        assert torch.allclose(value, wanted[name], atol=1e-3)
    architecture = family.space.sample(np.random.default_rng(1))
    student = family.build(architecture).eval()
    save_model(student, str(tmp_path / "weights.safetensors"))
    folder = export_pipeline(family, architecture, tmp_path / "weights.safetensors", {}, tmp_path / "student")
    loaded = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    noise, times = torch.randn(2, 3, 8, 8), torch.tensor([3, 700])
    with torch.no_grad():
        assert torch.allclose(loaded.unet(noise, times).sample, student(noise, times).sample, atol=1e-5)
        assert loaded.vqvae.encode(noise).latents.shape == noise.shape
