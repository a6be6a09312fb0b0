"""`Space`: what can be chosen, when a choice applies, and how the choices are wired.

Notation
    label          name of one choice, e.g. ``level1.width``
    architecture   assignment of a value to every label that is *present*
    present        a label without conditions, or with one of its conditions met
    stock          the value by which a label changes nothing, as in networks that do not know it
    nodes, ops     rows and columns of the one-hot matrix: labels, and the largest number of values
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .counting import count
from .errors import SpaceError
from .values import Architecture, Condition, Value, digest, position, same_value

if TYPE_CHECKING:
    import networkx as nx
    from numpy.typing import NDArray

__all__ = ["Architecture", "Condition", "Space", "Value", "digest", "same_value"]


@dataclass(frozen=True)
class Space:
    """Ordered, labelled, categorical choices on a directed acyclic graph.

    Args:
        choices: label to its values, in forward order of the network.
        edges: data flow between labels, skips included; none given means a chain in label order.
        conditions: label to its conditions; the label is present when *any* of them is met. Parents come first in
            ``choices``.
        stock: label to the value that it takes in architectures and search spaces which lack it, since they were
            written by a release that did not have it.
        former: label to pairs of a value as earlier releases wrote it, and what it is called today.

    Raises:
        SpaceError: no label, a label without values, with a value twice or with one that is no scalar, an edge or
            condition on an unknown label, a cycle, a condition on a later label.
    """

    choices: Mapping[str, tuple[Value, ...]]
    edges: tuple[tuple[str, str], ...] = ()
    conditions: Mapping[str, tuple[Condition, ...]] = field(default_factory=dict)
    stock: Mapping[str, Value] = field(default_factory=dict)
    former: Mapping[str, tuple[tuple[Value, Value], ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", {label: tuple(values) for label, values in self.choices.items()})
        if not self.choices:
            raise SpaceError("The search space has no label: give at least one choice.")
        for label, values in self.choices.items():
            if not values:
                raise SpaceError(f"Label {_brief(label)} has no values: give at least one.")
            if not all(isinstance(value, str | int | float | bool) and value == value for value in values):
                raise SpaceError(f"Label {_brief(label)} has values that are not scalars: {_brief(values)}.")
            if any(position(values[:i], value) >= 0 for i, value in enumerate(values)):
                raise SpaceError(
                    f"Label {_brief(label)} lists a value twice in {_brief(list(values))}: remove the repetition."
                )
        edges = tuple((a, b) for a, b in self.edges) or tuple(itertools.pairwise(self.choices))
        object.__setattr__(self, "edges", edges)
        conditions = {
            label: tuple((parent, tuple(values)) for parent, values in listed)
            for label, listed in self.conditions.items()
            if listed
        }
        object.__setattr__(self, "conditions", conditions)
        order = {label: i for i, label in enumerate(self.choices)}
        for a, b in edges:
            if a not in order or b not in order:
                raise SpaceError(f"Edge {a!r} -> {b!r} names an unknown label: use {', '.join(order)}.")
            if order[a] >= order[b]:
                raise SpaceError(f"Edge {a!r} -> {b!r} runs backwards: list the labels in forward order.")
        for label, listed in conditions.items():
            for parent, values in listed:
                if label not in order or parent not in order:
                    raise SpaceError(f"Condition of {label!r} on {parent!r} names an unknown label.")
                if order[parent] >= order[label]:
                    raise SpaceError(f"Label {label!r} depends on {parent!r}, which comes later: put it first.")
                for value in values:
                    self.index_of(parent, value)
        for label in (*self.stock, *self.former):
            if label not in order:
                raise SpaceError(f"Stock or former values of {label!r}, which is no label: use {', '.join(order)}.")

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels in forward order."""
        return tuple(self.choices)

    @cached_property
    def key(self) -> str:
        """Hash of the space: the same for equal choices, edges and conditions."""
        return digest([list(map(list, self.choices.items())), self.edges, dict(self.conditions)])

    @cached_property
    def size(self) -> int:
        """Number of distinct architectures."""
        return count(self.choices, self.conditions)

    @cached_property
    def _places(self) -> dict[str, dict[tuple[bool, object], int]]:
        """Label to the index of each value, former names included; truth values apart, since ``True`` is not 1."""
        places: dict[str, dict[tuple[bool, object], int]] = {
            label: {(isinstance(value, bool), value): index for index, value in enumerate(values)}
            for label, values in self.choices.items()
        }
        for label, pairs in self.former.items():
            for former, today in pairs:
                index = position(self.choices[label], today)
                if index >= 0:
                    places[label].setdefault((isinstance(former, bool), former), index)
        return places

    @cached_property
    def _meets(self) -> dict[str, tuple[tuple[str, frozenset[tuple[bool, object]]], ...] | None]:
        """Label to its conditions, ``None`` where it has none."""
        return {
            label: tuple(
                (parent, frozenset((isinstance(value, bool), value) for value in values))
                for parent, values in self.conditions[label]
            )
            if label in self.conditions
            else None
            for label in self.choices
        }

    def index_of(self, label: str, value: object) -> int:
        """Index of ``value`` among the values of ``label``.

        Raises:
            SpaceError: the label or the value is unknown.
        """
        if label not in self.choices:
            raise SpaceError(f"Unknown label {label!r}: the space has {', '.join(self.labels)}.")
        try:
            index = self._places[label].get((isinstance(value, bool), value), -1)
        except TypeError:  # a list, say
            index = -1
        if index < 0:
            raise SpaceError(f"Label {label!r} cannot be {_brief(value)}: choose one of {list(self.choices[label])}.")
        return index

    def _present(self, architecture: Mapping[str, Value]) -> dict[str, bool]:
        """Whether each label is present, parents decided before their children."""
        present: dict[str, bool] = {}
        for label, conditions in self._meets.items():
            present[label] = conditions is None or any(
                present[parent]
                and parent in architecture
                and (isinstance(architecture[parent], bool), architecture[parent]) in values
                for parent, values in conditions
            )
        return present

    def present(self, architecture: Mapping[str, Value]) -> tuple[str, ...]:
        """Labels that apply to ``architecture``, in forward order."""
        return tuple(label for label, there in self._present(architecture).items() if there)

    def validate(self, architecture: Mapping[str, object]) -> Architecture:
        """Return the canonical form of ``architecture``: present labels only, in forward order, the space's values.

        Values given for absent labels are dropped, since they cannot matter. What an earlier release wrote is read:
        labels that it did not have take their stock value, and former values their names of today.

        Raises:
            SpaceError: an unknown label or value, or a present label without a value.
        """
        for label in architecture:
            if label not in self.choices:
                raise SpaceError(f"Unknown label {label!r}: the space has {', '.join(self.labels)}.")
        known: Architecture = {}
        for label, values in self.choices.items():
            if label in architecture:
                known[label] = values[self.index_of(label, architecture[label])]
            elif label in self.stock and position(values, self.stock[label]) >= 0:
                known[label] = self.stock[label]
        present = self.present(known)
        for label in present:
            if label not in known:
                raise SpaceError(f"Label {label!r} has no value: choose one of {list(self.choices[label])}.")
        return {label: known[label] for label in present}

    def complete(self, architecture: Mapping[str, Value]) -> Architecture:
        """Fill absent labels with their first value: NNI samples name every label."""
        return {label: architecture.get(label, values[0]) for label, values in self.choices.items()}

    def key_of(self, architecture: Mapping[str, object]) -> str:
        """Canonical hash of an architecture: equal for assignments that build the same network."""
        return digest(self.validate(architecture))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw each label uniformly and independently; absent labels are dropped."""
        drawn = {label: values[int(rng.integers(len(values)))] for label, values in self.choices.items()}
        return {label: drawn[label] for label in self.present(drawn)}

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``count x labels`` indices of values, as `sample` draws them; those of absent labels are drawn, too."""
        return rng.integers(0, [len(values) for values in self.choices.values()], size=(count, len(self.choices)))

    def at(self, row: Iterable[int]) -> Architecture:
        """The architecture of one row of `draw`, without its absent labels."""
        drawn = {label: values[i] for (label, values), i in zip(self.choices.items(), row, strict=True)}
        return {label: drawn[label] for label in self.present(drawn)}

    def mutate(self, architecture: Mapping[str, Value], rng: np.random.Generator) -> Architecture:
        """Change one present label that has an alternative to another value; labels that appear are drawn at random.

        Raises:
            SpaceError: the space has a single architecture, so that there is nothing to change.
        """
        open_labels = [label for label in self.present(architecture) if len(self.choices[label]) > 1]
        if not open_labels:
            raise SpaceError("Every present label has a single value: nothing can be mutated in this space.")
        label = open_labels[int(rng.integers(len(open_labels)))]
        others = [value for value in self.choices[label] if not same_value(value, architecture[label])]
        drawn = {**self.sample_missing(architecture, rng), label: others[int(rng.integers(len(others)))]}
        return {name: drawn[name] for name in self.present(drawn)}

    def sample_missing(self, architecture: Mapping[str, Value], rng: np.random.Generator) -> Architecture:
        """Give every label a value: the architecture's own, or a random one where it has none."""
        return {
            label: architecture[label] if label in architecture else values[int(rng.integers(len(values)))]
            for label, values in self.choices.items()
        }

    def neighbours(self, architecture: Mapping[str, Value]) -> Iterator[Architecture]:
        """All architectures one changed label away; labels that appear take their first value."""
        complete = self.complete(architecture)
        for label in self.present(architecture):
            for value in self.choices[label]:
                if position((value,), architecture[label]) < 0:
                    changed = {**complete, label: value}
                    yield {name: changed[name] for name in self.present(changed)}

    def graph(self) -> nx.DiGraph[str]:
        """The DAG of labels in forward order; node attribute ``values`` holds the choices."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        for label, values in self.choices.items():
            graph.add_node(label, values=values)
        graph.add_edges_from(self.edges)
        return graph

    @cached_property
    def shape(self) -> tuple[int, int]:
        """``(nodes, ops)`` of the one-hot matrix."""
        return len(self.choices), max(len(values) for values in self.choices.values())

    def encode(self, architectures: Iterable[Mapping[str, Value]]) -> NDArray[np.float32]:
        """One-hot matrices ``n x nodes x ops`` of valid architectures; the row of an absent label is all zero."""
        listed = list(architectures)
        matrix = np.zeros((len(listed), *self.shape), dtype=np.float32)
        for i, architecture in enumerate(listed):
            for row, label in enumerate(self.choices):
                if label in architecture:
                    matrix[i, row, self.index_of(label, architecture[label])] = 1.0
        return matrix

    def decode(self, matrix: NDArray[np.floating[Any]]) -> Architecture:
        """Inverse of `encode` for one exact ``nodes x ops`` one-hot matrix.

        Raises:
            SpaceError: wrong shape, a row that is not one-hot, or rows that do not agree with the conditions.
        """
        if matrix.shape != self.shape:
            raise SpaceError(f"The matrix is {matrix.shape}, the space needs {self.shape}.")
        architecture: Architecture = {}
        for row, (label, values) in zip(matrix, self.choices.items(), strict=True):
            ones = np.flatnonzero(row)
            if len(ones) == 0:
                continue
            if len(ones) > 1 or row[ones[0]] != 1 or ones[0] >= len(values):
                raise SpaceError(f"The row of {label!r} is not one-hot over its {len(values)} values.")
            architecture[label] = values[int(ones[0])]
        if self.validate(architecture) != architecture:
            raise SpaceError("The matrix gives a value to a label that its other rows make absent.")
        return architecture

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, read back by `from_json`; labels are listed, since JSON objects promise no order."""
        return {
            "choices": [[label, list(values)] for label, values in self.choices.items()],
            "edges": [list(edge) for edge in self.edges],
            "conditions": {
                label: [[parent, list(values)] for parent, values in conditions]
                for label, conditions in self.conditions.items()
            },
            **({"stock": dict(self.stock)} if self.stock else {}),
            **(
                {"former": {label: list(map(list, pairs)) for label, pairs in self.former.items()}}
                if self.former
                else {}
            ),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Space:
        """Inverse of `to_json`."""
        return cls(
            choices={label: tuple(values) for label, values in body["choices"]},
            edges=tuple((a, b) for a, b in body["edges"]),
            conditions={
                label: tuple((parent, tuple(values)) for parent, values in conditions)
                for label, conditions in body["conditions"].items()
            },
            stock=body.get("stock", {}),
            former={label: tuple((a, b) for a, b in pairs) for label, pairs in body.get("former", {}).items()},
        )

    def to_nni(self) -> dict[str, Any]:
        """NNI's search-space JSON: ``{label: {"_type": "choice", "_value": [...]}}``."""
        return {label: {"_type": "choice", "_value": list(values)} for label, values in self.choices.items()}

    @classmethod
    def from_nni(cls, search_space: Mapping[str, Any]) -> Space:
        """Read NNI's search-space JSON; NNI knows neither data flow nor conditions.

        Raises:
            SpaceError: an entry is not a choice among scalars.
        """
        choices: dict[str, tuple[Value, ...]] = {}
        for label, entry in search_space.items():
            values = entry.get("_value") if isinstance(entry, Mapping) else None
            if not isinstance(entry, Mapping) or entry.get("_type") != "choice" or not isinstance(values, list):
                raise SpaceError(
                    f"Label {_brief(label)} is {_brief(entry)}: only NNI's 'choice' over scalars can be searched."
                )
            if not all(isinstance(value, str | int | float | bool) for value in values):
                raise SpaceError(f"Label {_brief(label)} has values that are not scalars: {_brief(values)}.")
            choices[label] = tuple(values)
        return cls(choices)

    @classmethod
    def from_mutables(cls, mutables: Mapping[str, Any]) -> Space:
        """Read ``ModelSpace.simplify()`` of any NNI model space.

        Raises:
            SpaceError: a mutable that is not categorical over scalars.
        """
        choices: dict[str, tuple[Value, ...]] = {}
        for label, mutable in mutables.items():
            values = getattr(mutable, "values", None)
            if not isinstance(values, list | tuple) or not all(isinstance(v, str | int | float | bool) for v in values):
                raise SpaceError(
                    f"Label {label!r} is {mutable!r}: only categorical choices of scalars can be searched."
                )
            choices[label] = tuple(values)
        return cls(choices)


def _brief(value: object) -> str:
    """A value of somebody's file in a message, cut where it is long."""
    return repr(value)[:100]
