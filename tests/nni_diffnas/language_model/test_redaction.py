"""The key is nowhere but in the header of a request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from asking import KEY, model_at, question
from chat_server import ChatServer, Fault

from nni_diffnas.language_model.redaction import Redactor


def test_the_key_is_in_no_answer_transcript_or_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    faults = [
        Fault("status", 500, text="you sent {key}"),
        Fault("garbage", text="{key}"),
        Fault("refusal", text="never: {key}"),
        Fault("text", text="your key is {key}"),
    ]
    rows: list[Any] = []
    with ChatServer(lambda messages: "x", lambda n, body: faults[n]) as server:
        model = model_at(server)
        model.open(tmp_path, {"space": "s"}, rows.append)
        answer = model.ask(question())
    assert answer.text == "your key is [key removed]"
    written = (tmp_path / "transcript.jsonl").read_text() + json.dumps([row.to_json() for row in rows]) + repr(rows)
    assert KEY not in written
    assert "[key removed]" in written


def test_placeholders_for_keys_are_not_treated_as_secrets() -> None:
    assert Redactor("none").text("one of none, skip") == "one of none, skip"
    assert Redactor("").text("Authorization: Bearer abcdefgh.ijkl") == "Authorization: [key removed]"
