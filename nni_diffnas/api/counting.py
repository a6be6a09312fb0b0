"""How many architectures a space has."""

from __future__ import annotations

from collections.abc import Mapping

from .values import Condition, Value, position

__all__ = ["count"]

Choices = Mapping[str, tuple[Value, ...]]
Conditions = Mapping[str, tuple[Condition, ...]]


def _groups(choices: Choices, conditions: Conditions) -> list[list[str]]:
    """Labels whose presence hangs together by conditions, in forward order; groups do not depend on each other."""
    group = {label: [label] for label in choices}
    for label, listed in conditions.items():
        for parent, _ in listed:
            if group[parent] is not group[label]:
                group[parent] += group[label]
                group |= dict.fromkeys(group[label], group[parent])
    order = {label: i for i, label in enumerate(choices)}
    return [sorted(labels, key=order.__getitem__) for labels in {id(g): g for g in group.values()}.values()]


def count(choices: Choices, conditions: Conditions) -> int:
    """Number of architectures: the product over the groups of labels, and in a group the sum over its first label."""
    total = 1
    for first, *others in _groups(choices, conditions):
        if others:
            among = {label: conditions[label] for label in others if label in conditions}
            left = [_decided(first, value, {x: choices[x] for x in others}, among) for value in choices[first]]
            total *= sum(count(*rest) for rest in left)
        else:
            total *= len(choices[first])
    return total


def _decided(label: str, value: Value, choices: Choices, conditions: Conditions) -> tuple[Choices, Conditions]:
    """What is left to choose after ``label``, on which nothing else has a say, got its value."""
    left: dict[str, tuple[Value, ...]] = {}
    open_: dict[str, tuple[Condition, ...]] = {}
    for child, values in choices.items():
        listed = conditions.get(child, ())
        met = any(parent == label and position(wanted, value) >= 0 for parent, wanted in listed)
        later = tuple(condition for condition in listed if condition[0] in left)
        if not listed or met or later:
            left[child] = values
        if later and not met:
            open_[child] = later
    return left, open_
