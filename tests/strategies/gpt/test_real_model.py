"""`GPTProposer` against llama.cpp's server with SmolLM2-135M: what the protocol must do, never what the model says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpt_search import FAMILY, SPACE, kinds, proposer, run
from llama_server import LlamaServer, needs_wheels

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.language_model.transcript import read_transcript
from nni_diffnas.memory import SearchMemory
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.search_spaces.unet.presets import PRESETS
from nni_diffnas.strategies.gpt.prompt import render_choices, render_costs, render_flow

pytestmark = [pytest.mark.llm, pytest.mark.slow, needs_wheels]

SLOW: dict[str, Any] = {
    "timeout_s": 300.0,
    "patience_s": 600.0,
    "retries": 1,
    "repairs": 1,
    "answer_tokens": 160,
    "memory_tokens": 200,
    "budget": None,
}


def test_it_is_checked_asked_and_counted_and_its_transcript_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LlamaServer() as server, SearchMemory(tmp_path / "memory.sqlite") as memory:
        search = proposer(server.url, tmp_path, memory=memory, **SLOW)
        search.strategy.check()
        assert "answered as smollm2-135m-instruct in" in search.strategy.forecast(3)
        run(search, 3)
        rows = search.strategy.language_model.ledger.rows
        entries = read_transcript(tmp_path / "transcript.jsonl")
        texts = ["".join(m["content"] for m in e["messages"]) for e in entries if e["event"] == "exchange"]
        answered = [row for row in rows if row.round]
        assert len(answered) == len(texts)
        assert {row.outcome for row in rows} <= {"ok", "cut_off"}
        for row, text in zip(answered, texts, strict=True):
            assert not row.estimated
            assert 0 <= row.prompt_tokens - server.tokenize(text) < 60, "what the chat template adds"
            assert row.completion_tokens <= 160
        assert [event.body for event in memory.events("ledger")] == [row.to_json() for row in rows]
    exchanges = [entry for entry in entries if entry["event"] == "exchange"]
    assert all(entry["structured"] for entry in exchanges), "it takes the schema with all its bounds"
    assert all(entry["answer"].lstrip().startswith("{") for entry in exchanges)
    assert "JSON schema" not in capsys.readouterr().out
    again = proposer(replay=tmp_path / "transcript.jsonl", budget=None)
    assert [t.architecture for t in run(again, 3)] == [t.architecture for t in search.trials]


def test_a_context_of_1024_tokens_gets_a_shorter_memory() -> None:
    with LlamaServer(context=1024) as server:
        search = proposer(server.url, **{**SLOW, "memory_tokens": 2000, "repairs": 0})
        rng = np.random.default_rng(1)
        for number in range(25):
            architecture = SPACE.sample(rng)
            made = {"origin": Origin("x", "random"), "cost": FAMILY.cost(architecture), "protocol": search.protocol}
            trial = Trial(f"w-{number:03d}", "w", architecture, **made)
            search.history.add(trial.succeeded({"rfid": float(number)}))
        run(search, 1)
        outcomes = search.strategy.language_model.ledger.totals().outcomes
    assert outcomes["too_long"] == 1
    assert outcomes.get("ok", 0) + outcomes.get("cut_off", 0) == 1


def test_every_space_and_the_costs_of_two_limits_take_2500_of_its_tokens() -> None:
    budget = Budget({"macs": Window(max=1e12), "params": Window(max=1e12)})
    with LlamaServer() as server:
        for preset in PRESETS:
            family = UNetFamily(preset=preset)
            parts = (render_choices(family.space, family), render_flow(family.space), render_costs(family, budget))
            assert server.tokenize("\n".join(parts)) <= 2500, preset


def test_a_server_that_is_killed_and_started_again_is_used_again(capsys: pytest.CaptureFixture[str]) -> None:
    with LlamaServer() as server:
        search = proposer(server.url, **{**SLOW, "backoff_s": 0.1, "repairs": 0})
        run(search, 1)
        threading.Timer(0.5, server.kill).start()
        run(search, 2)
        assert server.process is None or server.process.wait() != 0
        server.kill()
        run(search, 1)
        server.start()
        run(search, 1)
    assert len(search.trials) == 5
    assert kinds(search)["mutation"] >= 1
    said = capsys.readouterr().out
    assert said.count("cannot be reached") == 1
    assert said.count("answers again") == 1
