"""Renders what the search knows into the parts of the prompt; the memory has a module of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nni_diffnas.api.cost import Budget, Cost
from nni_diffnas.api.family import Family, choice_costs
from nni_diffnas.api.space import Architecture, Space, Value, same_value
from nni_diffnas.api.trial import Objective

__all__ = [
    "render_answer_format",
    "render_choices",
    "render_costs",
    "render_flow",
    "render_task",
    "render_window",
    "write_architecture",
    "write_cost",
]


def write_architecture(architecture: Mapping[str, Value]) -> str:
    """An architecture as one line of JSON."""
    return json.dumps(dict(architecture), separators=(", ", ": "))


def write_cost(cost: Cost | None) -> str:
    """A cost in few tokens."""
    return "cost unknown" if cost is None else ", ".join(f"{n} {_count(v)}" for n, v in cost.as_metrics().items())


def _count(value: float, sign: str = "") -> str:
    """Four digits and a unit, which is what a model can add up without losing the window."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:{sign}.4g}{unit}"
    return f"{value:{sign}.4g}"


def render_task(task: str, objective: Objective) -> str:
    """What is learned, and what a good score is."""
    better = "lower" if objective.direction == "minimize" else "higher"
    first = f"Find the best network for: {task}." if task else "Find the best network."
    return f"{first}\nTrials are ranked by {objective.metric}; {better} is better."


def render_choices(space: Space, family: Family | None) -> str:
    """Labels in forward order, with meaning, values and condition."""
    lines = []
    for label, values in space.choices.items():
        meaning = family.describe(label) if family is not None else label
        told = "" if meaning == label else f" ({meaning})"
        when = " or ".join(f"{parent} in {json.dumps(list(v))}" for parent, v in space.conditions.get(label, ()))
        applies = f"; applies only if {when}" if when else ""
        lines.append(f"- {label}{told}: one of {json.dumps(list(values))}{applies}")
    return "\n".join(lines)


def render_flow(space: Space) -> str:
    """What each label's output goes into; skips are edges like all others."""
    after: dict[str, list[str]] = {}
    for a, b in space.edges:
        after.setdefault(a, []).append(b)
    return "\n".join(f"{label} -> {', '.join(after[label])}" for label in space.labels if label in after) or "none"


def render_costs(family: Family | None) -> str:
    """Cost of the default network, and what every other choice adds to it when it alone is changed."""
    if family is None:
        return "The cost of a network of this space is not known before it is trained."
    base = family.space.validate(family.default)
    cost = family.cost(base)
    lines = [
        f"The base network {write_architecture(base)} costs {write_cost(cost)}. Changing one choice of it adds "
        f"(sums over several changes are estimates):"
    ]
    for label in family.space.labels:
        reference = _where_present(family.space, label, base)
        if label not in reference:  # the space was narrowed until nothing calls for it
            continue
        costs = choice_costs(family, reference, [label])[label]
        chosen = reference[label]
        changes = [
            f"{json.dumps(value)}: {_difference(priced, costs[chosen])}"
            for value, priced in costs.items()
            if not same_value(value, chosen)
        ]
        lines.append(f"- {label}: {'; '.join(changes) or 'nothing to change'}")
    return "\n".join(lines)


def _where_present(space: Space, label: str, base: Architecture) -> Architecture:
    """The base, or where ``label`` does not apply to it, the nearest architecture to which it does."""
    wanted = space.complete(base)
    needed: str | None = label
    while needed is not None and needed not in space.present(wanted):
        met = next(((parent, values) for parent, values in space.conditions[needed] if values), None)
        if met is not None:
            wanted[met[0]] = met[1][0]
        needed = None if met is None else met[0]
    return space.validate(wanted)


def _difference(cost: Cost, base: Cost) -> str:
    reference = base.as_metrics()
    return ", ".join(
        f"{name} {_count(value - reference[name], '+')}"
        for name, value in cost.as_metrics().items()
        if name in reference
    )


def render_window(budget: Budget) -> str:
    """The budget in words."""
    if not budget.windows:
        return "There is no budget: every architecture is allowed."
    lines = []
    for name, window in budget.windows.items():
        bounds = []
        if window.min is not None:
            bounds.append(f"at least {_count(window.min)} ({window.min:.10g})")
        if window.max is not None:
            bounds.append(f"at most {_count(window.max)} ({window.max:.10g})")
        lines.append(f"{name} must be {' and '.join(bounds) or 'anything'}.")
    return "\n".join(lines)


def render_answer_format(space: Space, example: Architecture) -> str:
    """The JSON that is wanted, with an example of its form."""
    return (
        'Answer with one JSON object and nothing else: {"lessons": [...], "proposals": [...]}.\n'
        '"lessons": the design lessons that you draw from the memory, revised: at most 8 sentences, each under 200 '
        "characters; they replace the lessons so far and are shown to you next time. Give [] to keep those.\n"
        '"proposals": the architectures, each an object of labels and values; leave out labels that do not apply. '
        f"The form of one: {write_architecture(example)}"
    )
