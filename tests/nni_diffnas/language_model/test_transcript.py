"""Transcripts: written beside a real server, read again, continued, replayed, refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer

from nni_diffnas.api.errors import JobError
from nni_diffnas.language_model import LanguageModelOptions, Message, Question, open_language_model
from nni_diffnas.language_model.transcript import read_transcript


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def model_at(server: ChatServer) -> Any:
    return open_language_model(LanguageModelOptions(base_url=server.url, backoff_s=0.01, timeout_s=5.0))


def test_a_replay_answers_by_round_and_step_and_nothing_else(tmp_path: Path) -> None:
    with ChatServer(lambda messages: f"answer to {messages[-1]['content']}") as server:
        model = model_at(server)
        model.open(tmp_path, {"space": "s"}, lambda row: None)
        model.ask(Question(1, 0, (Message("user", "a"),)))
        model.ask(Question(1, 1, (Message("user", "b"),)))
        model.ask(Question(2, 0, (Message("user", "c"),)))
    replayed = open_language_model(LanguageModelOptions(replay=tmp_path / "transcript.jsonl"))
    replayed.open(None, {"space": "s"}, lambda row: None)
    assert replayed.ask(Question(2, 0, (Message("user", "other words"),))).text == "answer to c"
    assert replayed.ask(Question(1, 1, ())).text == "answer to b"
    assert "round 3, step 0" in replayed.ask(Question(3, 0, ())).fault
    with pytest.raises(JobError, match="another search space"):
        replayed.open(None, {"space": "t"}, lambda row: None)


def test_a_transcript_is_continued_and_half_a_line_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "transcript.jsonl"
    with ChatServer(lambda messages: "x") as server:
        first = model_at(server)
        first.open(tmp_path, {"space": "s"}, lambda row: None)
        first.ask(Question(4, 0, ()))
        with file.open("a") as half:
            half.write('{"n": 2, "event": "exch')
        second = model_at(server)
        second.open(tmp_path, {"space": "s"}, lambda row: None)
        assert second.last_round == 4
        second.ask(Question(5, 0, ()))
        with pytest.raises(JobError, match="another search space"):
            model_at(server).open(tmp_path, {"space": "t"}, lambda row: None)
    entries = read_transcript(file)
    assert [entry["n"] for entry in entries] == [0, 1, 2]
    assert [entry.get("round") for entry in entries] == [None, 4, 5]


def test_an_answer_may_hold_any_end_of_line(tmp_path: Path) -> None:
    said = "wide\u2028net\u2029of\x85two\x0b\x0c\x1elines\r\n"
    with ChatServer(lambda messages: said) as server:
        for number in range(2):  # the second one goes on with what the first has written
            model = model_at(server)
            model.open(tmp_path, {"space": "s"}, lambda row: None)
            assert model.ask(Question(number, 0, ())).text == said
    entries = read_transcript(tmp_path / "transcript.jsonl")
    assert [entry["answer"] for entry in entries[1:]] == [said, said]


@pytest.mark.parametrize("content", ["", "no json\n", '{"event": "head"}\n', '{"format": "other", "event": "head"}\n'])
def test_what_is_no_transcript_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(JobError, match=r"t\.jsonl"):
        open_language_model(LanguageModelOptions(replay=tmp_path / "t.jsonl"))
