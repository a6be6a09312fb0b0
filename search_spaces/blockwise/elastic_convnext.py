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
        widest = convnext(residual, widths[-1], kernels[-1])
        self.norm, self.time_emb_proj, self.gate = widest.norm, widest.time_emb_proj, widest.gate
        self.expand, self.dropout, self.project = widest.expand, widest.dropout, widest.project
        self.depthwise = nn.ModuleDict({str(kernel): convnext(residual, 1, kernel).depthwise for kernel in kernels})
        self.response = nn.ModuleDict({str(width): ResponseNorm(width) for width in widths})

    def forward(self, x: Tensor, time: Tensor, around: Tensor, inner: int, kernel: int) -> Tensor:
        """`ConvNeXtBlock` with so many inner channels and this kernel; ``around`` is what the shortcut gives."""
        time = functional.silu(time)
        scale, shift = per_channel(self.time_emb_proj(time)).chunk(2, dim=1)
        h = self.norm(self.depthwise[str(kernel)](x)) * (1 + scale) + shift
        h = functional.gelu(functional.conv2d(h, *self._expand(inner)))
        h = self.dropout(self.response[str(inner)](h))
        h = functional.conv2d(h, self.project.weight[:, :inner], self.project.bias)
        made: Tensor = around + per_channel(self.gate(time)) * h
        return made

    def _expand(self, inner: int) -> tuple[Tensor, Tensor]:
        assert self.expand.bias is not None
        return self.expand.weight[:inner], self.expand.bias[:inner]

    def state_of(self, inner: int, kernel: int) -> dict[str, Tensor]:
        """Weights of one shape under the names of `ConvNeXtBlock`."""
        kept = {
            **prefixed("norm", self.norm),
            **prefixed("time_emb_proj", self.time_emb_proj),
            **prefixed("gate", self.gate),
            **prefixed("depthwise", self.depthwise[str(kernel)]),
            **prefixed("response", self.response[str(inner)]),
            **prefixed("project", self.project),
        }
        kept["expand.weight"], kept["expand.bias"] = self._expand(inner)
        kept["project.weight"] = self.project.weight[:, :inner]
        return kept


def prefixed(name: str, module: nn.Module) -> dict[str, Tensor]:
    """The state of a module below another name."""
    return {f"{name}.{part}": tensor for part, tensor in module.state_dict().items()}
