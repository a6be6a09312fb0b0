"""Questions in the background: nobody waits longer than a patience, nothing that was proposed is lost."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chat_server import ChatServer
from gpt_search import BUDGET, FAMILY, GOOD, SPACE, TOO_BIG, kinds, proposer, run, says
from stand_ins import MutatingModel, RandomModel

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.language_model.transcript import read_transcript
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.search import Search


class Gate:
    """A model that answers when it is let."""

    def __init__(self, *answers: Any) -> None:
        self.model, self.asked, self.open = says(*answers), threading.Event(), threading.Event()

    def __call__(self, messages: list[dict[str, str]]) -> str:
        self.asked.set()
        self.open.wait(60)
        return self.model(messages)

    def open_late(self) -> None:
        """Let it answer after more than a tenth of a second, however late a busy machine has asked it."""
        assert self.asked.wait(60)
        time.sleep(0.3)
        self.open.set()


@contextmanager
def gated(*answers: Any) -> Iterator[tuple[Gate, ChatServer]]:
    gate = Gate(*answers)
    with ChatServer(gate) as server:
        try:
            yield gate, server
        finally:
            gate.open.set()


def settle(search: Search) -> None:
    """Wait until all questions are answered."""
    while search.strategy._rounds._under_way:
        search.strategy._rounds._came_in.wait(10)
        search.strategy.update(())


def shown(server: ChatServer, number: int = -1) -> str:
    return str(server.requests[number]["messages"][1]["content"])


def test_a_worker_waits_no_longer_than_the_patience_and_the_late_proposal_is_kept(tmp_path: Path) -> None:
    with gated(GOOD[:1], GOOD[1:2]) as (gate, server):
        search = proposer(server.url, tmp_path, patience_s=0.2)
        assert [trial.origin.kind for trial in search.ask(2)] == ["random", "random"]
        gate.open_late()
        settle(search)
        assert "Propose 2 different architectures" in shown(server, 0)
        assert len(server.requests) == 2, "the question went on, and then the other worker's was asked ahead"
        assert [trial.architecture for trial in search.ask(1)] == GOOD[:1]
    again = proposer(replay=tmp_path / "transcript.jsonl", seed=5)
    assert [trial.architecture for trial in run(again, 3)] == [trial.architecture for trial in search.trials]
    assert [t.origin.kind for t in again.trials] == [t.origin.kind for t in search.trials]


def test_what_needs_no_model_starts_at_once_and_the_door_is_woken() -> None:
    woken = threading.Event()
    with gated(GOOD[:1]) as (gate, server):
        search = proposer(server.url, train_first="default and by hand", patience_s=60.0)
        search.strategy.wake = woken.set
        first = [suggestion.architecture for suggestion in search.first()]
        assert FAMILY.default in first
        assert [trial.architecture for trial in search.ask(len(first) + 1)] == first
        assert search.ask(1) == []
        assert not woken.is_set()
        gate.open.set()
        assert woken.wait(60)
        search.strategy.update(())
        assert [trial.architecture for trial in search.ask(1)] == GOOD[:1]
        assert len(server.requests) == 1


def test_the_door_is_woken_when_the_patience_is_over() -> None:
    woken = threading.Event()
    with gated(GOOD[:1]) as (_, server):
        search = proposer(server.url, train_first="default and by hand", patience_s=0.3)
        search.strategy.wake = woken.set
        first = search.first()
        assert len(search.ask(len(first) + 1)) == len(first)
        assert woken.wait(60)
        assert [trial.origin.kind for trial in search.ask(1)] == ["random"]


def test_a_model_that_is_slower_than_the_patience_is_asked_ahead() -> None:
    with gated(*(GOOD[i : i + 1] for i in range(6))) as (gate, server):
        search = proposer(server.url, patience_s=0.1)
        run(search, 1)
        gate.open_late()
        settle(search)
        run(search, 1)
        assert search.strategy._rounds.number == 2, "with nobody waiting"
        settle(search)
        run(search, 1)
    assert [trial.architecture for trial in search.trials][1:] == GOOD[:2]


def test_a_slow_model_is_asked_ahead_until_there_is_one_for_each_worker() -> None:
    with gated(*(GOOD[i : i + 1] for i in range(6))) as (gate, server):
        search = proposer(server.url, patience_s=0.1, answer_tokens=100)
        assert search.strategy._rounds.per_answer == 1, "so that each takes a question of its own"
        trials = [*search.ask(1), *search.ask(1)]  # doors ask for one worker at a time, too
        for trial in trials:
            search.tell(trial.id, {"rfid": 1.0})
        gate.open_late()
        settle(search)
        assert len(server.requests) == 2
        assert [trial.architecture for trial in search.ask(2)] == GOOD[:2]


def test_a_slow_model_that_gave_nothing_of_use_is_asked_again_before_a_worker_is_free() -> None:
    with gated([TOO_BIG], GOOD[:1]) as (gate, server):
        search = proposer(server.url, patience_s=0.1, repairs=0)
        (trial,) = search.ask(1)
        gate.open_late()
        settle(search)
        assert len(server.requests) == 2
        search.tell(trial.id, {"rfid": 1.0})
        assert [trial.architecture for trial in search.ask(1)] == GOOD[:1]


def slowly(*answers: Any) -> Callable[[list[dict[str, str]]], str]:
    model = says(*answers)

    def answer(messages: list[dict[str, str]]) -> str:
        time.sleep(0.2)
        return model(messages)

    return answer


def test_a_slow_model_that_was_asked_ahead_in_vain_is_asked_again_as_long_as_nobody_waits() -> None:
    with ChatServer(slowly(GOOD[:1], [TOO_BIG], GOOD[1:2])) as server:
        search = proposer(server.url, patience_s=0.1, repairs=0)
        (filled,) = search.ask(1)
        settle(search)
        search.tell(filled.id, {"rfid": 1.0})
        assert [trial.architecture for trial in search.ask(1)] == GOOD[:1]
        settle(search)
        assert search.strategy._rounds.coming == GOOD[1:2]
        assert len(server.requests) == 3


def test_a_model_that_is_slow_to_be_checked_is_asked_while_the_first_networks_train() -> None:
    for patience_s, asked in ((0.1, 1), (60.0, 0)):
        with ChatServer(slowly(GOOD[:1])) as server:
            search = proposer(server.url, train_first="default and by hand", patience_s=patience_s)
            search.strategy.check()
            search.ask(1)
            assert search.strategy._rounds.number == asked
            settle(search)


def test_a_slow_model_is_not_asked_for_ever_where_nothing_it_says_is_of_use() -> None:
    with ChatServer(says([TOO_BIG])) as server:
        search = proposer(server.url, patience_s=0.0, repairs=0)
        search.ask(1)
        settle(search)
        assert 1 < len(server.requests) <= 3


def test_several_questions_are_asked_beside_each_other() -> None:
    both, number = threading.Barrier(2, timeout=60), iter(range(9))

    def model(messages: list[dict[str, str]]) -> str:
        both.wait()
        return json.dumps({"proposals": [GOOD[next(number) + 3]]})

    with ChatServer(model) as server:
        search = proposer(server.url, questions=2)
        trials = search.ask(2)
        assert len(server.requests) == 2
    assert sorted(map(str, (trial.architecture for trial in trials))) == sorted(map(str, GOOD[3:5]))


def test_a_prompt_that_is_too_long_is_sent_again_with_less_of_the_memory() -> None:
    with ChatServer(MutatingModel(0)) as server:
        search = proposer(server.url, memory_tokens=3000, answer_tokens=100, budget=None, repairs=0)
        run(search, 20)
        bare = search.strategy.compose(1, [], 0).messages
        whole = search.strategy.compose(1, [], None).messages
        small, large = (sum(len(message.content) // 4 for message in messages) for messages in (bare, whole))
        server.context = (small + large) // 2
        before = len(server.requests)
        run(search, 2)
        sent = server.requests[before:]
        assert "rank 1:" in shown(server)
    assert all("response_format" in body for body in sent), "schemas have nothing to do with it"
    totals = search.strategy.language_model.ledger.totals()
    assert totals.outcomes["too_long"] == 1, "the next question is short at once"


def test_a_context_without_room_for_the_space_ends_in_mutations_and_says_so(tmp_path: Path, capsys: Any) -> None:
    with ChatServer(RandomModel(0), context=10) as server:
        search = proposer(server.url, repairs=1)
        run(search, 3)
    assert "proposal" not in kinds(search)
    assert capsys.readouterr().out.count("cannot take prompt and answer into its context") == 1


def test_the_proposals_that_a_cut_off_answer_holds_are_trained() -> None:
    text = json.dumps({"proposals": [GOOD[0], GOOD[1], GOOD[2]]})
    with ChatServer(says(f"{text[: text.index(json.dumps(GOOD[2])) + 20]}")) as server:
        honest = server.completion
        server.completion = lambda body, text, reason="stop", **rest: honest(body, text, "length", **rest)
        search = proposer(server.url, repairs=0)
        assert [trial.architecture for trial in search.ask(2)] == GOOD[:2]
    assert search.strategy.language_model.ledger.totals().outcomes == {"cut_off": 1}


def test_the_example_is_within_the_budget_and_new_and_no_proposal() -> None:
    def echo(messages: list[dict[str, str]]) -> str:
        found = re.search(r"drawn at random: (\{.*\})", messages[1]["content"])
        assert found is not None
        answer = json.loads(found[1]) if len(messages) == 2 else GOOD[len(server.requests) % 8]
        return json.dumps({"proposals": [answer]})

    with ChatServer(echo) as server:
        search = proposer(server.url)
        run(search, 3)
        examples = [json.loads(re.findall(r"drawn at random: (\{.*\})", shown(server, n))[0]) for n in range(6)]
    assert all(BUDGET.admits(FAMILY.cost(example)) for example in examples)
    assert kinds(search) == {"proposal": 3}
    assert not [trial for trial in search.trials if trial.architecture in examples[::2]]
    assert "drawn to show the form" in server.requests[1]["messages"][-1]["content"]


def test_what_was_rejected_stands_in_the_prompt_once_and_empty_answers_do_not() -> None:
    with ChatServer(says([TOO_BIG, TOO_BIG, TOO_BIG], '{"proposals": []}', [TOO_BIG], GOOD[:1], GOOD[1:2])) as server:
        search = proposer(server.url)
        run(search, 2)
        repair, prompt = server.requests[1]["messages"][-1]["content"], shown(server)
    assert repair.count("46.0% above") == 1
    assert prompt.count("46.0% above") == 1
    assert "no proposal could be read" not in prompt


def test_lessons_are_asked_for_every_few_results() -> None:
    with ChatServer(RandomModel(0)) as server:
        search = proposer(server.url, budget=None, repairs=0)
        run(search, 10)
        asks = ['"lessons"' in shown(server, n) for n in range(10)]
        bound = ["lessons" in str(body["response_format"]) for body in server.requests]
    assert asks == bound == [n in (4, 8) for n in range(10)]


def test_one_architecture_is_asked_for_in_the_singular() -> None:
    with ChatServer(says(GOOD[:1])) as server:
        proposer(server.url).ask(1)
    assert "Propose 1 architecture, " in shown(server)


def test_the_reason_of_a_proposal_is_on_record(tmp_path: Path) -> None:
    with (
        SearchMemory(tmp_path / "memory.sqlite") as memory,
        ChatServer(says([{**GOOD[0], "reason": "wide\nand shallow"}])) as server,
    ):
        run(proposer(server.url, tmp_path, memory=memory), 1)
        (event,) = memory.events("proposal")
    assert event.body["architecture"] == GOOD[0]
    assert event.body["reason"] == "wide and shallow"
    accepted = [entry for entry in read_transcript(tmp_path / "transcript.jsonl") if entry["event"] == "accepted"]
    assert accepted[0]["reason"] == "wide and shallow"


def test_what_is_ready_survives_a_resume() -> None:
    with gated(GOOD[:2], GOOD[2:3]) as (gate, server):
        search = proposer(server.url, patience_s=0.2)
        search.ask(2)
        gate.open.set()
        settle(search)
        state = json.loads(json.dumps(search.state_dict()))
        again = proposer(server.url)
        again.load_state_dict(state)
        assert [trial.architecture for trial in again.ask(2)] == GOOD[:2]


def test_the_summary_counts_what_was_drawn_at_random() -> None:
    with ChatServer(says("nothing")) as server:
        search = proposer(server.url, repairs=0)
        run(search, 3)
    assert "0 trials proposed by the model, 2 by mutation, 1 at random" in search.strategy.summary()


def test_a_budget_that_holds_nothing_new_shows_no_example() -> None:
    with ChatServer(says(GOOD[:1])) as server:
        search = proposer(server.url, budget=Budget({"macs": Window(max=8000)}))
        run(search, 1)
        assert "drawn at random" not in search.strategy.compose(1, [], None).messages[1].content
    assert SPACE.size > 1
