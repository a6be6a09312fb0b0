"""The charts of a report: search curves, cost against score, importances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..searching.formats import format_count
from .statistics import Expectation, Importance
from .svg import Drawing, Scale, ticks

__all__ = ["Band", "Dot", "ReferenceLine", "draw_curves", "draw_front", "draw_importances", "draw_shares", "number"]

_WIDTH, _HEIGHT = 400.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 392.0, 12.0, 196.0


def number(value: float) -> str:
    """Write a number for an axis or a table: four digits, large ones with a unit."""
    return format_count(value).replace(" ", "\u2009") if abs(value) >= 10_000 else f"{value:.4g}"


@dataclass(frozen=True)
class ReferenceLine:
    """A score that a search has to beat, a horizontal line.

    Args:
        name: in the legend.
        value: of the objective.
        style: class of the line besides ``level``.
    """

    name: str
    value: float
    style: str = ""


@dataclass(frozen=True)
class Band:
    """A curve over the number of trials, with a band around it.

    Args:
        name: in the legend.
        mean: from the first trial on; NaN where there is none yet.
        low, high: of the band; empty for none.
        style: class of the line.
    """

    name: str
    mean: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "c0"

    @classmethod
    def of(cls, name: str, expected: Expectation, style: str) -> Band:
        """What random search is expected to find."""
        return cls(name, expected.mean.tolist(), expected.low.tolist(), expected.high.tolist(), style)

    def clipped(self, limit: float, *, lower_is_better: bool) -> Band:
        """The same curve, no worse than a limit."""
        worst = min if lower_is_better else max

        def clip(values: Sequence[float]) -> list[float]:
            return [worst(value, limit) if math.isfinite(value) else value for value in values]

        return replace(self, mean=clip(self.mean), low=clip(self.low), high=clip(self.high))


def _axes(picture: Drawing, x: Scale, y: Scale, x_name: str, y_name: str, whole: bool = False) -> None:
    for value in ticks(y):
        at = y(value)
        picture.line([(_LEFT, at), (_RIGHT, at)], "grid")
        picture.add("text", number(value), x=_LEFT - 5, y=at + 3.5, text_anchor="end", class_="axis")
    for value in ticks(x, 6):
        if whole and value != int(value):
            continue
        at = x(value)
        picture.line([(at, _BOTTOM), (at, _BOTTOM + 4)], "tick")
        picture.add("text", number(value), x=at, y=_BOTTOM + 16, text_anchor="middle", class_="axis")
    picture.line([(_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)], "tick")
    picture.add("text", x_name, x=_RIGHT, y=_BOTTOM + 30, text_anchor="end", class_="axis name")
    picture.add("text", y_name, x=2.0, y=_TOP - 1, class_="axis name")


def _finite(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [pair for pair in pairs if math.isfinite(pair[1])]


def draw_curves(
    bands: Sequence[Band],
    metric: str,
    points: Sequence[tuple[int, float, str]] = (),
    levels: Sequence[ReferenceLine] = (),
) -> str:
    """Best objective so far over the number of trials.

    Args:
        bands: curves; the first is drawn last, on top.
        metric: name of the vertical axis.
        points: single trials ``(position from 1, value, tip)``.
        levels: scores to beat, horizontal lines.
    """
    longest = max([len(band.mean) for band in bands] + [p[0] for p in points] + [2])
    values = [v for band in bands for v in (*band.mean, *band.low, *band.high)]
    scale_values = [*values, *(v for _, v, _ in points), *(level.value for level in levels)]
    x, y = Scale(0.5, longest + 0.5, _LEFT, _RIGHT), Scale.around(scale_values, _BOTTOM, _TOP + 6)
    picture = Drawing(_WIDTH, _HEIGHT, f"Best {metric} so far over the number of trials")
    _axes(picture, x, y, "trials", metric, whole=True)
    for band in reversed(bands):
        if len(band.low):
            upper = _finite([(x(i + 1), y(v)) for i, v in enumerate(band.high) if math.isfinite(v)])
            lower = _finite([(x(i + 1), y(v)) for i, v in enumerate(band.low) if math.isfinite(v)])
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *reversed(lower)])
            picture.add("polygon", None, points=path, class_=f"band {band.style}")
    for level in levels:
        at = y(level.value)
        tip = f"{level.name}: {number(level.value)}"
        picture.line([(_LEFT, at), (_RIGHT, at)], f"level {level.style}".strip(), tip)
    for position, value, tip in points:
        picture.add("circle", None, tip, cx=x(position), cy=y(value), r=2.2, class_="trial")
    for band in reversed(bands):
        steps: list[tuple[float, float]] = []
        for i, value in enumerate(band.mean):
            if math.isfinite(value):
                if steps and not len(band.low):
                    steps.append((x(i + 1), steps[-1][1]))
                steps.append((x(i + 1), y(value)))
        picture.line(steps, f"curve {band.style}", band.name)
    return str(picture)


@dataclass(frozen=True)
class Dot:
    """One trial in a chart of cost against score.

    Args:
        x, y: cost and objective.
        trial: its id.
        tip: what is known of it, one line.
        kind: ``best``, ``default``, ``front`` or empty.
    """

    x: float
    y: float
    trial: str
    tip: str
    kind: str = ""


def draw_front(
    dots: Sequence[Dot],
    front: Sequence[tuple[float, float]],
    cost: str,
    metric: str,
    window: tuple[float | None, float | None] | None,
) -> str:
    """Objective against a cost, with the Pareto front as a step line.

    Args:
        dots: all scored trials.
        front: cost and objective of the trials on the front, by rising cost.
        cost: name of the horizontal axis.
        metric: name of the vertical axis.
        window: of the budget; what lies outside is shaded.
    """
    x = Scale.around([dot.x for dot in dots], _LEFT, _RIGHT)
    ordered = sorted(dot.y for dot in dots)
    y = Scale.around(ordered, _BOTTOM, _TOP + 6)
    picture = Drawing(_WIDTH, _HEIGHT, f"{metric} against {cost}")
    for bound, side in zip(window or (None, None), (_LEFT, _RIGHT), strict=True):
        if bound is not None and x.low < bound < x.high:
            at = x(bound)
            picture.add(
                "rect", None, "outside the budget", x=min(at, side), y=_TOP, width=abs(side - at),
                height=_BOTTOM - _TOP, class_="outside",
            )  # fmt: skip
    _axes(picture, x, y, cost, metric)
    steps: list[tuple[float, float]] = []
    for price, value in front:
        if steps:
            steps.append((x(price), steps[-1][1]))
        steps.append((x(price), y(value)))
    picture.line(steps, "front")
    for dot in sorted(dots, key=lambda dot: ("", "front", "default", "best").index(dot.kind)):
        radius = {"best": 5.5, "default": 4.5, "front": 3.5}.get(dot.kind, 2.8)
        picture.add(
            "circle", None, dot.tip, cx=x(dot.x), cy=y(dot.y), r=radius, class_=f"dot {dot.kind}",
            data_trial=dot.trial, tabindex=0 if dot.kind else -1,
        )  # fmt: skip
    return str(picture)


def draw_importances(listed: Sequence[Importance]) -> str:
    """A bar for each choice, with its interval."""
    row, left = 21.0, 142.0
    picture = Drawing(_WIDTH, row * len(listed) + 26, "Importance of the choices")
    x = Scale(min(0.0, *(i.low for i in listed)), max(*(i.high for i in listed), 0.05), left, _RIGHT)
    for value in ticks(x):
        picture.line([(x(value), 0.0), (x(value), row * len(listed))], "grid")
        text = f"{value * 100:.0f}\u2009%"
        picture.add("text", text, x=x(value), y=row * len(listed) + 14, text_anchor="middle", class_="axis")
    for i, found in enumerate(listed):
        middle = row * i + row / 2
        style = "certain" if found.certain else "unsure"
        tip = f"{found.label}: {found.mean:.1%}, 90 % interval {found.low:.1%} to {found.high:.1%}"
        picture.add("text", found.label, x=left - 7, y=middle + 3.5, text_anchor="end", class_=style)
        start, end = sorted((x(0.0), x(found.mean)))
        picture.add("rect", None, tip, x=start, y=middle - 5, width=end - start, height=10.0, class_=f"bar {style}")
        picture.line([(x(found.low), middle), (x(found.high), middle)], "whisker", tip)
    picture.line([(x(0.0), 0.0), (x(0.0), row * len(listed))], "tick")
    return str(picture)


def draw_shares(rounds: Sequence[tuple[int, int, int, int]], most_bars: int = 24) -> str:
    """Stacked bars over the rounds of a language model: its proposals, those after repairs, and what filled places.

    Args:
        rounds: number, and how many of each.
        most_bars: where there are more rounds, several share a bar.
    """
    size = -(-len(rounds) // most_bars)
    groups = [rounds[i : i + size] for i in range(0, len(rounds), size)]
    sums = [[sum(round[kind] for round in group) for kind in (1, 2, 3)] for group in groups]
    y = Scale(0.0, max(sum(counts) for counts in sums), _BOTTOM, _TOP + 6)
    wide = (_RIGHT - _LEFT) / len(groups)
    picture = Drawing(_WIDTH, _HEIGHT, "Proposals, repairs and fillings by round")
    for value in (value for value in ticks(y) if value == int(value)):
        picture.line([(_LEFT, y(value)), (_RIGHT, y(value))], "grid")
        picture.add("text", number(value), x=_LEFT - 5, y=y(value) + 3.5, text_anchor="end", class_="axis")
    for i, (group, counts) in enumerate(zip(groups, sums, strict=True)):
        name = str(group[0][0]) if size == 1 else f"{group[0][0]}\u2013{group[-1][0]}"
        left, below = _LEFT + wide * i, 0
        for count, kind in zip(counts, ("proposed", "repaired", "filled"), strict=True):
            top = y(below + count)
            tip = f"round {name}: {count} {kind}"
            box = {"x": left + 0.1 * wide, "y": top, "width": 0.8 * wide, "height": y(below) - top}
            picture.add("rect", None, tip, **box, class_=f"share {kind}")
            below += count
        if i % -(-len(groups) // 12) == 0:
            at = left + wide / 2
            picture.add("text", name, x=at, y=_BOTTOM + 16, text_anchor="middle", class_="axis")
    picture.add("text", "rounds", x=_RIGHT, y=_BOTTOM + 30, text_anchor="end", class_="axis name")
    picture.add("text", "places", x=2.0, y=_TOP - 1, class_="axis name")
    return str(picture)
