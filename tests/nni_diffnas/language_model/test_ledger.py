"""What is spent, what may be, and what will be."""

from __future__ import annotations

import json
import re
import time

import pytest
from asking import always, model_at, once, question
from chat_server import ChatServer, Fault

from nni_diffnas.api.errors import JobError
from nni_diffnas.language_model import LanguageModelOptions, Message, Question, open_language_model
from nni_diffnas.language_model.ledger import Ledger, LedgerRow, Limits, Price, price_of
from nni_diffnas.language_model.tokens import estimate_tokens


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


def test_the_forecast_says_who_answered_and_how_long_questions_take() -> None:
    with ChatServer(lambda messages: "1 2 3 4 5 6 7 8 9", name="tiny") as server:
        model = model_at(server, timeout_s=1e6)
        model.check()
        said, late = model.forecast([1000, 1000], 100), model.forecast([1000, 1000], 10**15)
    assert said.startswith(f"model gpt-4 at {server.url} answered as tiny in ")
    assert re.search(r"at that speed a question takes about \d+ s$", said)
    assert re.search(r"about \d+ s, longer than timeout_s of 1e\+06: raise it, or lower answer_tokens", late)


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
