"""The student network: a diffusers UNet whose residual blocks have other kernels and inner widths.

This module is shipped as the single code file of an exported student: it imports nothing of ours.

Notation
    changes    module name to ``[inner, kernel1, kernel2]`` of a residual block, or to ``None``: left out
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import nn


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


def apply_changes(network: Any, changes: Mapping[str, Sequence[int] | None]) -> None:
    """Turn the teacher's network into the student's."""
    for name, change in changes.items():
        parent, _, child = name.rpartition(".")
        layer = network.get_submodule(name)
        if change is not None:
            resize(layer, *change)
        elif isinstance(layer, ResnetBlock2D):
            setattr(network.get_submodule(parent), child, Shortcut(layer))
        else:
            setattr(network.get_submodule(parent), child, NoAttention(as_tuple=not isinstance(layer, Attention)))


def _register(network: Any, changes: Mapping[str, Sequence[int] | None] | None) -> None:
    network.register_to_config(changes=dict(changes or {}))
    apply_changes(network, changes or {})


class BlockwiseUNet2DModel(UNet2DModel):  # type: ignore[misc,unused-ignore]
    """A student of a ``UNet2DModel``; the arguments are the teacher's, and the changes."""

    def __init__(self, changes: Mapping[str, Sequence[int] | None] | None = None, **teacher: Any) -> None:
        super().__init__(**teacher)  # type: ignore[no-untyped-call]  # diffusers'
        _register(self, changes)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        return {*inspect.signature(UNet2DModel.__init__).parameters, "changes"}


class BlockwiseUNet2DConditionModel(UNet2DConditionModel):  # type: ignore[misc,unused-ignore]
    """A student of a ``UNet2DConditionModel``; the arguments are the teacher's, and the changes."""

    def __init__(self, changes: Mapping[str, Sequence[int] | None] | None = None, **teacher: Any) -> None:
        super().__init__(**teacher)  # type: ignore[no-untyped-call]  # diffusers'
        _register(self, changes)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        return {*inspect.signature(UNet2DConditionModel.__init__).parameters, "changes"}
