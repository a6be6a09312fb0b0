"""All ConvNeXt blocks that may stand in a residual block's place: kernels apart, widths sliced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..unet.modules import ResponseNorm, per_channel
from .student import convnext

__all__ = ["ElasticConvNeXt", "prefixed"]


class ElasticConvNeXt(nn.Module):
    """Depthwise kernels and response normalisations have weights of their own, a smaller width uses the first channels
    of the widest.

    Args:
        residual: the teacher's block.
        shapes: inner channels and kernels.
    """

    def __init__(self, residual: Any, shapes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        widths, kernels = (sorted({shape[part] for shape in shapes}) for part in range(2))
        self.widest = convnext(residual, widths[-1], kernels[-1])
        self.widest.depthwise = nn.ModuleDict(
            {str(kernel): convnext(residual, widths[0], kernel).depthwise for kernel in kernels}
        )
        self.widest.response = nn.ModuleDict({str(width): ResponseNorm(width) for width in widths})
        self.widest.conv_shortcut = nn.Identity()  # it is the residual block's

    def forward(self, x: Tensor, time: Tensor, around: Tensor, inner: int, kernel: int) -> Tensor:
        """`ConvNeXtBlock` with so many inner channels and this kernel; ``around`` is what the shortcut gives."""
        block: Any = self.widest
        time = functional.silu(time)
        scale, shift = per_channel(block.time_emb_proj(time)).chunk(2, dim=1)
        h = block.norm(block.depthwise[str(kernel)](x)) * (1 + scale) + shift
        h = functional.gelu(functional.conv2d(h, block.expand.weight[:inner], block.expand.bias[:inner]))
        h = block.dropout(block.response[str(inner)](h))
        h = functional.conv2d(h, block.project.weight[:, :inner], block.project.bias)
        made: Tensor = around + per_channel(block.gate(time)) * h
        return made

    def state_of(self, inner: int, kernel: int) -> dict[str, Tensor]:
        """Weights of one shape under the names of `ConvNeXtBlock`."""
        block: Any = self.widest
        kept = {name: part for own in ("norm", "time_emb_proj", "gate") for name, part in _named(block, own).items()}
        kept |= prefixed("depthwise", block.depthwise[str(kernel)]) | prefixed("response", block.response[str(inner)])
        kept |= {"expand.weight": block.expand.weight[:inner], "expand.bias": block.expand.bias[:inner]}
        return kept | {"project.weight": block.project.weight[:, :inner], "project.bias": block.project.bias}


def prefixed(name: str, module: nn.Module) -> dict[str, Tensor]:
    """The state of a module below another name."""
    return {f"{name}.{part}": tensor for part, tensor in module.state_dict().items()}


def _named(block: nn.Module, name: str) -> dict[str, Tensor]:
    return prefixed(name, block.get_submodule(name))
