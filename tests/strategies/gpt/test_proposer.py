"""`GPTProposer` against a real server: proposals, repairs, limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chat_server import ChatServer
from gpt_search import BUDGET, FAMILY, GOOD, SPACE, TOO_BIG, kinds, proposer, run, says
from stand_ins import RandomModel
from toy_family import score

from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import GPTProposer

# Proposing ---------------------------------------------------------------------------------------------------------


def test_proposals_of_the_model_are_trained() -> None:
    with ChatServer(says(GOOD[:1], GOOD[1:2])) as server:
        search = proposer(server.url)
        assert [t.architecture for t in run(search, 2)] == GOOD[:2]
    assert kinds(search) == {"proposal": 2}
    prompts = [body["messages"][1]["content"] for body in server.requests]
    assert f"rfid {score(GOOD[0]):.5g}" in prompts[1]
    assert "Find the best network for: toys." in prompts[0]
    assert "at least 20k (20000) and at most 100k (100000)" in prompts[0]


def test_one_question_serves_all_free_workers() -> None:
    with ChatServer(says(GOOD[3:7])) as server:
        search = proposer(server.url)
        assert [t.architecture for t in search.ask(4)] == GOOD[3:7]
        assert len(server.requests) == 1
        assert "Propose 4 different" in server.requests[0]["messages"][1]["content"]


def test_more_proposals_than_wanted_are_not_hoarded() -> None:
    with ChatServer(says(GOOD[:4], GOOD[4:])) as server:
        search = proposer(server.url)
        run(search, 2)
        assert [t.architecture for t in search.trials] == [GOOD[0], GOOD[4]]


def test_the_space_may_be_unpriced() -> None:
    with ChatServer(RandomModel(0)) as server:
        search = Search(GPTProposer(base_url=server.url, train_first="none"), SPACE)
        run(search, 3)
    assert kinds(search) == {"proposal": 3}
    assert "not known before it is trained" in server.requests[0]["messages"][1]["content"]


def test_the_default_network_comes_first_and_costs_no_question() -> None:
    with ChatServer(says(GOOD[:1])) as server:
        search = proposer(server.url, train_first="default and by hand")
        assert search.ask(1)[0].architecture == FAMILY.default
        assert not server.requests
        assert search.ask(1)[0].architecture == GOOD[0]
        assert len(server.requests) == 1


def test_the_forecast_in_dollars_is_near_what_a_search_spends() -> None:
    prices = {"gpt-4": {"input": 30.0, "output": 60.0}}
    with ChatServer(RandomModel(0)) as server:
        search = proposer(server.url, prices=prices, repairs=0, train_first="default and by hand")
        forecast = search.strategy.forecast(10 - len(search.first()))
        run(search, 10)
    spent = search.strategy.language_model.ledger.totals()
    assert spent.requests == 9
    assert forecast.startswith("9 questions to gpt-4 ")
    said = float(forecast.split("cost about ")[1].split()[0])
    assert spent.cost_usd < said < 3 * spent.cost_usd, forecast  # this model draws no lessons


def test_an_exhausted_space_ends_the_search() -> None:
    with ChatServer(RandomModel(0)) as server:
        search = proposer(server.url, repairs=0)
        assert len(run(search, 1000, workers=8)) == sum(BUDGET.admits(FAMILY.cost(a)) for a in _everything())


def _everything() -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for width in SPACE.choices["level0.width"]:
        for depth in SPACE.choices["level0.depth"]:
            for heads in (None, *SPACE.choices["heads"]):
                body = {"level0.width": width, "level0.depth": depth, "attention": heads is not None}
                found[str((width, depth, heads))] = body if heads is None else {**body, "heads": heads}
    return list(found.values())


# Repairs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (TOO_BIG, "macs 146,000 is 46.0% above the window [20000, 100000]"),
        ({**GOOD[0], "level0.width": 8, "level0.depth": 1}, "macs 8,000 is 60.0% below the window"),
        ({**GOOD[0], "level0.width": 9}, "level0.width cannot be 9: choose one of [8, 16, 24, 32]"),
        ({"level0.width": 8}, "level0.depth has no value"),
    ],
)
def test_what_cannot_be_trained_is_sent_back_with_the_reason(bad: dict[str, Any], why: str) -> None:
    with ChatServer(says([bad], GOOD[:1])) as server:
        search = proposer(server.url)
        assert [t.architecture for t in search.ask(1)] == GOOD[:1]
        repair = server.requests[1]["messages"]
    assert [message["role"] for message in repair] == ["system", "user", "assistant", "user"]
    assert why in repair[-1]["content"]
    assert kinds(search) == {"proposal": 1}


def test_text_without_a_proposal_is_malformed_and_sent_back() -> None:
    with ChatServer(says("I would rather talk about the weather.", GOOD[:1])) as server:
        search = proposer(server.url)
        search.ask(1)
        assert "no proposal could be read" in server.requests[1]["messages"][-1]["content"]
    assert kinds(search) == {"proposal": 1}


def test_a_known_one_and_a_repeated_one_are_sent_back() -> None:
    with ChatServer(says(GOOD[:1], [GOOD[0], GOOD[1], GOOD[1]], GOOD[2:3])) as server:
        search = proposer(server.url)
        run(search, 1)
        search.ask(2)
        repair = server.requests[2]["messages"][-1]["content"]
    assert "already trained or pending" in repair
    assert "Propose 2 other architectures" in repair
    assert "The first 1 that can be trained will be" in repair
    assert [t.architecture for t in search.trials] == GOOD[:3]


def test_each_repair_asks_for_more_alternatives_and_takes_the_first_that_serves() -> None:
    with ChatServer(says(GOOD[:1], GOOD[:1], GOOD[:1], [GOOD[0], TOO_BIG, GOOD[1], GOOD[2]])) as server:
        search = proposer(server.url)
        run(search, 1)
        assert [t.architecture for t in search.ask(1)] == [GOOD[1]]
        asked = [body["messages"][-1]["content"] for body in server.requests[2:]]
    assert "Propose 2 other" in asked[0]
    assert "Propose 4 other" in asked[1]
    assert kinds(search) == {"proposal": 2}


def test_a_question_asks_for_no_more_than_an_answer_can_hold() -> None:
    with ChatServer(RandomModel(0)) as server:
        search = proposer(server.url, answer_tokens=600, budget=None)
        room = 600 // search.strategy._proposal_tokens
        assert len(search.ask(9)) == 9
        asked = [body["messages"][1]["content"] for body in server.requests if len(body["messages"]) == 2]
    assert 1 < room < 9
    assert f"Propose {room} different" in asked[0]
    assert f"Propose {9 - room} different" in asked[1]


def test_an_answer_that_holds_one_proposal_is_told_before_the_search() -> None:
    def forecast(answer_tokens: int) -> str:
        return str(proposer("http://localhost:1/v1", answer_tokens=answer_tokens).strategy.forecast(3))

    assert "answer_tokens of 100 hold one proposal of about" in forecast(100)
    assert "hold one proposal" not in forecast(2000)


def test_the_default_network_is_not_trained_twice() -> None:
    with ChatServer(says([FAMILY.default], GOOD[:1])) as server:
        search = proposer(server.url, train_first="default and by hand")
        assert [t.architecture for t in search.ask(2)] == [FAMILY.default, GOOD[0]]


def test_repairs_are_limited_and_a_mutation_of_a_good_one_takes_the_slot() -> None:
    with ChatServer(says(GOOD[:1], [TOO_BIG])) as server:
        search = proposer(server.url, repairs=2)
        run(search, 2)
        assert len(server.requests) == 1 + 3
    first, second = search.trials
    assert (second.origin.kind, second.origin.parent) == ("mutation", first.id)
    assert second.cost is not None
    assert BUDGET.admits(second.cost)
    changed = [x for x in SPACE.labels if first.architecture.get(x) != second.architecture.get(x)]
    assert len([label for label in changed if label != "heads"]) == 1


def test_rejections_and_lessons_are_in_the_next_prompt() -> None:
    answer = json.dumps({"lessons": ["wide is good"], "proposals": [TOO_BIG, GOOD[0]]})
    with ChatServer(says(answer, GOOD[1:2], GOOD[2:3])) as server:
        search = proposer(server.url)
        run(search, 2, workers=2)
        run(search, 1)
        prompt = server.requests[-1]["messages"][1]["content"]
    assert "- wide is good" in prompt
    assert "46.0% above" in prompt
    assert search.strategy.lessons == ("wide is good",)


def test_a_limit_ends_the_asking_and_not_the_search() -> None:
    with ChatServer(RandomModel(0)) as server:
        search = proposer(server.url, max_requests=2, repairs=0, budget=None)
        run(search, 6)
        assert len(server.requests) == 2
    assert kinds(search)["mutation"] == 4
