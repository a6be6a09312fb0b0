"""Renders what the search knows into the parts of the prompt; the memory has a module of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from nni_diffnas.api.cost import Budget, Cost
from nni_diffnas.api.family import Family, choice_costs
from nni_diffnas.api.space import Architecture, Space, Value, same_value
from nni_diffnas.api.trial import Objective

from .lessons import MAX_CHARACTERS, MAX_LESSONS
from .schema import REASON, REASON_CHARACTERS

__all__ = [
    "render_answer_format",
    "render_choices",
    "render_costs",
    "render_example",
    "render_flow",
    "render_reflection",
    "render_task",
    "render_wanted",
    "render_window",
    "write_architecture",
    "write_cost",
]


def write_architecture(architecture: Mapping[str, Value | None]) -> str:
    """An architecture, or a part of one, as one line of JSON."""
    return json.dumps(dict(architecture), separators=(", ", ": "))


def write_cost(cost: Cost | None) -> str:
    """A cost in few tokens."""
    return "cost unknown" if cost is None else ", ".join(f"{n} {_count(v)}" for n, v in cost.as_metrics().items())


def _count(value: float, form: str = ".4g") -> str:
    """Few digits and a unit, which is what a model can add up without losing the window."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:{form}}{unit}"
    return f"{value:{form}}"


def render_task(task: str, objective: Objective) -> str:
    """What is learned, and what a good score is."""
    better = "lower" if objective.direction == "minimize" else "higher"
    first = f"Find the best network for: {task}." if task else "Find the best network."
    return f"{first}\nTrials are ranked by {objective.metric}; {better} is better."


def render_choices(space: Space, family: Family | None) -> str:
    """Labels in forward order, with meaning, values and condition.

    Labels that differ in their numbers only, those of all levels, share a line: where its words differ, each has its
    own, parted by ``/``.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    meanings: dict[str, list[str]] = {}
    conditions: dict[str, list[str]] = {}
    for label in space.choices:
        meanings[label] = (label if family is None else family.describe(label)).split()
        conditions[label] = _condition(space.conditions.get(label, ())).split()
        shape = re.sub(r"\d+", "#", label), len(meanings[label]), len(conditions[label])
        groups.setdefault(shape, []).append(label)
    return "\n".join(_choices_line(space, group, meanings, conditions) for group in groups.values())


def _condition(needed: Sequence[tuple[str, Sequence[Value]]]) -> str:
    """When a label applies; parents that need the same values are named together."""
    parents: dict[str, list[str]] = {}
    for parent, values in needed:
        parents.setdefault(json.dumps(list(values)), []).append(parent)
    return " or ".join(f"{' or '.join(names)} in {values}" for values, names in parents.items())


def _choices_line(
    space: Space, group: Sequence[str], meanings: Mapping[str, list[str]], conditions: Mapping[str, list[str]]
) -> str:
    meaning = _side_by_side([meanings[label] for label in group])
    told = "" if meaning == "/".join(group) else f" ({meaning})"
    values = dict.fromkeys(json.dumps(list(space.choices[label])) for label in group)
    lists = list(values) if len(values) == 1 else [json.dumps(list(space.choices[label])) for label in group]
    when = _side_by_side([conditions[label] for label in group])
    return f"- {', '.join(group)}{told}: one of {' / '.join(lists)}" + (f"; applies only if {when}" if when else "")


def _side_by_side(texts: Sequence[Sequence[str]]) -> str:
    return " ".join("/".join(dict.fromkeys(words)) for words in zip(*texts, strict=True))


def render_flow(space: Space) -> str:
    """What each label's output goes into; skips are edges like all others. Levels that are alike share a line."""
    after: dict[str, list[str]] = {}
    for a, b in space.edges:
        after.setdefault(a, []).append(b)
    groups: dict[str, dict[str, str]] = {}
    for label in (label for label in space.labels if label in after):
        line = f"{label} -> {_enumerated(after[label])}"
        number = re.search(r"\d+", label)
        first = 0 if number is None else int(number[0])

        def counted(found: re.Match[str], first: int = first) -> str:
            return "N" if int(found[0]) == first else f"(N{int(found[0]) - first:+d})"

        shape = line if number is None else re.sub(r"\d+", counted, line)
        groups.setdefault(shape, {})[str(first)] = line
    lines = []
    for shape, found in groups.items():
        one = next(iter(found.values()))
        lines.append(one if len(found) == 1 else f"{shape}, for N = {', '.join(found)}")
    return "\n".join(lines) or "none"


def _enumerated(labels: Sequence[str]) -> str:
    """Names in a row; of three and more that are numbered on, the first and the last one are told."""
    runs: list[list[str]] = []
    for label in labels:
        if runs and label == re.sub(r"\d+", lambda found: str(int(found[0]) + 1), runs[-1][-1], count=1):
            runs[-1].append(label)
        else:
            runs.append([label])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)


def render_costs(family: Family | None, budget: Budget) -> str:
    """Cost of the default network, and what every other choice adds to it when it alone is changed.

    A table, of what the budget limits (of everything, where it limits nothing), and only of changes of 0.2 % or more.
    """
    if family is None:
        return "The cost of a network of this space is not known before it is trained."
    base = family.space.validate(family.default)
    cost = family.cost(base)
    whole = cost.as_metrics()
    names = [name for name in whole if name in budget.windows or not budget.windows]
    lines = [
        f"The base network {write_architecture(base)} costs {write_cost(cost)}. Changing one choice of it adds "
        f"({'/'.join(names)}; 0 or not listed: under 0.2 %; sums are estimates):"
    ]
    for label in family.space.labels:
        reference = _where_present(family.space, label, base)
        if label not in reference:  # the space was narrowed until nothing calls for it
            continue
        costs = choice_costs(family, reference, [label])[label]
        before = costs[reference[label]].as_metrics()
        changes = []
        for value, priced in costs.items():
            metrics = priced.as_metrics()
            added = {name: metrics[name] - before[name] for name in names if name in metrics and name in before}
            counted = [change if abs(change) >= 2e-3 * abs(whole[name]) else 0 for name, change in added.items()]
            if any(counted) and not same_value(value, reference[label]):
                written = "/".join(_count(change, "+.3g") if change else "0" for change in counted)
                changes.append(f"{json.dumps(value)} {written}")
        if changes:
            lines.append(f"- {label}: {'; '.join(changes)}")
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


def render_answer_format(space: Space) -> str:
    """The JSON that is wanted; the same for every question, so that servers can keep it."""
    why = f', and "{REASON}", why you expect it to do well, in under {REASON_CHARACTERS} characters'
    return (
        'Answer with one JSON object and nothing else: {"proposals": [...]}. Each proposal is an object of labels and '
        f"their values (leave out labels that do not apply){'' if REASON in space.choices else why}."
    )


def render_reflection() -> str:
    """Asks for lessons."""
    return (
        f'Behind the proposals give "lessons" too, in the same object: what the memory teaches about good designs, at '
        f"most {MAX_LESSONS} sentences, each under {MAX_CHARACTERS} characters. They replace the lessons so far and "
        f"are shown to you from now on."
    )


def render_wanted(count: int) -> str:
    """How many proposals are wanted."""
    return "1 architecture" if count == 1 else f"{count} different architectures"


def render_example(example: Architecture | None) -> str:
    """The form of a proposal, shown on one that may be trained but was drawn at random."""
    return "" if example is None else f"Its form, on a network drawn at random: {write_architecture(example)}"
