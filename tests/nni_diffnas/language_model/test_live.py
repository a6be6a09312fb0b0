"""The language-model client against a real server that misbehaves: one test per fault, and what is counted."""

from __future__ import annotations

import email.utils
import http.server
import json
import random
import re
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Fault

from nni_diffnas.api.errors import JobError
from nni_diffnas.language_model import Answer, LanguageModelOptions, Message, Question, open_language_model
from nni_diffnas.language_model.chat import read_completion
from nni_diffnas.language_model.ledger import Ledger, LedgerRow, Limits, Price, price_of
from nni_diffnas.language_model.live import RetryPolicy
from nni_diffnas.language_model.overflow import Overflow
from nni_diffnas.language_model.redaction import Redactor
from nni_diffnas.language_model.telling import Telling
from nni_diffnas.language_model.tokens import estimate_tokens

KEY = "sk-planted-0123456789abcdefghij"
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def once(fault: Fault) -> Callable[[int, dict[str, Any]], Fault | None]:
    """The first request goes wrong, the others do not."""
    return lambda number, body: fault if number == 0 else None


def always(fault: Fault) -> Callable[[int, dict[str, Any]], Fault | None]:
    return lambda number, body: fault


def model_at(server: ChatServer, **options: Any) -> Any:
    return open_language_model(
        LanguageModelOptions(**{"base_url": server.url, "backoff_s": 0.01, "timeout_s": 5.0, **options})
    )


def question(step: int = 0, schema: dict[str, Any] | None = None) -> Question:
    schemas = () if schema is None else (schema,)
    return Question(1, step, (Message("system", "be brief"), Message("user", "what now?")), schemas)


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


def test_a_missing_key_is_one_sentence_that_names_key_and_address() -> None:
    with pytest.raises(JobError, match=r"OPENAI_API_KEY.*base_url"):
        open_language_model(LanguageModelOptions())


def test_a_wrong_key_is_found_by_the_check_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(lambda messages: "x", key="another") as server, pytest.raises(JobError) as caught:
        model_at(server).check()
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "base_url" in str(caught.value)
    assert server.url in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_the_check_accepts_a_right_key_and_costs_one_small_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer(lambda messages: "ready", key=KEY) as server:
        model = model_at(server)
        model.check()
    assert len(server.requests) == 1
    assert model.ledger.totals().tokens < 20


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


UNANSWERED = {
    "bad request": (Fault("status", 400, text="extra fields"), "bad_request, HTTP 400: extra fields"),
    "no completion": (Fault("garbage"), "unreadable.*with /v1 at its end"),
    "nothing": (Fault("empty"), "empty.*answer_tokens"),
    "half": (Fault("cut_off", text="rea"), "cut_off.*raise answer_tokens"),
    "a tool": (Fault("tool_call"), "tool_call"),
}


@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_check_that_is_not_answered_fails(kind: str) -> None:
    fault, said = UNANSWERED[kind]
    with ChatServer(lambda messages: "x", always(fault)) as server, pytest.raises(JobError, match=said):
        model_at(server).check()


@pytest.mark.parametrize("fault", [Fault("status", 429), Fault("status", 503)])
def test_a_busy_server_passes_the_check(fault: Fault) -> None:
    with ChatServer(lambda messages: "x", always(fault)) as server:
        model_at(server).check()


def test_a_check_may_think_as_long_as_an_answer() -> None:
    with ChatServer(lambda messages: "ready") as server:
        model_at(server, answer_tokens=1234).check()
    assert server.requests[0]["max_tokens"] == 1234


def test_the_check_finds_a_server_that_is_not_there() -> None:
    with ChatServer(lambda messages: "x") as server:
        url = server.url
    with pytest.raises(JobError, match="base_url"):
        open_language_model(LanguageModelOptions(base_url=url)).check()


def test_the_check_finds_a_wrong_model_name() -> None:
    fault = Fault("status", 404, text="The model `gpt-5000` does not exist.")
    with ChatServer(lambda messages: "x", always(fault)) as server, pytest.raises(JobError, match="gpt-5000"):
        model_at(server, model="gpt-5000").check()


class _Page(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Welcome(_Page):
    def do_POST(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>welcome</html>")


@pytest.mark.parametrize("handler", [_Page, _Welcome])
def test_the_check_finds_a_web_server_that_is_no_language_model(handler: type[_Page]) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with pytest.raises(JobError, match=r"did not answer.*base_url") as caught:
            open_language_model(LanguageModelOptions(base_url=url)).check()
        server.shutdown()
    assert "OPENAI_API_KEY" not in str(caught.value)


@pytest.mark.parametrize("said", ["File Not Found", "Not Found"])
def test_the_check_finds_a_wrong_path(said: str) -> None:
    match = "path of base_url; the path is often /v1"
    fault = always(Fault("status", 404, text=said))
    with ChatServer(lambda messages: "x", fault) as server, pytest.raises(JobError, match=match):
        model_at(server).check()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://user:secret@host/v1", "password"),
        ("http://host/v1?api-key=secret", "password"),
        ("host:8000", "address"),
        ("ftp://host", "address"),
    ],
)
def test_an_address_must_be_plain(url: str, said: str) -> None:
    with pytest.raises(JobError, match=said) as caught:
        open_language_model(LanguageModelOptions(base_url=url))
    assert "secret" not in str(caught.value)


def test_a_key_that_no_header_can_carry_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-gehe\u00efm-0123456789")
    with pytest.raises(JobError, match="OPENAI_API_KEY") as caught:
        open_language_model(LanguageModelOptions())
    assert "gehe" not in str(caught.value)


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


def test_limits_stop_the_asking_before_they_are_broken() -> None:
    with ChatServer(lambda messages: "word " * 10) as server:
        for limit, most in ({"max_requests": 3}, 3), ({"max_tokens": 200}, 10), ({"max_cost_usd": 0.01}, 10):
            model = model_at(server, model="m", answer_tokens=50, prices={"m": {"input": 10, "output": 100}}, **limit)
            answers = [model.ask(question()) for _ in range(12)]
            totals = model.ledger.totals()
            assert 1 <= totals.requests <= most
            assert next(iter(limit)) in answers[-1].fault
            assert totals.tokens <= limit.get("max_tokens", totals.tokens)
            assert totals.cost_usd <= limit.get("max_cost_usd", totals.cost_usd)


@pytest.mark.parametrize("characters", [1.0, 1.6, 4.0])
def test_a_limit_is_never_exceeded_however_many_tokens_a_text_has(characters: float) -> None:
    long = Question(1, 0, (Message("user", "a table of 123 numbers " * 40),))
    with ChatServer(lambda messages: "x" * int(20 * characters), characters=characters) as server:
        model = model_at(server, answer_tokens=20, max_tokens=5000)
        while not model.ask(long).fault:
            pass
        assert server.prompt_tokens + server.completion_tokens == model.ledger.totals().tokens <= 5000
        assert server.prompt_tokens > 2000, "and most of it is used"


def test_questions_at_once_keep_the_limits_together() -> None:
    with ChatServer(lambda messages: "x") as server:
        model = model_at(server, max_requests=3)
        answers = [each.result() for each in [model.begin(question()) for _ in range(8)]]
        assert len(server.requests) == 3
    assert sum("max_requests" in answer.fault for answer in answers) == 5
    assert [row.outcome for row in model.ledger.rows] == ["ok"] * 3


def test_a_prompt_that_timed_out_is_counted_and_its_answer_reserved() -> None:
    long = Question(1, 0, (Message("user", "word " * 100),))
    with ChatServer(lambda messages: "x", always(Fault("timeout", seconds=3))) as server:
        model = model_at(server, timeout_s=0.3, retries=5, max_tokens=1500, answer_tokens=400)
        assert "max_tokens" in model.ask(long).fault
        assert len(server.requests) == 1
    (row,) = model.ledger.rows
    assert row.estimated
    assert row.prompt_tokens == estimate_tokens("word " * 100)


def test_what_is_under_way_when_the_search_ends_is_given_up_and_entered() -> None:
    with ChatServer(lambda messages: "x", always(Fault("timeout", seconds=5))) as server:
        model = model_at(server, timeout_s=60, retries=3)
        asked = model.begin(question())
        while not server.requests:
            time.sleep(0.01)
        model.abandon()
        assert asked.result().fault.startswith("abandoned")
        assert model.ledger.totals().outcomes == {"abandoned": 1}


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


def test_the_forecast_says_who_answered_and_how_long_questions_take() -> None:
    with ChatServer(lambda messages: "1 2 3 4 5 6 7 8 9", name="tiny") as server:
        model = model_at(server)
        model.check()
        said = model.forecast([1000, 1000], 100)
    assert said.startswith(f"model gpt-4 at {server.url} answered as tiny in ")
    assert re.search(r"at that speed a question takes about \d+ s$", said)


def test_a_cost_limit_needs_a_price() -> None:
    with pytest.raises(JobError, match="prices"):
        open_language_model(LanguageModelOptions(base_url="http://localhost:1/v1", max_cost_usd=1.0))


def test_prices_go_by_model_family_and_can_be_overridden() -> None:
    listed = price_of("gpt-4", None, False)
    assert listed == Price(30.0, 60.0)
    assert price_of("gpt-4-0613", None, False) == listed
    assert price_of("gpt-4o-2024-08-06", None, False) == price_of("gpt-4o", None, False) != listed
    assert price_of("gpt-4o-2024-05-13", None, False) == Price(5.0, 15.0), "the first one cost more"
    assert price_of("gpt-4", None, True) is None
    assert price_of("gpt-4", {"gpt-4": {"input": 1, "output": 2}}, True) == Price(1.0, 2.0)
    assert price_of("mistral", None, False) is None
    with pytest.raises(JobError, match="input and output"):
        price_of("gpt-4", {"gpt-4": {"input": -1, "output": 2}}, False)


@pytest.mark.parametrize(
    ("price", "limits", "said"),
    [
        (Price(10, 20), Limits(), "3 questions to toy will take about 6,000 + 300 tokens and cost about 0.066 USD"),
        (Price(10, 20), Limits(cost_usd=1), "; max_cost_usd ends them at 1 USD"),
        (Price(10, 20), Limits(cost_usd=0.05), "1 questions to toy"),
        (Price(10, 20), Limits(cost_usd=0.05), "so that mutation takes the place of 2 more"),
        (Price(10, 20), Limits(requests=2), "max_requests of 2 is used up, so that mutation takes the place of 1 more"),
        (None, Limits(), "tokens (repairs and retries come on top); its price is not known: set prices: {toy: {input"),
    ],
)
def test_what_questions_will_cost_is_forecast(price: Price | None, limits: Limits, said: str) -> None:
    ledger = Ledger(price, limits)
    assert said in ledger.forecast("toy", [1000, 2000, 3000], 100, 1000)
    assert ledger.rows == []


def test_a_model_without_a_price_is_named() -> None:
    ledger = Ledger()
    ledger.enter(LedgerRow(1, 0, "mistral", "ok"))
    assert ledger.totals().cost_usd is None
    assert "price of mistral unknown (set prices)" in ledger.describe()


def test_a_server_of_ones_own_sends_no_bill() -> None:
    with ChatServer(lambda messages: "x") as server:
        model = model_at(server)
        model.ask(question())
        said = model.ledger.describe() + model.forecast([100], 10)
    assert "unknown" not in said
    assert "not known" not in said
    assert "without a price" in said


def test_tokens_are_estimated_where_the_server_does_not_count() -> None:
    with ChatServer(lambda messages: "a b c", usage=False) as server:
        model = model_at(server)
        model.ask(question())
    (row,) = model.ledger.rows
    assert row.estimated
    assert row.completion_tokens == estimate_tokens("a b c")


def test_a_ledger_survives_its_rows() -> None:
    with ChatServer(lambda messages: "x", once(Fault("status", 500))) as server:
        model = model_at(server)
        model.ask(question())
    copy = Ledger(model.ledger.price, Limits())
    copy.restore(json.loads(json.dumps([row.to_json() for row in model.ledger.rows])))
    assert copy.totals() == model.ledger.totals()
    assert "1 ok, 1 server_error" in copy.describe()


@pytest.mark.parametrize(
    "body",
    [
        b"",
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


@pytest.mark.parametrize("option", [{"timeout_s": 0}, {"retries": -1}, {"answer_tokens": 1}, {"max_tokens": -1}])
def test_options_out_of_range_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=next(iter(option))):
        open_language_model(LanguageModelOptions(base_url="http://localhost:1/v1", **option))
