"""The last repair: a model chooses among changes of its proposals that can be trained."""

from __future__ import annotations

import json

import numpy as np
from chat_server import ChatServer
from gpt_search import BUDGET, FAMILY, SPACE, TOO_BIG, proposer, run, says

from nni_diffnas.api.space import Architecture
from nni_diffnas.strategies.gpt.offers import find_offers


def refusal(architecture: Architecture) -> str:
    return "" if BUDGET.admits(FAMILY.cost(architecture)) else "too dear"


def changed(one: Architecture, other: Architecture) -> int:
    return sum(one.get(label) != other.get(label) for label in SPACE.choices if label != "heads")


def test_offers_can_be_trained_and_are_near_and_as_many_near_each() -> None:
    known = {"level0.width": 16, "level0.depth": 1, "attention": False}
    offers = find_offers(SPACE, [TOO_BIG, known], refusal, np.random.default_rng(0))
    assert len(offers) == 8
    assert len({json.dumps(offer.architecture) for offer in offers}) == 8
    for number, offer in enumerate(offers):
        near = TOO_BIG if number < 4 else known
        assert refusal(offer.architecture) == ""
        assert changed(offer.architecture, near) <= 2
        assert all(offer.architecture.get(label) == value for label, value in offer.changes.items())
        assert offer.changes.keys() == {key for key in SPACE.choices if offer.architecture.get(key) != near.get(key)}


def test_nothing_is_offered_where_nothing_near_can_be_trained() -> None:
    assert find_offers(SPACE, [TOO_BIG], lambda _: "no", np.random.default_rng(0)) == ()
    assert find_offers(SPACE, [], refusal, np.random.default_rng(0)) == ()


def test_the_last_repair_offers_changes_in_words_and_in_the_schema() -> None:
    with ChatServer(says([TOO_BIG])) as server:
        search = proposer(server.url, repairs=2, patience_s=60.0)
        run(search, 1)
        shapes = [
            request["response_format"]["json_schema"]["schema"]["properties"]["proposals"]["items"]
            for request in server.requests
        ]
        last = str(server.requests[2]["messages"][-1]["content"])
    assert ["anyOf" in shape for shape in shapes] == [False, False, True]
    offered = [
        {label: field["enum"][0] for label, field in each["properties"].items() if "enum" in field}
        for each in shapes[2]["anyOf"]
    ]
    assert 1 < len(offered) <= 8
    assert all(refusal(SPACE.validate(each)) == "" for each in offered)
    assert last.count("\n- ") == 1 + len(offered), "what was wrong, and each change"
