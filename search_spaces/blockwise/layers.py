"""What each layer of a teacher may become in a student: labels, options, costs, and the changes that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nni_diffnas.api.blocks import Layer
from nni_diffnas.api.cost import Cost
from nni_diffnas.api.space import Architecture

from .teacher import AttentionLayer, ResidualLayer, TeacherLayer

if TYPE_CHECKING:
    from .student import Change

__all__ = [
    "CONVNEXT",
    "KINDS",
    "RESAMPLE",
    "Offered",
    "SearchedLayer",
    "factors_of",
    "searched",
]

KINDS = ("residual", "convnext")
RESAMPLE = ("convolution", "pool")
CONVNEXT = 4
"""Channels between the 1x1 convolutions of a ConvNeXt block, relative to those of the residual block of its width."""


@dataclass(frozen=True)
class Offered:
    """What a space offers; see `BlockwiseUNetFamily`."""

    kernels: Sequence[int]
    widths: Sequence[float]
    kinds: Sequence[str]
    resample: Sequence[str]
    drop_residual: bool
    drop_attention: bool


@dataclass(frozen=True)
class SearchedLayer:
    """One layer that may become another.

    Args:
        name: of its module within the block.
        layer: labels, options and costs.
        changes: that each option means, see `student`; that of the teacher's own option changes nothing.
    """

    name: str
    layer: Layer
    changes: tuple[Change, ...]


def searched(block: str, layer: TeacherLayer, offered: Offered) -> SearchedLayer | None:
    """What a layer of this block may become; ``None`` where there is no choice."""
    prefix = _prefix(block, layer.name)
    if isinstance(layer, ResidualLayer):
        return _residual(prefix, layer, offered)
    if isinstance(layer, AttentionLayer):
        if not offered.drop_attention:
            return None
        label = f"{prefix}.drop"
        options: tuple[Architecture, ...] = ({label: False}, {label: True})
        return SearchedLayer(layer.name, Layer((label,), options, (layer.cost, Cost(0, 0)), 0), ([], None))
    if len(offered.resample) == 1:
        return None
    label, costs = f"{prefix}.resample", {"convolution": layer.cost, "pool": layer.pooled_cost}
    kinds = offered.resample
    made = Layer(
        (label,),
        tuple({label: kind} for kind in kinds),
        tuple(costs[kind] for kind in kinds),
        kinds.index("convolution"),
    )
    return SearchedLayer(layer.name, made, tuple([kind] for kind in kinds))


def _residual(prefix: str, layer: ResidualLayer, offered: Offered) -> SearchedLayer:
    drop, kind, width = f"{prefix}.drop", f"{prefix}.kind", f"{prefix}.width"
    first, second = f"{prefix}.kernel1", f"{prefix}.kernel2"
    kept: Architecture = {drop: False} if offered.drop_residual else {}
    several = len(offered.kinds) > 1 and layer.time > 0 and layer.scale == 1.0
    options: list[Architecture] = []
    costs: list[Cost] = []
    changes: list[Change] = []
    named: Architecture = {**kept, kind: "residual"} if several else kept
    for factor in factors_of(layer, offered.widths):
        inner = _inner(layer, factor)
        for kernel1 in offered.kernels:
            for kernel2 in offered.kernels:
                options.append({**named, first: kernel1, second: kernel2, width: factor})
                cost = layer.cost(inner, kernel1, kernel2)
                costs.append(Cost(cost.macs, cost.params + layer.norm1_params))
                changes.append([inner, kernel1, kernel2])
    labels, teacher = tuple(options[0]), changes.index([layer.inner, 3, 3])
    if several:
        for factor in factors_of(layer, offered.widths):
            for kernel in offered.kernels:
                options.append({**kept, kind: "convnext", first: kernel, width: factor})
                costs.append(layer.convnext_cost(CONVNEXT * _inner(layer, factor), kernel))
                changes.append(["convnext", CONVNEXT * _inner(layer, factor), kernel])
    if offered.drop_residual:
        options.append({drop: True})
        costs.append(Cost(0, 0))
        changes.append(None)
    return SearchedLayer(layer.name, Layer(labels, tuple(options), tuple(costs), teacher), tuple(changes))


def _inner(layer: ResidualLayer, factor: float) -> int:
    """Inner channels at this factor of the teacher's, a multiple of the normalisation's groups."""
    if factor == 1.0:
        return layer.inner
    return max(layer.groups, round(layer.inner * factor / layer.groups) * layer.groups)


def factors_of(layer: ResidualLayer, widths: Sequence[float]) -> tuple[float, ...]:
    """Factors that give different channels; the teacher's own width keeps its factor 1.0."""
    first = {layer.inner: 1.0}
    for factor in widths:
        first.setdefault(_inner(layer, factor), factor)
    return tuple(factor for factor in widths if factor in first.values())


def _prefix(block: str, layer: str) -> str:
    """How labels of a layer begin."""
    kind, _, index = layer.rpartition(".")
    short = {"attentions": "attn", "resnets": "res"}.get(kind)
    return f"{block}.sampler" if short is None else f"{block}.{short}{index}"
