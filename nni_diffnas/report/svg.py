"""Small SVG drawings: text that stays text, sizes that scale from a phone to paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Self

__all__ = ["Drawing", "LogScale", "Scale"]


@dataclass
class Drawing:
    """Elements of one SVG in user units.

    Args:
        width, height: of the view box; the page scales it.
        title: read aloud by screen readers.
    """

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, text: str | None = None, /, tip: str = "", **attributes: Any) -> None:
        """Append one element.

        Args:
            tag: of the element.
            text: its content.
            tip: shown when it is pointed at.
            **attributes: ``class_`` is ``class``; other underscores become hyphens.
        """
        listed = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"' for name, value in attributes.items()
        )
        content = f"<title>{escape(tip)}</title>" if tip else ""
        content += escape(text, quote=False) if text is not None else ""
        self.parts.append(f"<{tag}{listed}>{content}</{tag}>" if content else f"<{tag}{listed}/>")

    def line(self, points: Sequence[tuple[float, float]], class_: str, tip: str = "") -> None:
        """Append a polyline through the points."""
        self.add("polyline", None, tip, points=" ".join(f"{_short(x)},{_short(y)}" for x, y in points), class_=class_)

    def __str__(self) -> str:
        return (
            f'<svg viewBox="0 0 {_short(self.width)} {_short(self.height)}" role="img" '
            f'aria-label="{escape(self.title)}" xmlns="http://www.w3.org/2000/svg">{"".join(self.parts)}</svg>'
        )


def _short(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Scale:
    """Linear map from data to user units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies, in user units."""
        span = self.high - self.low or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Self:
        """A scale over the finite values with some air on both sides."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        air = (high - low) * margin or abs(high) * 0.05 or 1.0
        return cls(low - air, high + air, start, end)

    def ticks(self, count: int = 4) -> list[float]:
        """Round numbers within the scale, about as many as asked for."""
        from matplotlib.ticker import MaxNLocator

        found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        return [float(value) for value in found if self.low <= value <= self.high]


@dataclass(frozen=True)
class LogScale(Scale):
    """Map of positive data by their logarithms."""

    def __call__(self, value: float) -> float:
        """Where a value lies, in user units."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Self:
        """A scale over the finite values with some air on both sides."""
        logs = Scale.around([math.log(value) for value in values if math.isfinite(value)], start, end, margin)
        return cls(math.exp(logs.low), math.exp(logs.high), start, end)

    def ticks(self, count: int = 4) -> list[float]:
        """Round numbers within the scale; of a narrow one those of a linear scale."""
        from matplotlib.ticker import LogLocator

        found = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(self.low, self.high)
        within = [float(value) for value in found if self.low <= value <= self.high]
        return within if len(within) >= 3 else super().ticks(count)
