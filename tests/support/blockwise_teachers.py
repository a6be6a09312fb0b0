"""Tiny teachers with random weights, and evaluations that take a moment: enough for everything but quality."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

TINY: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
QUICK: dict[str, Any] = {
    "training": {"images": 128, "batch_size": 32, "reports": 2},
    "supernet": {"steps": 20, "batch_size": 32, "cached_images": 64, "front": 8},
    "score_images": 32,
    "sampler_steps": 2,
    "curve_points": 0,
    "extractor": "random",
}
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def save_teacher(folder: Path, steps: int = 1000, **changes: Any) -> Path:
    """Write a DDPM pipeline whose UNet has the tiny sizes, but for the changes; ``steps`` of noise."""
    torch.manual_seed(0)
    network = UNet2DModel(**{**TINY, **changes})
    DDPMPipeline(network, DDPMScheduler(num_train_timesteps=steps, beta_schedule="squaredcos_cap_v2")).save_pretrained(
        folder
    )
    return folder


def example_with_teachers(name: str, folder: Path, steps: int = 8) -> Path:
    """Copy an example to a folder and train its teachers there for a moment, by its own first step."""
    shutil.copytree(EXAMPLES / name, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("teacher*", "__*"))
    run = f"import prepare; prepare.STEPS = {steps}; prepare.main()"
    subprocess.run([sys.executable, "-c", run], cwd=folder, check=True, timeout=300)
    return folder
