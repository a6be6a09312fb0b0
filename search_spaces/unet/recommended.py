"""The kinds of UNet that did best at equal compute, as large as a budget allows."""

from __future__ import annotations

from typing import Any

from nni_diffnas.api.cost import Budget
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture

from .by_hand import Hand

__all__ = ["KINDS", "recommended"]

_CONVNEXT: dict[str, Any] = {
    "block": "convnext",
    "kernel": 3,
    "resample": "pool",
    "skips": "level",
    "up_depth": "same",
}

KINDS: dict[str, dict[str, Any]] = {
    "ConvNeXt": {**_CONVNEXT, "expansion": 3},
    "wide ConvNeXt": {**_CONVNEXT, "expansion": 2, "middle": "none"},
}
"""Name to what differs from the default, by the last part of a label.

The first is the best combination of `docs/studies/2026-11-choices.md`, its widths in the default's proportions. In the
second all levels are equally wide, since the width at full resolution decides most (`docs/studies/2026-11-pays.md`).
"""

_WIDE = "wide ConvNeXt"


def recommended(family: Family, budget: Budget) -> dict[str, Architecture]:
    """The default turned into each of `KINDS`: shallow and as wide as the budget allows, deeper where that leaves room.

    Args:
        family: as it is searched; labels are those of `UNetFamily`.
        budget: windows on MACs, parameters, latency.

    Returns:
        Networks by name; none without a budget, out of its reach, or where no level offers such blocks.
    """
    if not budget.windows:
        return {}
    found = {name: _largest(family, budget, kind, name == _WIDE) for name, kind in KINDS.items()}
    return {name: network for name, network in found.items() if network is not None}


def _largest(family: Family, budget: Budget, wanted: dict[str, Any], wide: bool) -> Architecture | None:
    """The largest network of a kind."""
    space, default = family.space, family.space.complete(family.default)
    kind = {
        label: value
        for label, values in space.choices.items()
        if (value := wanted.get(label.rpartition(".")[2])) in values
    }
    if wanted["block"] not in kind.values():
        return None
    shallow: Any = {label: min(values) for label, values in space.choices.items() if label.endswith(".depth")}
    widths: Any = {label: value for label, value in default.items() if label.endswith(".width")}
    if wide:
        widest = max(widths.values())
        widths = {label: min(space.choices[label], key=lambda value: abs(value - widest)) for label in widths}
    hand = Hand(family, budget, {**default, **kind, **shallow, **widths}, wide_above=True)
    found: Architecture | None = None
    for deeper in ({}, *hand.deeper):
        made = hand.widest(deeper)
        if hand.met(made):
            found = made
        if made is None or made != hand.made(deeper, *hand.wider[-1:]):
            break  # the budget binds, not the space
    return found
