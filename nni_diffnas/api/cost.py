"""What an architecture costs, known without training it: MACs, parameters, latency; and budgets on them.

One multiply-accumulate counts once (torch's ``flop_counter`` counts two operations for it). MACs are those of one
forward pass on one image: convolutions, linear layers and attention products; normalisation and activations are not
counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import BudgetError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["COSTS", "Budget", "Cost", "Window", "count_cost"]

COSTS: Mapping[str, str] = MappingProxyType({"macs": "MACs", "params": "parameters", "latency_ms": "latency"})
"""Names of the costs, as in `Cost`, budgets and metrics, to what people read."""


@dataclass(frozen=True)
class Cost:
    """Cost of one architecture.

    Args:
        macs: multiply-accumulates of one forward pass on one image.
        params: trainable parameters.
        latency_ms: milliseconds of one forward pass, where it was measured or estimated from measurements.
    """

    macs: int
    params: int
    latency_ms: float | None = None

    def as_metrics(self) -> dict[str, float]:
        """Numbers by name, as a trial reports them."""
        known = {name: getattr(self, name) for name in COSTS}
        return {name: value for name, value in known.items() if value is not None}

    def __add__(self, other: Cost) -> Cost:
        latency = None
        if self.latency_ms is not None and other.latency_ms is not None:
            latency = self.latency_ms + other.latency_ms
        return Cost(self.macs + other.macs, self.params + other.params, latency)


@dataclass(frozen=True)
class Window:
    """Closed interval; ``None`` leaves a side open."""

    min: float | None = None
    max: float | None = None

    def distance(self, value: float) -> float:
        """How far ``value`` lies outside, relative to the violated bound; 0 inside, signed: above is positive.

        NaN, a measurement that failed, is infinitely far above.
        """
        if math.isnan(value):
            return math.inf
        if self.max is not None and value > self.max:
            return (value - self.max) / max(abs(self.max), 1e-12)
        if self.min is not None and value < self.min:
            return (value - self.min) / max(abs(self.min), 1e-12)
        return 0.0

    def contains(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of many values lie inside."""
        inside: NDArray[np.bool_] = ~np.isnan(values)
        if self.max is not None:
            inside &= values <= self.max
        if self.min is not None:
            inside &= values >= self.min
        return inside

    def __str__(self) -> str:
        low = "-inf" if self.min is None else f"{self.min:g}"
        high = "inf" if self.max is None else f"{self.max:g}"
        return f"[{low}, {high}]"


@dataclass(frozen=True)
class Budget:
    """Windows on the names of `Cost`, checked before anything is trained.

    Args:
        windows: names of `COSTS` to their windows.

    Raises:
        BudgetError: an unknown name, a window that is empty or bounds nothing.
    """

    windows: Mapping[str, Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, window in self.windows.items():
            if name not in COSTS:
                raise BudgetError(f"Budget on {name!r}: only {', '.join(COSTS)} can be bounded.")
            bounds = [bound for bound in (window.min, window.max) if bound is not None]
            if not bounds or any(math.isnan(bound) for bound in bounds):
                raise BudgetError(
                    f"Budget on {name} is {window}, which bounds nothing: give min, max or both a number."
                )
            if window.min is not None and window.max is not None and window.min > window.max:
                raise BudgetError(f"Budget on {name} is the empty window {window}: swap min and max.")

    def violations(self, cost: Cost) -> dict[str, float]:
        """Signed relative overshoot of each violated window; empty when the cost is within budget.

        Raises:
            BudgetError: a bounded quantity that the cost does not state.
        """
        metrics = cost.as_metrics()
        found: dict[str, float] = {}
        for name, window in self.windows.items():
            if name not in metrics:
                raise BudgetError(f"The budget bounds {name}, but this search space cannot say it before training.")
            distance = window.distance(metrics[name])
            if distance:
                found[name] = distance
        return found

    def admits(self, cost: Cost) -> bool:
        """Whether the cost lies in every window."""
        return not self.violations(cost)

    def explain(self, cost: Cost) -> str:
        """Say by how much the cost misses, for a person or a language model; empty when it does not."""
        metrics = cost.as_metrics()
        return "; ".join(
            f"{name} {metrics[name]:,.6g} is {abs(distance):.1%} {'above' if distance > 0 else 'below'} "
            f"the window {self.windows[name]}"
            for name, distance in self.violations(cost).items()
        )


def count_cost(module: torch.nn.Module, *inputs: Any, **named_inputs: Any) -> Cost:
    """Count one forward pass of a real module on inputs of batch size one; meta tensors cost no memory or time."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Torch's counter does not know the fused attention of CPUs; the plain one is two products of matrices.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs, **named_inputs)
    params = sum(parameter.numel() for parameter in module.parameters())
    return Cost(macs=counter.get_total_flops() // 2, params=params)
