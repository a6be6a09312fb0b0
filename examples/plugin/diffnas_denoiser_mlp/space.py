"""A search space of one's own: multilayer perceptrons that denoise points of the plane."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value

if TYPE_CHECKING:
    import torch

__all__ = ["MLPFamily"]


class MLPFamily(Family):
    """Perceptrons from ``(x, y, log sigma)`` to the noise of a point.

    Args:
        widths: of each hidden layer.
        depths: numbers of hidden layers.
    """

    def __init__(self, widths: tuple[int, ...] = (8, 16, 32, 64), depths: tuple[int, ...] = (1, 2, 3)) -> None:
        deepest = max(depths)
        layers = {f"layer{i}.width": tuple(widths) for i in range(deepest)}
        self._space = Space(
            choices={"depth": tuple(depths), "activation": ("relu", "silu"), **layers},
            edges=(
                ("depth", "layer0.width"),
                ("activation", "layer0.width"),
                *((f"layer{i}.width", f"layer{i + 1}.width") for i in range(deepest - 1)),
            ),
            conditions={f"layer{i}.width": (("depth", tuple(d for d in depths if d > i)),) for i in range(deepest)},
        )

    @property
    def space(self) -> Space:
        """Depth, activation and the width of each layer that the depth leaves."""
        return self._space

    @property
    def default(self) -> Architecture:
        """The first value of everything."""
        return self._space.validate({label: values[0] for label, values in self._space.choices.items()})

    def _sizes(self, architecture: Mapping[str, Value]) -> list[int]:
        chosen = self._space.validate(architecture)
        return [3, *(int(value) for label, value in chosen.items() if label.endswith(".width")), 2]

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the perceptron."""
        from torch import nn

        sizes = self._sizes(architecture)
        modules: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            if i:
                modules.append(nn.SiLU() if architecture["activation"] == "silu" else nn.ReLU())
            modules.append(nn.Linear(a, b))
        return nn.Sequential(*modules)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """One multiply-accumulate per weight; biases are parameters too."""
        sizes = self._sizes(architecture)
        weights = sum(a * b for a, b in itertools.pairwise(sizes))
        return Cost(macs=weights, params=weights + sum(sizes[1:]))
