"""The language-model client against a real server that misbehaves: one test per fault, and what is counted."""

from __future__ import annotations

import email.utils
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from asking import always, model_at, once, question
from chat_server import ChatServer, Fault

from nni_diffnas.language_model import Answer
from nni_diffnas.language_model.live import RetryPolicy

PASSING = {
    "rate limit": (Fault("status", 429, {"Retry-After": "0"}), "rate_limited"),
    "server error": (Fault("status", 500), "server_error"),
    "overloaded": (Fault("status", 503), "server_error"),
    "bad gateway": (Fault("status", 502), "server_error"),
    "connection reset": (Fault("reset"), "connection"),
    "no completion": (Fault("garbage"), "unreadable"),
    "JSON that is no completion": (Fault("garbage", text='{"choices": []}'), "unreadable"),
    "empty": (Fault("empty"), "empty"),
    "blank": (Fault("text", text=" \n "), "empty"),
    "refusal": (Fault("refusal"), "refused"),
    "content filter": (Fault("filtered"), "refused"),
    "tool call": (Fault("tool_call", text='{"command": "rm -rf /"}'), "tool_call"),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_passing_fault_is_retried_and_counted(name: str) -> None:
    fault, outcome = PASSING[name]
    with ChatServer(lambda messages: "blue and green", once(fault)) as server:
        model = model_at(server)
        assert model.ask(question()) == Answer("blue and green")
    assert model.ledger.totals().outcomes == {outcome: 1, "ok": 1}
    assert len(server.requests) == 2
    counted = [row for row in model.ledger.rows if not row.estimated]
    assert sum(row.prompt_tokens for row in counted) == server.prompt_tokens
    assert sum(row.completion_tokens for row in counted) == server.completion_tokens


@pytest.mark.parametrize("kind", ["timeout", "drip"])
def test_a_server_that_does_not_finish_is_given_up(kind: str) -> None:
    with ChatServer(lambda messages: "late", once(Fault(kind, seconds=3))) as server:
        model = model_at(server, timeout_s=0.4)
        assert model.ask(question()).text == "late"
        assert server.outlasted == 0, "it was waited for"
    assert model.ledger.totals().outcomes == {"timeout": 1, "ok": 1}


def test_a_connection_that_was_given_up_serves_no_later_question() -> None:
    with ChatServer(lambda messages: "late", once(Fault("drip", seconds=0.8))) as server:
        model = model_at(server, timeout_s=0.4)
        assert model.ask(question()).text == "late"
        time.sleep(1.0)  # until the answer that nobody waits for has come to its end
        with ThreadPoolExecutor(2) as askers:  # two at once take all connections that are there
            assert [answer.text for answer in askers.map(model.ask, [question()] * 2)] == ["late"] * 2


@pytest.mark.parametrize("name", PASSING)
def test_a_lasting_fault_ends_in_no_answer(name: str) -> None:
    fault, outcome = PASSING[name]
    with ChatServer(lambda messages: "x", always(fault)) as server:
        model = model_at(server, retries=2)
        answer = model.ask(question())
        assert answer.text == ""
        assert answer.fault.startswith(outcome)
        assert len(server.requests) == 3
        model.ask(question())
        assert len(server.requests) == 4, "a server that is down is tried once, not waited for"
    assert model.ledger.totals().outcomes == {outcome: 4}


def test_a_server_that_comes_back_is_trusted_again() -> None:
    with ChatServer(lambda messages: "x", lambda n, body: Fault("status", 500) if n < 3 or n == 4 else None) as server:
        model = model_at(server, retries=2)
        assert [model.ask(question()).text for _ in range(3)] == ["", "x", "x"]
        assert len(server.requests) == 6


def test_retry_after_is_waited_for() -> None:
    with ChatServer(lambda messages: "x", once(Fault("status", 429, {"Retry-After": "0.6"}))) as server:
        assert model_at(server).ask(question()).text == "x"
        assert server.arrived[1] - server.arrived[0] >= 0.6


def test_retry_after_may_be_a_date_and_too_long_a_wait_is_not_waited() -> None:
    tomorrow = email.utils.formatdate(time.time() + 86400, usegmt=True)
    with ChatServer(lambda messages: "x", always(Fault("status", 429, {"Retry-After": tomorrow}))) as server:
        began = time.monotonic()
        assert model_at(server).ask(question()).fault.startswith("rate_limited")
        assert time.monotonic() - began < 3
        assert len(server.requests) == 1


def test_the_backoff_doubles_and_its_jitter_is_seeded() -> None:
    policy = RetryPolicy(retries=4, backoff_s=1.0, max_wait_s=6.0)
    waits = [policy.wait(retry, None, random.Random(3)) for retry in range(5)]
    assert waits == [policy.wait(retry, None, random.Random(3)) for retry in range(5)]
    assert all(w is not None and m / 2 <= w <= m for w, m in zip(waits, (1, 2, 4, 6, 6), strict=True))
    assert policy.wait(0, 3.0, random.Random(0)) == 3.0
    assert policy.wait(0, 7.0, random.Random(0)) is None


def test_a_used_up_quota_is_not_retried() -> None:
    fault = Fault("status", 429, text="You exceeded your current quota.", code="insufficient_quota")
    with ChatServer(lambda messages: "x", always(fault)) as server:
        model = model_at(server)
        assert "no_quota" in model.ask(question()).fault
        assert "no_quota" in model.ask(question()).fault
        assert len(server.requests) == 1


def test_a_key_that_is_revoked_later_stops_the_asking() -> None:
    with ChatServer(lambda messages: "x", lambda n, body: Fault("status", 401) if n else None) as server:
        model = model_at(server)
        assert model.ask(question()).text == "x"
        assert model.ask(question()).fault.startswith("unauthorized")
        assert "OPENAI_API_KEY" in model.ask(question()).fault
        assert len(server.requests) == 2
