"""What a person is told while a model is asked."""

from __future__ import annotations

import time

import pytest
from asking import model_at, question
from chat_server import ChatServer, Fault

from nni_diffnas.language_model.telling import Telling


def test_each_fault_is_told_once_and_so_is_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    faults = [Fault("status", 503), Fault("reset"), Fault("empty"), Fault("status", 503)] * 2
    with ChatServer(lambda messages: "x", lambda n, body: faults[n] if n < 8 else None) as server:
        model = model_at(server, retries=9)
        assert model.ask(question()).text == "x"
    said = capsys.readouterr().out.splitlines()
    assert [line.split(f" at {server.url} ")[1].split(" (")[0].rstrip(".") for line in said] == [
        "answers with errors",
        "cannot be reached",
        "answers again",
        "gives an empty answer",
        "answers with errors",
        "cannot be reached",
        "answers again",
        "answers with errors",
        "answers again",
    ]


def test_a_question_that_takes_long_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    telling = Telling("m", "here")
    with telling.waiting("round 3", 0.01):
        time.sleep(0.2)
    assert capsys.readouterr().out == "nni-diffnas: language model m at here has been working on round 3 for 0.01 s.\n"
