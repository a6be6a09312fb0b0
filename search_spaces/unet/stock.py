"""Which networks of the family stock diffusers can express, and the configuration of ``UNet2DModel`` that does."""

from __future__ import annotations

from typing import Any

from .block_kinds import Residual
from .plan import UNetConfig, plan_of
from .pricing import NORM_EPS


def stock_config(config: UNetConfig) -> dict[str, Any] | None:
    """Arguments of ``UNet2DModel`` for the same network, module by module; ``None`` where it has none.

    ``UNet2DModel`` knows one depth, one number of channels per head, one number of normalisation groups and no inner
    width; and of blocks, skips, resampling, attention and stems one kind each. A network conditioned on classes is not
    expressed either, since ``DDPMPipeline`` passes no labels and the stock network refuses to run without.
    """
    kinds = {*config.blocks, *config.attention, config.resample, config.skips, config.patch}
    if not kinds <= {"residual", "none", "softmax", "convolution", "all", 1}:
        return None
    plan = plan_of(config)
    residuals = [layer for block in plan.blocks for layer in block.residuals if isinstance(layer, Residual)]
    attentions = [layer for block in plan.blocks for layer in block.attentions]
    groups = {plan.head.groups, *(layer.groups for layer in attentions)}
    groups.update(*(layer.groups for layer in residuals))
    head_widths = {layer.width // layer.heads for layer in attentions}
    wider = any(layer.inner != layer.outputs for layer in residuals)
    if len(set(config.depths)) > 1 or len(groups) > 1 or len(head_widths) > 1 or wider or plan.classes is not None:
        return None
    (norm_groups,) = groups
    down = ["AttnDownBlock2D" if attends != "none" else "DownBlock2D" for attends in config.attention]
    up = ["AttnUpBlock2D" if attends != "none" else "UpBlock2D" for attends in reversed(config.attention)]
    return {
        "sample_size": config.sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "time_embedding_dim": config.time_embedding_dim,
        "down_block_types": down,
        "mid_block_type": None if config.middle == "none" else "UNetMidBlock2D",
        "up_block_types": up,
        "block_out_channels": list(config.widths),
        "layers_per_block": config.depths[0],
        "dropout": config.dropout,
        "attention_head_dim": head_widths.pop() if head_widths else config.widths[0],
        "norm_num_groups": norm_groups,
        "attn_norm_num_groups": norm_groups,
        "norm_eps": NORM_EPS,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift else "default",
        "add_attention": config.middle == "attention",
    }
