"""What is trained before a strategy is asked: the default network, or what a person would make of it."""

from __future__ import annotations

from ..api.errors import SpaceError
from ..api.family import Family
from ..api.space import Space
from ..api.trial import BY_HAND, REFERENCE, Suggestion
from .options import SearchOptions

__all__ = ["YARDSTICKS", "first_suggestions"]

_DEFAULT = "default"

YARDSTICKS = (_DEFAULT, REFERENCE, BY_HAND)
"""Kinds of origin of what is trained first: what the rest is compared with."""


def first_suggestions(space: Space, family: Family | None, options: SearchOptions) -> list[Suggestion]:
    """The default network; where the budget excludes it, it is a reference, and its versions by hand follow.

    Args:
        space: what is searched.
        family: prices; without one nothing comes first.
        options: say the budget, and whether anything is to come first.
    """
    if options.train_first == "none" or family is None:
        return []
    default = space.validate(family.default)
    if not options.budget.windows or options.budget.admits(family.cost(default)):
        return [Suggestion(default, _DEFAULT)]
    found = {space.key_of(default): Suggestion(default, REFERENCE, settings={REFERENCE: True})}
    for scaled in family.scaled(options.budget).values():
        try:
            architecture = space.validate(scaled)
        except SpaceError:  # of the part of the family that this search leaves out
            continue
        if options.budget.admits(family.cost(architecture)):
            found.setdefault(space.key_of(architecture), Suggestion(architecture, BY_HAND))
    return list(found.values())
