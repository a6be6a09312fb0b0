"""Keys of language models: asked for in one sentence, and written nowhere."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

import pytest
from chat_server import ChatServer, Fault
from gpt_search import proposer, run
from stand_ins import RandomModel

from nni_diffnas.api.errors import JobError, StrategyError
from nni_diffnas.memory import SearchMemory
from nni_diffnas.strategies import GPTProposer

KEY = "sk-planted-0123456789abcdefghij"


def test_no_key_is_one_sentence_before_anything_starts() -> None:
    with pytest.raises(JobError, match=r"OPENAI_API_KEY.*base_url"):
        GPTProposer(model="gpt-4")


def test_a_model_is_named_by_its_own_option() -> None:
    with pytest.raises(StrategyError, match="language_model is 'llama3': name a model by 'model'"):
        GPTProposer(base_url="http://localhost:1/v1", language_model="llama3")  # type: ignore[arg-type]
    with pytest.raises(StrategyError, match="memory_tokens is nan"):
        GPTProposer(base_url="http://localhost:1/v1", memory_tokens=float("nan"))  # type: ignore[arg-type]


def test_a_planted_key_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echo = "{key} Authorization: Bearer {key}"
    echoes = [Fault("status", 500, text=echo), Fault("text", text=echo), Fault("refusal", text=echo), Fault("garbage")]
    lesson = json.dumps({"lessons": ["use {key}"], "proposals": []})
    every = [*echoes, Fault("text", text=lesson), Fault("status", 401, text="Incorrect API key: {key}")]
    with (
        SearchMemory(tmp_path / "memory.sqlite") as memory,
        ChatServer(RandomModel(0), lambda n, body: every[n % len(every)] if n % 2 else None) as server,
    ):
        search = proposer(server.url, tmp_path, memory=memory)
        run(search, 5)
        written = json.dumps([event.body for event in memory.events()]) + json.dumps(search.snapshot())
        written += search.strategy.prompt(1) + search.strategy.summary() + repr(vars(search.strategy.language_model))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(RandomModel(0), key="another") as server:
        other = proposer(server.url, tmp_path / "b")
        with pytest.raises(JobError) as caught:
            other.strategy.check()
    written += "".join(traceback.format_exception(caught.value))
    for file in tmp_path.rglob("*"):
        written += file.read_bytes().decode("utf-8", "replace") if file.is_file() else ""
    shown = capfd.readouterr()
    assert KEY not in written + caplog.text + shown.out + shown.err
    assert "[key removed]" in written
