"""Space: its architectures, their hashes and matrices, on small random spaces with conditions."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_diffnas.api.errors import DiffNASError, SpaceError
from nni_diffnas.api.space import Architecture, Space, Value

POOL: list[Value] = [True, False, 0, 1, 2.5, "a", "1", "ä"]
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Up to five labels; later ones may depend on values of earlier ones, possibly in chains."""
    labels = [f"label{i}" for i in range(draw(st.integers(1, 5)))]
    values = st.lists(st.sampled_from(POOL), min_size=1, max_size=3, unique_by=lambda v: (isinstance(v, bool), v))
    choices = {label: tuple(draw(values)) for label in labels}
    conditions = {}
    for i, label in enumerate(labels[1:], start=1):
        parents = draw(st.lists(st.sampled_from(labels[:i]), max_size=2, unique=True))
        picks = [(parent, st.lists(st.sampled_from(choices[parent]), min_size=1, max_size=2)) for parent in parents]
        if picks:
            conditions[label] = tuple((parent, tuple(draw(pick))) for parent, pick in picks)
    return Space(choices, conditions=conditions)


def same(a: Value, b: Value) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def there(space: Space, label: str, full: Architecture) -> bool:
    """The definition of "present", written a second time, recursively."""
    if label not in space.conditions:
        return True
    return any(
        there(space, parent, full) and any(same(full[parent], value) for value in values)
        for parent, values in space.conditions[label]
    )


def enumerate_all(space: Space) -> tuple[list[Architecture], list[tuple[Architecture, Architecture]]]:
    """All distinct architectures, and all full assignments with the architecture that each stands for."""
    pairs = []
    for values in itertools.product(*space.choices.values()):
        full = dict(zip(space.choices, values, strict=True))
        pairs.append((full, {label: full[label] for label in space.choices if there(space, label, full)}))
    distinct = {json.dumps(list(architecture.items())): architecture for _, architecture in pairs}
    return list(distinct.values()), pairs


@given(spaces())
def test_size_counts_distinct_architectures(space: Space) -> None:
    assert space.size == len(enumerate_all(space)[0])


def test_the_size_of_a_large_conditional_space_is_known_at_once() -> None:
    """Its number of parents is no exponent: neither of blocks beside each other nor of one behind the other."""
    choices: dict[str, tuple[Value, ...]] = {}
    conditions = {}
    for i in range(50):
        choices |= {f"{i}.drop": (False, True), f"{i}.kernel": (1, 3, 5), f"{i}.width": (8, 16)}
        conditions |= {f"{i}.{name}": ((f"{i}.drop", (False,)),) for name in ("kernel", "width")}
    assert Space(choices, conditions=conditions).size == 7**50
    deeper = {f"{i}.drop": ((f"{i - 1}.drop", (False,)),) for i in range(1, 50)}
    assert Space(choices, conditions={**conditions, **deeper}).size == sum(6**i for i in range(51))


@given(spaces())
def test_equal_networks_have_equal_keys_and_different_ones_different_keys(space: Space) -> None:
    distinct, pairs = enumerate_all(space)
    assert len({space.key_of(architecture) for architecture in distinct}) == len(distinct)
    for full, architecture in pairs:
        assert space.validate(full) == architecture
        assert space.key_of(full) == space.key_of(architecture)
        assert space.key_of(dict(reversed(full.items()))) == space.key_of(architecture)
        assert list(space.validate(dict(reversed(full.items())))) == list(architecture)
        assert space.present(full) == tuple(architecture)


@given(spaces())
def test_decode_inverts_encode(space: Space) -> None:
    distinct, _ = enumerate_all(space)
    matrices = space.encode(distinct)
    assert matrices.shape == (len(distinct), *space.shape)
    assert matrices.dtype == np.float32
    for architecture, matrix in zip(distinct, matrices, strict=True):
        assert json.dumps(space.decode(matrix)) == json.dumps(architecture)
        assert [label for label, row in zip(space.labels, matrix, strict=True) if row.any()] == list(architecture)
        assert set(matrix.sum(axis=1)) <= {0.0, 1.0}


@given(spaces())
def test_no_other_binary_matrix_decodes(space: Space) -> None:
    distinct, _ = enumerate_all(space)
    rng = np.random.default_rng(0)
    for matrix in space.encode(distinct)[:5]:
        flipped = matrix.copy()
        flipped[rng.integers(space.shape[0]), rng.integers(space.shape[1])] += 1.0
        with pytest.raises(SpaceError):
            space.decode(flipped)


@given(spaces(), SEEDS)
def test_sampling_and_mutation_stay_in_the_space(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = space.sample(rng)
    assert space.validate(architecture) == architecture
    if not any(len(space.choices[label]) > 1 for label in architecture):
        with pytest.raises(SpaceError, match="nothing can be mutated"):
            space.mutate(architecture, rng)
        return
    mutated = space.mutate(architecture, rng)
    assert list(space.validate(mutated).items()) == list(mutated.items())
    shared = [label for label in architecture if label in mutated]
    assert sum(not same(architecture[label], mutated[label]) for label in shared) == 1
    assert space.mutate(architecture, np.random.default_rng(seed)) == space.mutate(
        architecture, np.random.default_rng(seed)
    )


@given(spaces(), SEEDS)
def test_neighbours_are_all_single_changes(space: Space, seed: int) -> None:
    architecture = space.sample(np.random.default_rng(seed))
    neighbours = list(space.neighbours(architecture))
    changes = set()
    for neighbour in neighbours:
        assert space.validate(neighbour) == neighbour
        (changed,) = (x for x in architecture if x in neighbour and not same(architecture[x], neighbour[x]))
        changes.add((changed, space.index_of(changed, neighbour[changed])))
        for label in set(neighbour) - set(architecture):
            assert same(neighbour[label], space.choices[label][0])
    assert len(changes) == len(neighbours) == sum(len(space.choices[label]) - 1 for label in architecture)


@given(spaces())
def test_json_round_trip(space: Space) -> None:
    restored = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert restored == space
    assert restored.key == space.key
    assert json.dumps(restored.to_json()) == json.dumps(space.to_json())


@given(spaces(), SEEDS)
def test_the_nni_form_keeps_the_choices(space: Space, seed: int) -> None:
    flat = Space.from_nni(json.loads(json.dumps(space.to_nni())))
    assert json.dumps(flat.to_json()["choices"]) == json.dumps(space.to_json()["choices"])
    architecture = space.sample(np.random.default_rng(seed))
    complete = space.complete(architecture)
    assert flat.validate(complete) == complete
    assert space.validate(complete) == architecture


def test_true_is_not_one() -> None:
    space = Space({"x": (1, True, 0, False)})
    assert [space.index_of("x", value) for value in (1, True, 0, False, 1.0)] == [0, 1, 2, 3, 0]
    assert space.size == 4
    assert len({space.key_of({"x": value}) for value in (1, True, 0, False)}) == 4
    assert space.key_of({"x": 1.0}) == space.key_of({"x": 1})
    assert type(space.validate({"x": 1.0})["x"]) is int
    assert Space({"x": (1,)}).key != Space({"x": (True,)}).key
    conditional = Space({"x": (1, True), "y": (0, 1)}, conditions={"y": (("x", (True,)),)})
    assert conditional.present({"x": 1, "y": 0}) == ("x",)
    assert conditional.present({"x": True, "y": 0}) == ("x", "y")


def test_a_chain_of_absent_parents_makes_the_child_absent() -> None:
    space = Space(
        {"a": (True, False), "b": (True, False), "c": (1, 2, 3)},
        conditions={"b": (("a", (True,)),), "c": (("b", (True,)),)},
    )
    assert space.validate({"a": False, "b": True, "c": 2}) == {"a": False}
    assert space.size == 5


def test_any_met_condition_is_enough() -> None:
    space = Space({"a": (1, 2), "b": (1, 2), "c": (1, 2)}, conditions={"c": (("a", (2,)), ("b", (2,)))})
    assert space.size == 1 + 2 * 3
    assert space.present({"a": 1, "b": 2, "c": 1}) == ("a", "b", "c")


def test_sampling_reaches_every_architecture() -> None:
    space = Space({"a": (1, 2), "b": ("x", "y", "z")}, conditions={"b": (("a", (2,)),)})
    rng = np.random.default_rng(0)
    seen = [space.key_of(space.sample(rng)) for _ in range(2000)]
    assert len(set(seen)) == space.size == 4
    assert abs(seen.count(space.key_of({"a": 1})) / 2000 - 0.5) < 0.04


def test_the_graph_is_a_chain_unless_edges_are_given() -> None:
    choices: dict[str, tuple[Value, ...]] = {"a": (1,), "b": (1, 2), "c": (1,)}
    assert list(Space(choices).graph().edges) == [("a", "b"), ("b", "c")]
    skip = Space(choices, edges=(("a", "b"), ("b", "c"), ("a", "c")))
    assert set(skip.graph().edges) == {("a", "b"), ("b", "c"), ("a", "c")}
    assert skip.graph().nodes["b"]["values"] == (1, 2)
    assert skip.key != Space(choices).key


def test_lists_and_tuples_make_the_same_space() -> None:
    lists: Any = ({"a": [1, 2], "b": [1]}, [["a", "b"]], {"b": [["a", [2]]]})
    tuples = Space({"a": (1, 2), "b": (1,)}, (("a", "b"),), {"b": (("a", (2,)),)})
    assert Space(*lists) == tuples
    assert Space(*lists).key == tuples.key


def test_a_label_with_no_condition_listed_is_always_present() -> None:
    assert Space({"a": (1, 2), "b": (1, 2)}, conditions={"b": ()}) == Space({"a": (1, 2), "b": (1, 2)})


@pytest.mark.parametrize(
    ("choices", "edges", "conditions", "sentence"),
    [
        ({}, (), {}, "no label"),
        ({"a": ()}, (), {}, "'a' has no values"),
        ({"a": (1, 2, 1.0)}, (), {}, "lists a value twice"),
        ({"a": (None, 1)}, (), {}, "not scalars"),
        ({"a": (float("nan"),)}, (), {}, "not scalars"),
        ({"a": ((1, 2),)}, (), {}, "not scalars"),
        ({"a": (1,)}, (("a", "b"),), {}, "'a' -> 'b' names an unknown label"),
        ({"a": (1,), "b": (1,)}, (("b", "a"),), {}, "runs backwards"),
        ({"a": (1,)}, (("a", "a"),), {}, "runs backwards"),
        ({"a": (1,)}, (), {"b": (("a", (1,)),)}, "'b' on 'a' names an unknown label"),
        ({"a": (1,)}, (), {"a": (("b", (1,)),)}, "'a' on 'b' names an unknown label"),
        ({"a": (1,), "b": (1,)}, (), {"a": (("b", (1,)),)}, "comes later: put it first"),
        ({"a": (1,)}, (), {"a": (("a", (1,)),)}, "comes later: put it first"),
        ({"a": (1,), "b": (1,)}, (), {"b": (("a", (True,)),)}, "'a' cannot be True"),
    ],
)
def test_malformed_spaces_are_refused(choices: Any, edges: Any, conditions: Any, sentence: str) -> None:
    with pytest.raises(SpaceError, match=sentence) as raised:
        Space(choices, edges, conditions)
    assert isinstance(raised.value, DiffNASError)
    assert isinstance(raised.value, ValueError)
    assert str(raised.value).endswith(".")


SPACE = Space({"a": (1, 2), "b": ("x", "y", "z")}, conditions={"b": (("a", (2,)),)})


@pytest.mark.parametrize(
    ("architecture", "sentence"),
    [
        ({"a": 1, "c": 1}, "Unknown label 'c': the space has a, b"),
        ({"a": 3}, r"'a' cannot be 3: choose one of \[1, 2\]"),
        ({"a": True}, "'a' cannot be True"),
        ({"a": 2}, "'b' has no value"),
        ({"b": "x"}, "'a' has no value"),
        ({"a": 1, "b": "w"}, "'b' cannot be 'w'"),
    ],
)
def test_malformed_architectures_are_refused(architecture: Any, sentence: str) -> None:
    with pytest.raises(SpaceError, match=sentence):
        SPACE.validate(architecture)


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (np.zeros((3, 2)), r"\(3, 2\), the space needs \(2, 3\)"),
        (np.array([[1, 1, 0], [0, 0, 0]]), "'a' is not one-hot"),
        (np.array([[0.5, 0, 0], [0, 0, 0]]), "'a' is not one-hot"),
        (np.array([[np.nan, 0, 0], [0, 0, 0]]), "'a' is not one-hot"),
        (np.array([[0, 0, 1], [0, 0, 0]]), "'a' is not one-hot over its 2 values"),
        (np.array([[1, 0, 0], [1, 0, 0]]), "makes? absent"),
        (np.array([[0, 1, 0], [0, 0, 0]]), "'b' has no value"),
    ],
)
def test_malformed_matrices_are_refused(matrix: Any, sentence: str) -> None:
    with pytest.raises(SpaceError, match=sentence):
        SPACE.decode(matrix.astype(np.float64))


def test_unknown_labels_have_no_index() -> None:
    with pytest.raises(SpaceError, match="Unknown label 'c'"):
        SPACE.index_of("c", 1)


@pytest.mark.parametrize(
    "entry",
    [{"_type": "uniform", "_value": [0, 1]}, {"_type": "choice", "_value": 3}, {"_type": "choice"}, [1, 2], 7],
)
def test_only_nni_choices_are_read(entry: Any) -> None:
    with pytest.raises(SpaceError, match="only NNI's 'choice' over scalars"):
        Space.from_nni({"a": entry})


def test_nested_nni_choices_are_refused() -> None:
    with pytest.raises(SpaceError, match="not scalars"):
        Space.from_nni({"a": {"_type": "choice", "_value": [{"_name": "x"}]}})


def test_mutables_are_read_by_their_values() -> None:
    read = Space.from_mutables({"a": SimpleNamespace(values=[1, 2]), "b": SimpleNamespace(values=("x",))})
    assert read == Space({"a": (1, 2), "b": ("x",)})
    with pytest.raises(SpaceError, match="only categorical choices"):
        Space.from_mutables({"a": SimpleNamespace(low=0.0, high=1.0)})
    with pytest.raises(SpaceError, match="only categorical choices"):
        Space.from_mutables({"a": SimpleNamespace(values=[(1, 2)])})


TODAY = Space(
    {"block": ("plain", "gated"), "kernel": (3, 5), "attention": ("none", "softmax"), "skips": ("all", "level")},
    conditions={"kernel": (("block", ("gated",)),)},
    stock={"block": "plain", "kernel": 3, "skips": "all"},
    former={"attention": ((False, "none"), (True, "softmax"))},
)


def test_what_an_earlier_release_wrote_takes_stock_values_and_names_of_today() -> None:
    assert TODAY.validate({"attention": True}) == {"block": "plain", "attention": "softmax", "skips": "all"}
    assert TODAY.key_of({"attention": False}) == TODAY.key_of({"block": "plain", "attention": "none", "skips": "all"})
    assert TODAY.index_of("attention", True) == 1
    with pytest.raises(SpaceError, match="cannot be 1"):
        TODAY.index_of("attention", 1)
    assert TODAY.validate({"block": "gated", "attention": "none"})["kernel"] == 3
    assert Space.from_json(json.loads(json.dumps(TODAY.to_json()))) == TODAY


def test_a_stock_value_that_is_not_offered_is_not_taken() -> None:
    narrowed = Space({"block": ("gated",), "attention": ("none",)}, stock={"block": "plain"})
    with pytest.raises(SpaceError, match="'block' has no value"):
        narrowed.validate({"attention": "none"})
    with pytest.raises(SpaceError, match="'depth', which is no label"):
        Space({"block": ("gated",)}, stock={"depth": 1})


def test_rows_are_drawn_as_architectures_are() -> None:
    rows = TODAY.draw(400, np.random.default_rng(0))
    assert rows.shape == (400, 4)
    found = {json.dumps(TODAY.at(row)) for row in rows}
    assert len(found) == TODAY.size
    assert all(TODAY.validate(TODAY.at(row)) == TODAY.at(row) for row in rows[:20])


@pytest.mark.parametrize(
    "listed",
    [
        {"a": {"_type": "choice", "_value": ["9" * 5000, None]}},
        {"a": {"_type": "choice", "_value": ["9" * 5000] * 2}},
        {"a": {"_type": "range", "_value": "9" * 5000}},
        {"a" * 5000: {"_type": "choice", "_value": [None]}},
        {"a" * 5000: {"_type": "choice", "_value": []}},
    ],
)
def test_what_is_refused_is_named_in_brief(listed: dict[str, object]) -> None:
    with pytest.raises(SpaceError) as refused:
        Space.from_nni(listed)
    assert len(str(refused.value)) < 400
    with pytest.raises(SpaceError, match="cannot be '9999") as refused:
        Space({"a": (1, 2)}).index_of("a", "9" * 5000)
    assert len(str(refused.value)) < 400
