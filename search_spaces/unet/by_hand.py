"""What a person would do in a minute to meet a budget: the default uniformly narrower, shallower, thinner, or more.

A path is a row of changes of the default that grow apart from it: widths, depths or the inner width, scaled by one
factor for all levels and rounded to what the space offers. Where several widths are rounded otherwise at the same
factor, they follow one after the other; by hand the upper levels shrink first and grow last. Along a path the cost
falls or rises, so that what is nearest below an upper bound is where it crosses the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nni_diffnas.api.cost import Budget
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value

__all__ = ["Hand", "by_hand"]

Changes = dict[str, Value]

_STEPS, _RANGE = 400, 16.0
"""Factors tried along a path, and how far the last one is from 1."""

_MOST = 4


def by_hand(family: Family, budget: Budget) -> dict[str, Architecture]:
    """The default scaled to a budget, by name; all meet it, none is the default, and none is there twice.

    Args:
        family: as it is searched; labels are those of `UNetFamily`.
        budget: windows on MACs, parameters, latency.

    Returns:
        At most four: where the default is above the budget, what is nearest below the upper bounds among the networks
        that are ``narrower``, ``shallower and narrower`` (or ``wider``, where that leaves room), ``shallower and
        thinner inside``, ``thinner inside and narrower`` (or ``wider``), ``shallower`` and ``thinner inside``; else
        those that are ``wider``, ``thicker inside``, ``deeper and wider`` and ``deeper``.
    """
    if not budget.windows:
        return {}
    hand = Hand(family, budget, family.default)
    found = hand.larger() if hand.fits(hand.default) else hand.smaller()
    distinct: dict[str, Architecture] = {}
    for name, architecture in found:
        if architecture not in (*distinct.values(), family.space.validate(family.default)) and len(distinct) < _MOST:
            distinct[name] = architecture
    return distinct


class Hand:
    """What can be done to a network under a budget.

    Args:
        family: as it is searched.
        budget: to be met.
        default: the network; names every label that is present in what may be made of it.
        wide_above: whether upper levels grow first and shrink last; otherwise they shrink first and grow last.
    """

    def __init__(self, family: Family, budget: Budget, default: Architecture, wide_above: bool = False) -> None:
        self.family, self.budget, self.wide_above = family, budget, wide_above
        self.space: Space = family.space
        self.default = self.space.complete(default)
        self.narrower, self.wider = (list(self._scaled("width", up)) for up in (False, True))
        self.shallower, self.deeper = (list(self._scaled("depth", up)) for up in (False, True))
        self.thinner, self.thicker = (list(self._inside(up)) for up in (False, True))

    def _scaled(self, what: str, up: bool) -> Iterator[Changes]:
        """The path along which a choice of all levels grows or shrinks."""
        labels = [label for label in self.space.labels if label.endswith(f".{what}")]
        last: Changes = {label: self.default[label] for label in labels}
        for step in range(1, _STEPS + 1):
            factor = _RANGE ** ((1 if up else -1) * step / _STEPS)
            moved = [label for label in labels if self._nearest(label, factor) != last[label]]
            one_by_one = moved if up == self.wide_above else moved[::-1]
            groups = [[label] for label in one_by_one] if what == "width" else [moved]
            for group in filter(None, groups):
                last = last | {label: self._nearest(label, factor) for label in group}
                yield last

    def _nearest(self, label: str, factor: float) -> Value:
        """The value nearest to the default's times the factor, the larger one of two."""
        wanted = float(self.default[label]) * factor
        values: Any = self.space.choices[label]
        nearest: Value = min(values, key=lambda value: (abs(value - wanted), -value))
        return nearest

    def _inside(self, up: bool) -> Iterator[Changes]:
        """The path along which the inside of the blocks grows or shrinks, where the default has one."""
        if "inner_width" not in self.space.validate(self.default):
            return
        values: Any = self.space.choices["inner_width"]
        own: Any = self.default["inner_width"]
        for value in sorted(values, reverse=not up):
            if (value > own) if up else (value < own):
                yield {"inner_width": value}

    def made(self, *changes: Changes) -> Architecture:
        """The network with these changes."""
        together = dict(self.default)
        for each in changes:
            together |= each
        return self.space.validate(together)

    def fits(self, architecture: Architecture) -> bool:
        """Whether no upper bound is exceeded."""
        over = self.budget.violations(self.family.cost(self.space.validate(architecture)))
        return all(distance < 0 for distance in over.values())

    def met(self, architecture: Architecture | None) -> bool:
        """Whether there is one that meets the budget."""
        return architecture is not None and self.budget.admits(self.family.cost(architecture))

    def first(self, path: list[Changes], *base: Changes) -> Architecture | None:
        """The first network along a shrinking path that no upper bound forbids."""
        return next((made for changes in path if self.fits(made := self.made(*base, changes))), None)

    def last(self, path: list[Changes], *base: Changes) -> Architecture | None:
        """The last network along a growing path that no upper bound forbids; without one, the first within budget."""
        found = None
        for changes in path:
            made = self.made(*base, changes)
            if not self.fits(made) or (self.met(found) and not self._bounded):
                break
            found = made
        return found

    @property
    def _bounded(self) -> bool:
        return any(window.max is not None for window in self.budget.windows.values())

    def widest(self, *base: Changes) -> Architecture | None:
        """The network with these changes, as wide as the budget allows."""
        if self.fits(made := self.made(*base)):
            return self.last(self.wider, *base) or made
        return self.first(self.narrower, *base)

    def smaller(self) -> list[tuple[str, Architecture]]:
        """Where the default is above the budget."""
        found = [("narrower", self.first(self.narrower))]
        for name, path in (("shallower", self.shallower), ("thinner inside", self.thinner)):
            above = [changes for changes in path if not self.fits(self.made(changes))]
            if above:  # not enough alone: the furthest, and then a little narrower
                found.append((f"{name} and narrower", self.first(self.narrower, above[-1])))
            if above and path is self.shallower:
                found.append(("shallower and thinner inside", self.first(self.thinner, above[-1])))
        for name, path in (("shallower", self.shallower), ("thinner inside", self.thinner)):
            below = [changes for changes in path if self.fits(self.made(changes))]
            if below:
                found += [(name, self.made(below[0])), (f"{name} and wider", self.last(self.wider, below[0]))]
        return [(name, made) for name, made in found if made is not None and self.met(made)]

    def larger(self) -> list[tuple[str, Architecture]]:
        """Where the budget leaves room above the default."""
        below = [changes for changes in self.deeper if self.fits(self.made(changes))]
        found = [("wider", self.last(self.wider)), ("thicker inside", self.last(self.thicker))]
        if below:
            found += [("deeper and wider", self.last(self.wider, below[-1]))]
            found += [("deeper", self.last(self.deeper))]
        return [(name, made) for name, made in found if made is not None and self.met(made)]
