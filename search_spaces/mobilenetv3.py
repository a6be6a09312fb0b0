"""`MobileNetV3Family`: the space of Once-for-All (arXiv 1908.09791): kernels, expansions, a depth for each stage."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from nni_diffnas.api.cost import Cost, count_cost
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value

if TYPE_CHECKING:
    import torch

__all__ = ["MobileNetV3Family"]

STAGES, LAYERS, DEPTHS = 5, 4, (2, 3, 4)
KINDS = tuple(f"k{kernel}e{expansion}" for kernel in (3, 5, 7) for expansion in (3, 4, 6))
"""Kernel size and expansion of a layer, in one choice."""

_WIDTHS, _STRIDES = (24, 40, 80, 112, 160), (2, 2, 2, 1, 2)
_SQUEEZE, _HARD = (False, True, False, True, True), (False, False, True, True, True)


def _layers(stage: int) -> list[str]:
    return [f"stage{stage}.layer{layer}" for layer in range(LAYERS)]


class MobileNetV3Family(Family):
    """Image classifiers of five stages with two to four inverted residual layers each.

    The depth of a stage is a label of its own, and its third and fourth layer are there when the depth says so.

    Args:
        classes: of the data set.
        size: height and width of the images, in pixels.
    """

    def __init__(self, classes: int = 1000, size: int = 224) -> None:
        self.classes, self.size = classes, size

    @cached_property
    def space(self) -> Space:
        """Depth and four layers for each stage; a stage's last layer feeds the next stage, whichever it is."""
        choices: dict[str, tuple[Value, ...]] = {}
        edges: list[tuple[str, str]] = []
        conditions = {}
        for stage in range(STAGES):
            depth, layers = f"stage{stage}.depth", _layers(stage)
            choices |= {depth: DEPTHS, **dict.fromkeys(layers, KINDS)}
            edges += [(depth, layer) for layer in layers]
            edges += list(itertools.pairwise(layers))
            for at in range(min(DEPTHS), LAYERS):
                conditions[layers[at]] = ((depth, tuple(d for d in DEPTHS if d > at)),)
            if stage + 1 < STAGES:
                edges += [(layers[d - 1], _layers(stage + 1)[0]) for d in DEPTHS]
        return Space(choices, tuple(edges), conditions)

    @property
    def default(self) -> Architecture:
        """The largest network: depth 4, kernel 7, expansion 6."""
        return self.space.validate({label: values[-1] for label, values in self.space.choices.items()})

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the classifier from torch's layers.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        from torch import nn

        chosen = self.space.validate(architecture)
        layers, width = _stem(), 16
        for stage in range(STAGES):
            for layer in _layers(stage):
                if layer in chosen:
                    stride = _STRIDES[stage] if layer.endswith("layer0") else 1
                    layers.append(_inverted(width, str(chosen[layer]), stride, stage))
                    width = _WIDTHS[stage]
        return nn.Sequential(*layers, *_head(width, self.classes))

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """MACs and parameters, counted on the meta device: each kind of layer once, then summed."""
        chosen = self.space.validate(architecture)
        total, width, side = _cost("stem", 3, self.size), 16, -(-self.size // 2)
        for stage in range(STAGES):
            for layer in _layers(stage):
                if layer in chosen:
                    stride = _STRIDES[stage] if layer.endswith("layer0") else 1
                    total = total + _cost("layer", width, side, str(chosen[layer]), stride, stage)
                    width, side = _WIDTHS[stage], -(-side // stride)
        return total + _cost("head", width, side, self.classes)


@cache
def _cost(part: str, channels: int, side: int, *which: Any) -> Cost:
    import torch
    from torch import nn

    with torch.device("meta"):
        if part == "layer":
            module = _inverted(channels, *which)
        else:
            module = nn.Sequential(*(_stem() if part == "stem" else _head(channels, *which)))
        return count_cost(module.eval(), torch.empty(1, channels, side, side))


def _stem() -> list[torch.nn.Module]:
    from torch import nn

    return [
        *(_convolution(3, 16, 3, 2), nn.Hardswish()),
        *(_convolution(16, 16, 3, 1, 16), nn.ReLU(), _convolution(16, 16, 1, 1)),
    ]


def _head(width: int, classes: int) -> list[torch.nn.Module]:
    from torch import nn

    pooled = [_convolution(width, 960, 1, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [*pooled, nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, classes)]


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> torch.nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


def _inverted(inputs: int, kind: str, stride: int, stage: int) -> torch.nn.Module:
    from torch import nn

    kernel, expansion, outputs = int(kind[1]), int(kind[3]), _WIDTHS[stage]

    class Inverted(nn.Module):
        """Expand, convolve in depth, perhaps squeeze and excite, project; a shortcut where shapes agree."""

        def __init__(self) -> None:
            super().__init__()
            width = inputs * expansion
            act: nn.Module = nn.Hardswish() if _HARD[stage] else nn.ReLU()
            self.expand = nn.Sequential(_convolution(inputs, width, 1, 1), act)
            self.spatial = nn.Sequential(_convolution(width, width, kernel, stride, width), act)
            self.gate: nn.Module | None = None
            if _SQUEEZE[stage]:
                squeezed = [nn.Conv2d(width, width // 4, 1), nn.ReLU(), nn.Conv2d(width // 4, width, 1)]
                self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *squeezed, nn.Hardsigmoid())
            self.project = _convolution(width, outputs, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.spatial(self.expand(x))
            if self.gate is not None:
                h = h * self.gate(h)
            projected: torch.Tensor = self.project(h)
            return projected + x if stride == 1 and inputs == outputs else projected

    return Inverted()
