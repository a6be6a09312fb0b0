"""Tiny teachers with random weights: enough for everything but quality."""

from __future__ import annotations

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


def save_teacher(folder: Path, steps: int = 1000, **changes: Any) -> Path:
    """Write a DDPM pipeline whose UNet has the tiny sizes, but for the changes; ``steps`` of noise."""
    torch.manual_seed(0)
    network = UNet2DModel(**{**TINY, **changes})
    DDPMPipeline(network, DDPMScheduler(num_train_timesteps=steps, beta_schedule="squaredcos_cap_v2")).save_pretrained(
        folder
    )
    return folder
