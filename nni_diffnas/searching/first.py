"""What is trained before a strategy is asked: the default, what a person would make of it, what is known to do well."""

from __future__ import annotations

from ..api.errors import SpaceError
from ..api.family import Family
from ..api.space import Space
from ..api.trial import BY_HAND, RECOMMENDED, REFERENCE, Suggestion
from .options import SearchOptions

__all__ = ["FIRST", "YARDSTICKS", "first_suggestions"]

_DEFAULT = "default"

YARDSTICKS = (_DEFAULT, REFERENCE, BY_HAND)
"""Kinds of origin of what the rest is compared with."""

FIRST = (*YARDSTICKS, RECOMMENDED)
"""Kinds of origin of what is trained first."""


def first_suggestions(space: Space, family: Family | None, options: SearchOptions) -> list[Suggestion]:
    """The default network, as a reference where the budget excludes it, and then candidates that meet the budget.

    These are the default's versions by hand, where the budget excludes it, and what the family recommends.

    Args:
        space: what is searched.
        family: prices; without one nothing comes first.
        options: say the budget, and what is to come first.
    """
    if options.train_first == "none" or family is None:
        return []
    default, budget = space.validate(family.default), options.budget
    outside = bool(budget.windows) and not budget.admits(family.cost(default))
    first = Suggestion(default, REFERENCE, settings={REFERENCE: True}) if outside else Suggestion(default, _DEFAULT)
    found = {space.key_of(default): first}
    made = [(BY_HAND, each) for each in family.scaled(budget).values()] if outside else []
    if options.train_first == "all":
        made += [(RECOMMENDED, each) for each in family.recommended(budget).values()]
    for origin, each in made:
        try:
            architecture = space.validate(each)
        except SpaceError:  # of the part of the family that this search leaves out
            continue
        if budget.admits(family.cost(architecture)):
            found.setdefault(space.key_of(architecture), Suggestion(architecture, origin))
    return list(found.values())
