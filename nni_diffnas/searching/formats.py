"""Numbers written for people: counts, costs, durations, sizes."""

from __future__ import annotations

import math

from ..api.cost import Cost

__all__ = ["format_bytes", "format_cost", "format_count", "format_seconds"]


def format_seconds(seconds: float) -> str:
    """Write a duration for a person."""
    if not math.isfinite(seconds):
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_bytes(count: float) -> str:
    """Write a size for a person."""
    if not math.isfinite(count):
        return "an unknown amount"
    if count < 1e6:
        return f"{math.ceil(count / 1e3)} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def format_count(value: float) -> str:
    """Write a count with three digits and a unit: ``1.23 M``."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * size:  # 999,600 is 1 M, and not 1e+03 k
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def format_cost(cost: Cost | None) -> str:
    """Write MACs and parameters for a person."""
    if cost is None:
        return "cost unknown"
    text = f"{format_count(cost.macs)}MACs, {format_count(cost.params)} params"
    return text if cost.latency_ms is None else f"{text}, {cost.latency_ms:.3g} ms"
