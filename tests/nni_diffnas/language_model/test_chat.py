"""What is asked of a server, and what it may not understand: structured output, fields, long prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import SCHEMA, always, model_at, question
from chat_server import ChatServer, Fault

from nni_diffnas.language_model import Answer, LanguageModelOptions, Message, Question, open_language_model
from nni_diffnas.language_model.chat import read_completion
from nni_diffnas.language_model.overflow import Overflow


def test_structured_output_is_used_where_it_is_known() -> None:
    with ChatServer(lambda messages: "{}") as server:
        model_at(server).ask(question(schema=SCHEMA))
        sent = server.requests[0]["response_format"]
    assert sent["json_schema"]["schema"] == SCHEMA
    assert sent["json_schema"]["strict"] is True


def test_a_server_without_structured_output_is_asked_in_plain_text() -> None:
    with ChatServer(lambda messages: "{}", schemas=False) as server:
        model = model_at(server)
        assert model.ask(question(schema=SCHEMA)).text == "{}"
        assert model.ask(question(schema=SCHEMA)).text == "{}"
        assert ["response_format" in body for body in server.requests] == [True, False, False]
    assert model.ledger.totals().outcomes == {"no_schema": 1, "ok": 2}


def test_a_schema_that_bounds_less_is_tried_before_none_is() -> None:
    exact, loose = {**SCHEMA, "minItems": 1}, SCHEMA

    def refuse(number: int, body: dict[str, Any]) -> Fault | None:
        return Fault("status", 400, text="keyword not permitted") if "minItems" in json.dumps(body) else None

    with ChatServer(lambda messages: "{}", refuse) as server:
        model = model_at(server)
        asked = Question(1, 0, (Message("user", "what now?"),), (exact, loose))
        assert [model.ask(asked).text for _ in range(2)] == ["{}", "{}"]
        sent = [body["response_format"]["json_schema"]["schema"] for body in server.requests]
    assert sent == [exact, loose, loose]


def test_schemas_stay_where_the_plain_question_is_rejected_too() -> None:
    reject = Fault("status", 400, text="I am confused")
    with ChatServer(lambda messages: "{}", lambda n, body: reject if n < 2 else None) as server:
        model = model_at(server)
        assert "confused" in model.ask(question(schema=SCHEMA)).fault
        assert model.ask(question(schema=SCHEMA)).text == "{}"
        assert ["response_format" in body for body in server.requests] == [True, False, True]


def test_a_prompt_that_is_too_long_is_told_with_its_numbers_and_leaves_schemas_on() -> None:
    with ChatServer(lambda messages: "{}", context=4) as server:
        model = model_at(server)

        long = Question(1, 0, (Message("user", "word " * 10),), (SCHEMA,))
        assert model.ask(long).overflow == Overflow(context=4, prompt=12)
        assert model.ask(long).fault.startswith("too_long")
        assert all("response_format" in body for body in server.requests)


def test_an_answer_that_is_cut_off_is_handed_on_and_recorded(tmp_path: Path) -> None:
    with ChatServer(lambda messages: "blue and green", always(Fault("cut_off"))) as server:
        model = model_at(server)
        model.open(tmp_path, {"space": "s"}, lambda row: None)
        assert model.ask(question()) == Answer("blue an", cut_off=True)
        assert len(server.requests) == 1
    replayed = open_language_model(LanguageModelOptions(replay=tmp_path / "transcript.jsonl"))
    assert replayed.ask(question()) == Answer("blue an", cut_off=True)


def test_a_question_that_the_server_rejects_is_not_repeated() -> None:
    with ChatServer(lambda messages: "x", always(Fault("status", 400, text="temperature is out of range"))) as server:
        assert "temperature" in model_at(server).ask(question()).fault
        assert len(server.requests) == 1


def refusing(field: str) -> Callable[[int, dict[str, Any]], Fault | None]:
    """A gateway that does not know one field."""
    fault = Fault("status", 400, text=f"Unsupported parameter: '{field}' is not supported with this model.")
    return lambda number, body: fault if field in body else None


@pytest.mark.parametrize("field", ["max_tokens", "temperature"])
@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_a_field_that_a_gateway_refuses_is_left_out(field: str, schema: dict[str, Any] | None) -> None:
    with ChatServer(lambda messages: "ready", refusing(field)) as server:
        model = model_at(server, temperature=0.5)
        if schema is None:
            model.check()
        assert model.ask(question(schema=schema)).text == "ready"
        before = len(server.requests)
        assert model.ask(question(1, schema)).text == "ready"
    assert len(server.requests) == before + 1, "what was learned is kept"
    assert field not in server.requests[-1]
    assert {"max_tokens", "max_completion_tokens"} & set(server.requests[-1])
    assert ("response_format" in server.requests[-1]) == (schema is not None)


def test_an_answer_in_parts_is_read_without_the_thoughts() -> None:
    """As Mistral's reasoning models send it."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "perhaps [1, 2]"}]}
    parts = [thought, {"type": "text", "text": "[3, "}, {"type": "text", "text": "4]"}, None, {"text": 5}]
    found = read_completion(json.dumps({"choices": [{"message": {"content": parts}}]}).encode())
    assert (found.outcome, found.text) == ("ok", "[3, 4]")


@pytest.mark.parametrize(
    ("error", "outcome", "said"),
    [
        ({"message": "Insufficient credits", "code": 402}, "bad_request", "Insufficient credits"),
        ({"message": "slow down", "code": 429}, "rate_limited", "slow down"),
        (
            {"message": "upstream is gone", "code": "gone"},
            "unreadable",
            "no chat completion, it says: upstream is gone",
        ),
        ("model is loading", "unreadable", "no chat completion, it says: model is loading"),
    ],
)
def test_an_error_that_is_sent_as_a_success_is_told_in_its_words(error: object, outcome: str, said: str) -> None:
    found = read_completion(json.dumps({"error": error, "choices": []}).encode())
    assert found.outcome == outcome
    assert found.detail.endswith(said)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"error": {"message": {"a": 1}, "code": [4]}}',
        b'{"choices": [{"message": {"content": [1, {"type": "text", "text": null}]}}]}',
        b"null",
        b"[]",
        b'{"choices": {}}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_reading_a_completion_never_raises(body: bytes) -> None:
    assert read_completion(body).outcome in ("unreadable", "empty")
