"""The charts of a report: search curves, cost against score, what choices are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..searching.formats import format_count
from .statistics import Expectation
from .svg import Drawing, Scale
from .worth import Worth

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "RIGHT",
    "TOP",
    "WIDTH",
    "Band",
    "Dot",
    "ReferenceLine",
    "draw_axes",
    "draw_curves",
    "draw_front",
    "draw_shares",
    "draw_worths",
    "number",
]

WIDTH, HEIGHT = 400.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 392.0, 12.0, 196.0


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


def draw_axes(picture: Drawing, x: Scale, y: Scale, x_name: str, y_name: str, whole: bool = False) -> None:
    """Axes of a chart in its frame, with a grid and names.

    Args:
        picture: that they are drawn into.
        x: of the chart.
        y: likewise.
        x_name: of the horizontal axis.
        y_name: of the vertical one.
        whole: whether the horizontal axis counts.
    """
    for value in y.ticks():
        at = y(value)
        picture.line([(LEFT, at), (RIGHT, at)], "grid")
        picture.add("text", number(value), x=LEFT - 5, y=at + 3.5, text_anchor="end", class_="axis")
    for value in x.ticks(6):
        if whole and value != int(value):
            continue
        at = x(value)
        picture.line([(at, BOTTOM), (at, BOTTOM + 4)], "tick")
        picture.add("text", number(value), x=at, y=BOTTOM + 16, text_anchor="middle", class_="axis")
    picture.line([(LEFT, BOTTOM), (RIGHT, BOTTOM)], "tick")
    picture.add("text", x_name, x=RIGHT, y=BOTTOM + 30, text_anchor="end", class_="axis name")
    picture.add("text", y_name, x=2.0, y=TOP - 1, class_="axis name")


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
    x, y = Scale(0.5, longest + 0.5, LEFT, RIGHT), Scale.around(scale_values, BOTTOM, TOP + 6)
    picture = Drawing(WIDTH, HEIGHT, f"Best {metric} so far over the number of trials")
    draw_axes(picture, x, y, "trials", metric, whole=True)
    for band in reversed(bands):
        if len(band.low):
            upper = _finite([(x(i + 1), y(v)) for i, v in enumerate(band.high) if math.isfinite(v)])
            lower = _finite([(x(i + 1), y(v)) for i, v in enumerate(band.low) if math.isfinite(v)])
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in [*upper, *reversed(lower)])
            picture.add("polygon", None, points=path, class_=f"band {band.style}")
    for level in levels:
        at = y(level.value)
        tip = f"{level.name}: {number(level.value)}"
        picture.line([(LEFT, at), (RIGHT, at)], f"level {level.style}".strip(), tip)
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


_RADII = {"": 2.8, "front": 3.5, "hand": 4.0, "recommended": 4.0, "default": 4.5, "best": 5.5}
"""Of the dots in `draw_front`, by kind; those that come later are drawn on top."""


@dataclass(frozen=True)
class Dot:
    """One trial in a chart of cost against score.

    Args:
        x, y: cost and objective.
        trial: its id.
        tip: what is known of it, one line.
        kind: ``best``, ``default``, ``hand``, ``recommended``, ``front`` or empty.
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
    x = Scale.around([dot.x for dot in dots], LEFT, RIGHT)
    ordered = sorted(dot.y for dot in dots)
    y = Scale.around(ordered, BOTTOM, TOP + 6)
    picture = Drawing(WIDTH, HEIGHT, f"{metric} against {cost}")
    for bound, side in zip(window or (None, None), (LEFT, RIGHT), strict=True):
        if bound is not None and x.low < bound < x.high:
            at = x(bound)
            picture.add(
                "rect", None, "outside the budget", x=min(at, side), y=TOP, width=abs(side - at),
                height=BOTTOM - TOP, class_="outside",
            )  # fmt: skip
    draw_axes(picture, x, y, cost, metric)
    steps: list[tuple[float, float]] = []
    for price, value in front:
        if steps:
            steps.append((x(price), steps[-1][1]))
        steps.append((x(price), y(value)))
    picture.line(steps, "front")
    for dot in sorted(dots, key=lambda dot: tuple(_RADII).index(dot.kind)):
        radius = _RADII[dot.kind]
        picture.add(
            "circle", None, dot.tip, cx=x(dot.x), cy=y(dot.y), r=radius, class_=f"dot {dot.kind}",
            data_trial=dot.trial, tabindex=0 if dot.kind else -1,
        )  # fmt: skip
    return str(picture)


def draw_worths(labels: Sequence[Sequence[Worth]], relative: bool) -> str:
    """A dot for each value of each choice, with its interval, left of the line where less is measured.

    Args:
        labels: by label the worths of its values.
        relative: whether effects are shares.
    """
    row, gap, left = 19.0, 9.0, 168.0
    rows = [worth for group in labels for worth in group]
    height = row * len(rows) + gap * (len(labels) - 1)
    picture = Drawing(WIDTH, height + 26, "What the choices are worth")
    x = Scale.around([0.0, *(end for worth in rows for end in (worth.low, worth.high))], left, RIGHT - 26)
    for value in x.ticks(6):
        picture.line([(x(value), 0.0), (x(value), height)], "grid")
        picture.add("text", _effect(value, relative), x=x(value), y=height + 14, text_anchor="middle", class_="axis")
    picture.line([(x(0.0), 0.0), (x(0.0), height)], "tick")
    top = 0.0
    for group in labels:
        picture.add("text", group[0].label, x=2.0, y=top + row / 2 + 3.5)
        for worth in group:
            middle = top + row / 2
            style = "certain" if worth.certain else "unsure"
            ends = " to ".join(_effect(end, relative) for end in (worth.low, worth.high))
            tip = f"{worth.label} {worth.value}: {_effect(worth.effect, relative)}, 95 % interval {ends}, "
            tip += f"{worth.trials} trials"
            picture.add("text", str(worth.value), x=left - 7, y=middle + 3.5, text_anchor="end", class_=style)
            picture.line([(x(worth.low), middle), (x(worth.high), middle)], f"whisker {style}", tip)
            picture.add("circle", None, tip, cx=x(worth.effect), cy=middle, r=3.2, class_=f"worth {style}")
            picture.add("text", str(worth.trials), x=RIGHT, y=middle + 3.5, text_anchor="end", class_="axis")
            top += row
        top += gap
    picture.add("text", "trials", x=RIGHT, y=height + 14, text_anchor="end", class_="axis")
    return str(picture)


def _effect(value: float, relative: bool) -> str:
    text = f"{100 * value:+.3g}\u2009%" if relative else f"{value:+.3g}"
    return ("0" if value == 0 else text).replace("-", "\u2212")


def draw_shares(rounds: Sequence[tuple[int, int, int, int]], most_bars: int = 24) -> str:
    """Stacked bars over the rounds of a language model: its proposals, those after repairs, and what filled places.

    Args:
        rounds: number, and how many of each.
        most_bars: where there are more rounds, several share a bar.
    """
    size = -(-len(rounds) // most_bars)
    groups = [rounds[i : i + size] for i in range(0, len(rounds), size)]
    sums = [[sum(round[kind] for round in group) for kind in (1, 2, 3)] for group in groups]
    y = Scale(0.0, max(sum(counts) for counts in sums), BOTTOM, TOP + 6)
    wide = (RIGHT - LEFT) / len(groups)
    picture = Drawing(WIDTH, HEIGHT, "Proposals, repairs and fillings by round")
    for value in (value for value in y.ticks() if value == int(value)):
        picture.line([(LEFT, y(value)), (RIGHT, y(value))], "grid")
        picture.add("text", number(value), x=LEFT - 5, y=y(value) + 3.5, text_anchor="end", class_="axis")
    for i, (group, counts) in enumerate(zip(groups, sums, strict=True)):
        name = str(group[0][0]) if size == 1 else f"{group[0][0]}\u2013{group[-1][0]}"
        left, below = LEFT + wide * i, 0
        for count, kind in zip(counts, ("proposed", "repaired", "filled"), strict=True):
            top = y(below + count)
            tip = f"round {name}: {count} {kind}"
            box = {"x": left + 0.1 * wide, "y": top, "width": 0.8 * wide, "height": y(below) - top}
            picture.add("rect", None, tip, **box, class_=f"share {kind}")
            below += count
        if i % -(-len(groups) // 12) == 0:
            at = left + wide / 2
            picture.add("text", name, x=at, y=BOTTOM + 16, text_anchor="middle", class_="axis")
    picture.add("text", "rounds", x=RIGHT, y=BOTTOM + 30, text_anchor="end", class_="axis name")
    picture.add("text", "places", x=2.0, y=TOP - 1, class_="axis name")
    return str(picture)
