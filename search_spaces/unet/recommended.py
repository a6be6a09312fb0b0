"""The kind of UNet that did best at equal compute, as large as a budget allows."""

from __future__ import annotations

from typing import Any

from nni_diffnas.api.cost import Budget
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture

from .by_hand import Hand

__all__ = ["KIND", "recommended"]

KIND: dict[str, Any] = {
    "block": "convnext",
    "kernel": 3,
    "expansion": 3,
    "resample": "pool",
    "skips": "level",
    "up_depth": "same",
}
"""Last part of a label to its value in the best combination of `docs/studies/2026-11-choices.md`."""


def recommended(family: Family, budget: Budget) -> dict[str, Architecture]:
    """The default turned into `KIND`: shallow and as wide as the budget allows, deeper where that leaves room.

    Args:
        family: as it is searched; labels are those of `UNetFamily`.
        budget: windows on MACs, parameters, latency.

    Returns:
        ``ConvNeXt``; or nothing: without a budget, out of its reach, or where no level offers such blocks.
    """
    space = family.space
    kind = {
        label: value
        for label, values in space.choices.items()
        if (value := KIND.get(label.rpartition(".")[2])) in values
    }
    if not budget.windows or KIND["block"] not in kind.values():
        return {}
    shallow: Any = {label: min(values) for label, values in space.choices.items() if label.endswith(".depth")}
    hand = Hand(family, budget, {**space.complete(family.default), **kind, **shallow}, wide_above=True)
    found: Architecture | None = None
    for deeper in ({}, *hand.deeper):
        made = hand.widest(deeper)
        if hand.met(made):
            found = made
        if made is None or made != hand.made(deeper, *hand.wider[-1:]):
            break  # the budget binds, not the space
    return {} if found is None else {"ConvNeXt": found}
