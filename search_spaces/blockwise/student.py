"""The student network: a diffusers UNet some of whose layers are smaller, of another kind, or left out.

This module is shipped behind `unet.modules` as the single code file of an exported student: it imports nothing else of
ours.

Notation
    change     what takes a layer's place: ``[inner, kernel1, kernel2]``, a residual block of other convolutions;
               ``["convnext", inner, kernel]``, a `ConvNeXtBlock`; ``["pool"]``, resampling without a 3x3 convolution;
               ``None``, nothing
    changes    module name to change
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional

from ..unet.modules import ConvNeXtBlock

Change = Sequence[int | str] | None


class Shortcut(nn.Module):
    """What is left of a residual block when its residual branch is dropped."""

    def __init__(self, residual: ResnetBlock2D) -> None:
        super().__init__()
        self.conv_shortcut = residual.conv_shortcut
        self.output_scale_factor = residual.output_scale_factor

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Fit the channels, and scale as the residual block does."""
        if self.conv_shortcut is not None:
            hidden_states = self.conv_shortcut(hidden_states)
        return hidden_states / self.output_scale_factor


class NoAttention(nn.Module):
    """Stands where an attention layer was dropped; a transformer's caller expects a tuple."""

    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.as_tuple = as_tuple

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the input."""
        return (hidden_states,) if self.as_tuple else hidden_states


def resize(residual: Any, inner: int, kernel1: int, kernel2: int) -> None:
    """Give a residual block other convolutions, with fresh weights where their shapes change."""
    first, second, norm, time = residual.conv1, residual.conv2, residual.norm2, residual.time_emb_proj
    if first.weight.shape != (inner, first.in_channels, kernel1, kernel1):
        residual.conv1 = nn.Conv2d(first.in_channels, inner, kernel1, padding=kernel1 // 2)
    if second.weight.shape != (second.out_channels, inner, kernel2, kernel2):
        residual.conv2 = nn.Conv2d(inner, second.out_channels, kernel2, padding=kernel2 // 2)
    if norm.num_channels != inner:
        residual.norm2 = nn.GroupNorm(norm.num_groups, inner, eps=norm.eps)
        if time is not None:
            residual.time_emb_proj = nn.Linear(time.in_features, inner * (time.out_features // norm.num_channels))
    residual.out_channels = inner


class PooledDownsample(nn.Module):
    """Half the side: the mean of 2x2 pixels, then a 1x1 convolution; an odd side is rounded up, as the stride does."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(convolution.in_channels, convolution.out_channels, 1)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """``batch x channels x height x width``."""
        made: torch.Tensor = self.conv(functional.avg_pool2d(hidden_states, 2, ceil_mode=True))
        return made


class PooledUpsample(nn.Module):
    """Twice the side, or the one that is asked for: a 1x1 convolution, then each pixel repeated."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(convolution.in_channels, convolution.out_channels, 1)

    def forward(self, hidden_states: torch.Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        """``batch x channels x height x width``."""
        scale = 2.0 if output_size is None else None
        return functional.interpolate(self.conv(hidden_states), size=output_size, scale_factor=scale, mode="nearest")


def pooled(sampler: Any) -> PooledDownsample | PooledUpsample:
    """What resamples without a 3x3 convolution, weights fresh."""
    return PooledDownsample(sampler.conv) if isinstance(sampler, Downsample2D) else PooledUpsample(sampler.conv)


def convnext(residual: Any, inner: int, kernel: int) -> ConvNeXtBlock:
    """A `ConvNeXtBlock` in the place of a residual block, of which it keeps the shortcut; it starts as that alone."""
    norm, time = residual.norm1, residual.time_emb_proj.in_features
    inputs, outputs, dropout = residual.in_channels, residual.conv2.out_channels, residual.dropout.p
    block = ConvNeXtBlock(inputs, inner, outputs, kernel, time, norm.num_groups, norm.eps, dropout)
    block.conv_shortcut = nn.Identity() if residual.conv_shortcut is None else residual.conv_shortcut
    return block


def changed(layer: Any, change: Change) -> nn.Module:
    """What takes the place of a teacher's layer."""
    if change is None:
        if isinstance(layer, ResnetBlock2D):
            return Shortcut(layer)
        return NoAttention(as_tuple=not isinstance(layer, Attention))
    if isinstance(layer, Downsample2D | Upsample2D):
        return pooled(layer)
    if change[0] == "convnext":
        return convnext(layer, *map(int, change[1:]))
    resize(layer, *map(int, change))
    kept: nn.Module = layer
    return kept


def apply_changes(network: Any, changes: Mapping[str, Change]) -> None:
    """Turn the teacher's network into the student's."""
    for name, change in changes.items():
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, changed(network.get_submodule(name), change))


def _register(network: Any, changes: Mapping[str, Change] | None) -> None:
    network.register_to_config(changes=dict(changes or {}))
    apply_changes(network, changes or {})


class BlockwiseUNet2DModel(UNet2DModel):  # type: ignore[misc,unused-ignore]
    """A student of a ``UNet2DModel``; the arguments are the teacher's, and the changes."""

    def __init__(self, changes: Mapping[str, Change] | None = None, **teacher: Any) -> None:
        super().__init__(**teacher)  # type: ignore[no-untyped-call]  # diffusers'
        _register(self, changes)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        return {*inspect.signature(UNet2DModel.__init__).parameters, "changes"}


class BlockwiseUNet2DConditionModel(UNet2DConditionModel):  # type: ignore[misc,unused-ignore]
    """A student of a ``UNet2DConditionModel``; the arguments are the teacher's, and the changes."""

    def __init__(self, changes: Mapping[str, Change] | None = None, **teacher: Any) -> None:
        super().__init__(**teacher)  # type: ignore[no-untyped-call]  # diffusers'
        _register(self, changes)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        return {*inspect.signature(UNet2DConditionModel.__init__).parameters, "changes"}
