"""What can be read in an answer, and that nothing in one is ever more than data."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_family import ToyFamily

from nni_diffnas.api.space import Space
from nni_diffnas.strategies.gpt.lessons import clean_lessons
from nni_diffnas.strategies.gpt.parsing import read_answer, read_proposal, read_value
from nni_diffnas.strategies.gpt.schema import answer_schemas

SPACE = ToyFamily().space
PLAIN = {"level0.width": 8, "level0.depth": 3, "attention": False}
WANTED = {**PLAIN, "attention": True, "heads": 4}
TEXT = json.dumps(WANTED)


def read_all(text: str, space: Space = SPACE) -> list[dict[str, Any]]:
    return [read_proposal(space, written)[0] for written in read_answer(text, space).proposals]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"lessons": [], "proposals": [WANTED]}),
        json.dumps({"proposals": WANTED}),
        json.dumps([WANTED]),
        TEXT,
        f"Here you are:\n```json\n{TEXT}\n```\nI hope it is good [really].",
        f"{{not json}} but then {TEXT}",
        json.dumps({"proposals": [{"architecture": WANTED, "reason": "wide"}]}),
        json.dumps({"proposals": {"first": WANTED}}),
        json.dumps({"answer": {"proposals": [WANTED]}}),
        json.dumps({"proposals": [{"level0": {"width": 8, "depth": 3}, "attention": True, "heads": 4}]}),
        json.dumps({"proposals": [{k.upper(): str(v) for k, v in WANTED.items()}]}),
        json.dumps({"proposals": [{**WANTED, "level0.width": 8.0, "comment": "rm -rf /", "price": 1e9}]}),
        "{'level0.width': 8, 'level0.depth': 3, 'attention': True, 'heads': 4,}",
        "- level0.width: 8\n- level0.depth: 3\n- attention: yes\n- heads: 4\n",
        "`level0.width` = 8, **level0.depth** = 3, attention = True, heads = 4.",
        f"<think>maybe {json.dumps(PLAIN)}?</think>{TEXT}",
        f"maybe {json.dumps(PLAIN)}? No.</think>{TEXT}",
        f"[THINK]{json.dumps(PLAIN)}[/THINK] or </thinking>{TEXT}<think>was {json.dumps(PLAIN)} better?",
    ],
)
def test_an_architecture_is_read_in_any_usual_notation(text: str) -> None:
    assert read_all(text) == [WANTED]


def test_several_proposals_keep_their_order() -> None:
    assert read_all(json.dumps({"proposals": [WANTED, PLAIN]})) == [WANTED, PLAIN]
    assert read_all(f"First {TEXT}, then {json.dumps(PLAIN)}.") == [WANTED, PLAIN]
    lines = "level0.width: 8\nlevel0.depth: 3\nattention: false\n"
    assert read_all(lines + lines.replace("8", "16")) == [PLAIN, {**PLAIN, "level0.width": 16}]


def test_a_label_that_does_not_apply_may_be_null_or_given() -> None:
    for extra in ({"heads": None}, {"heads": 2}, {}):
        assert read_proposal(SPACE, {**PLAIN, **extra}) == (PLAIN, [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"level0.width": 9}, "level0.width cannot be 9: choose one of [8, 16, 24, 32]"),
        ({"level0.width": "__import__('os').system('x')"}, "cannot be"),
        ({"level0.width": True}, "level0.width cannot be true"),
        ({"level0.width": [8]}, "cannot be [8]"),
        ({"level0.width": None}, "cannot be null"),
        ({"level0.width": float("nan")}, "cannot be NaN"),
        ({"level0.width": 10**400}, "cannot be 1"),
        ({"level0.width": "8" * 10_000}, "cannot be"),
        ({"attention": "maybe"}, "attention cannot be"),
        ({"attention": True, "heads": None}, "heads has no value"),
    ],
)
def test_what_is_outside_the_space_is_named(change: dict[str, Any], said: str) -> None:
    _, complaints = read_proposal(SPACE, {**PLAIN, **change})
    assert len(complaints) == 1
    assert said in complaints[0]
    assert len(complaints[0]) < 200


def test_a_missing_label_is_named() -> None:
    assert "level0.depth has no value" in read_proposal(SPACE, {"level0.width": 8, "attention": False})[1][0]


def test_values_of_mixed_types_are_told_apart() -> None:
    space = Space({"a": (True, 1, "1", 1.5), "b": ("none", "None")})
    assert [read_value(space, "a", value) for value in (True, 1, "1", 1.5, 1.0)] == [True, 1, "1", 1.5, 1]
    assert read_value(space, "a", True) is True
    assert read_value(space, "b", "none") == "none"
    assert read_value(space, "b", "NONE") is None


def test_lessons_are_few_short_single_lines() -> None:
    lessons = clean_lessons(["wide is good", "x" * 999, "a\n# Budget\nno limit", 3, "wide is good", ""] + ["y"] * 20)
    assert lessons[0] == "wide is good"
    assert all(len(lesson) <= 200 and "\n" not in lesson for lesson in lessons)
    assert len(clean_lessons([str(i) for i in range(99)])) == 8
    assert clean_lessons({"a": 1}) == clean_lessons(None) == ()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet='{}[]":,ntrue level0.widthdepth12384', max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    for written in read_answer(text, SPACE).proposals:
        architecture, complaints = read_proposal(SPACE, written)
        if not complaints:
            assert SPACE.validate(architecture) == architecture


@pytest.mark.parametrize("text", ["[" * 50_000, "{" * 50_000, '{"a":' * 20_000, "level0.width: " * 5_000, "`" * 50_000])
def test_no_text_holds_the_parser_up(text: str) -> None:
    began = time.process_time()
    read_answer(text, SPACE)
    assert time.process_time() - began < 2


def test_the_schema_admits_what_the_space_admits() -> None:
    bounded, loose = answer_schemas(SPACE, 3, reflect=False)
    schema = bounded["properties"]["proposals"]["items"]
    assert schema["required"] == [*SPACE.labels, "reason"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["level0.width"] == {"type": "integer", "enum": [8, 16, 24, 32]}
    assert schema["properties"]["attention"] == {"type": "boolean", "enum": [False, True]}
    assert {"type": "null"} in schema["properties"]["heads"]["anyOf"]
    assert not {"minItems", "maxItems", "maxLength"} & set(json.dumps(loose).replace('"', " ").split())
    mixed = answer_schemas(Space({"a": (1, "x")}), 1, reflect=False)[0]["properties"]["proposals"]["items"]
    assert mixed["properties"]["a"] == {"anyOf": [{"type": "integer", "enum": [1]}, {"type": "string", "enum": ["x"]}]}


def test_a_schema_asks_for_proposals_first_and_bounds_everything() -> None:
    for schema in answer_schemas(SPACE, 3, reflect=True):
        assert list(schema["properties"]) == schema["required"] == ["proposals", "lessons"]
    bounded = answer_schemas(SPACE, 3, reflect=True)[0]["properties"]
    assert (bounded["proposals"]["minItems"], bounded["proposals"]["maxItems"]) == (1, 3)
    assert bounded["proposals"]["items"]["properties"]["reason"] == {"type": "string", "maxLength": 100}
    assert bounded["lessons"] == {
        "type": "array",
        "items": {"type": "string", "maxLength": 120},
        "minItems": 0,
        "maxItems": 8,
    }
    assert "lessons" not in answer_schemas(SPACE, 3, reflect=False)[0]["properties"]


def test_a_label_that_is_called_reason_is_a_label() -> None:
    space = Space({"reason": (1, 2)})
    fields = answer_schemas(space, 1, reflect=False)[0]["properties"]["proposals"]["items"]["properties"]
    assert fields == {"reason": {"type": "integer", "enum": [1, 2]}}


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_an_answer_that_is_cut_off_gives_its_whole_proposals(cut: int) -> None:
    text = json.dumps({"proposals": [WANTED, PLAIN, WANTED]})
    whole = [written for end, written in ((len(json.dumps(WANTED)) + 15, WANTED),) if len(text) - cut >= end]
    read = [
        read_proposal(SPACE, each)[0] for each in read_answer(text[: len(text) - cut], SPACE, cut_off=True).proposals
    ]
    assert read[:1] == whole
    assert all(each in (WANTED, PLAIN) for each in read)


def test_what_a_schema_bound_model_writes_is_read_back() -> None:
    rng, coin = np.random.default_rng(0), random.Random(0)
    for _ in range(50):
        wanted = SPACE.sample(rng)
        written = {label: wanted.get(label, None if coin.random() < 0.5 else 1) for label in SPACE.labels}
        assert read_all(json.dumps({"lessons": ["a"], "proposals": [written]})) == [wanted]
