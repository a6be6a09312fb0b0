"""What a search with a language model leaves behind: transcript, replay, resume, shared memory."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from chat_server import ChatServer, Fault
from gpt_search import BUDGET, FAMILY, GOOD, SPACE, TOO_BIG, kinds, proposer, run, says
from stand_ins import MutatingModel
from toy_family import score

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.trial import Trial
from nni_diffnas.language_model.transcript import read_transcript
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import GPTProposer, RandomSearch


def faulty_recording(folder: Path, count: int = 12, workers: int = 2) -> list[Trial]:
    """A search with repairs and fall-backs in it, recorded."""
    rng = random.Random(3)
    with ChatServer(MutatingModel(2), lambda n, body: Fault("empty") if rng.random() < 0.5 else None) as server:
        search = proposer(server.url, folder, retries=0, repairs=1)
        trials = run(search, count, workers)
    assert count < 12 or {"proposal", "mutation"} <= set(kinds(search))
    return trials


def test_a_transcript_holds_every_exchange_and_event_in_order(tmp_path: Path) -> None:
    trials = faulty_recording(tmp_path)
    entries = read_transcript(tmp_path / "transcript.jsonl")
    assert [entry["n"] for entry in entries] == list(range(len(entries)))
    assert entries[0]["space"] == SPACE.key
    events = Counter(entry["event"] for entry in entries)
    assert events["ended"] == len(trials)
    assert events["accepted"] + events["filled"] == len(trials)
    assert events["rejected"]
    asked = [e["architecture"] for e in entries if e["event"] in ("accepted", "filled")]
    assert asked == [trial.architecture for trial in trials]
    answered = {e["answered_by"] for e in entries if e["event"] == "exchange" and e["answer"]}
    assert answered == {"stand-in"}


@pytest.mark.parametrize(("workers", "sign"), [(2, 1), (1, 1), (3, -1), (5, 0)])
def test_a_replay_gives_the_same_trials_whatever_the_scores_and_workers(
    tmp_path: Path, workers: int, sign: int
) -> None:
    recorded = faulty_recording(tmp_path)
    again = proposer(replay=tmp_path / "transcript.jsonl", repairs=1, seed=99)
    replayed = run(again, 12, workers, lambda trial: sign * score(trial.architecture))
    assert [t.architecture for t in replayed] == [t.architecture for t in recorded]
    assert [t.origin.kind for t in replayed] == [t.origin.kind for t in recorded]
    number = {trial.id: i for i, trial in enumerate(recorded)}
    parents = [None if t.origin.parent is None else number[t.origin.parent] for t in recorded]
    number = {trial.id: i for i, trial in enumerate(replayed)}
    assert [None if t.origin.parent is None else number[t.origin.parent] for t in replayed] == parents


def test_a_replay_that_is_longer_than_its_transcript_goes_on_by_mutation(tmp_path: Path) -> None:
    recorded = faulty_recording(tmp_path, count=4)
    replayed = run(proposer(replay=tmp_path / "transcript.jsonl", repairs=1), 8, 2)
    assert [t.architecture for t in replayed[:4]] == [t.architecture for t in recorded]
    assert {t.origin.kind for t in replayed[4:]} == {"mutation"}


def test_a_replay_that_is_interrupted_goes_on_where_it_stopped(tmp_path: Path) -> None:
    recorded = faulty_recording(tmp_path)
    first = proposer(replay=tmp_path / "transcript.jsonl", repairs=1)
    run(first, 5, 1)
    second = proposer(replay=tmp_path / "transcript.jsonl", repairs=1)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    run(second, 7, 1)
    assert [t.architecture for t in second.trials] == [t.architecture for t in recorded]


def test_a_replay_on_another_space_is_refused(tmp_path: Path) -> None:
    faulty_recording(tmp_path, count=2)
    other = GPTProposer(replay=tmp_path / "transcript.jsonl")
    with pytest.raises(JobError, match="another search space"):
        Search(other, type(SPACE)({"a": (1, 2)}))


def test_a_resumed_search_has_its_lessons_ledger_budget_and_rounds_back(tmp_path: Path) -> None:
    teacher = json.dumps({"lessons": ["narrow is bad"], "proposals": [TOO_BIG, GOOD[0]]})
    with (
        SearchMemory(tmp_path / "memory.sqlite") as memory,
        ChatServer(says(teacher, GOOD[1:2], GOOD[2:3], GOOD[3:4])) as server,
    ):
        first = proposer(server.url, tmp_path, memory=memory, max_requests=3)
        run(first, 2)
        snapshot = json.loads(json.dumps(first.snapshot()))
        assert len(server.requests) == 2
        second = Search(
            GPTProposer(base_url=server.url, memory=memory, max_requests=3, budget=BUDGET),
            SPACE,
            FAMILY,
            "toy",
            folder=tmp_path,
            experiment=first.experiment,
        )
        second.restore(memory.trials(experiment=first.experiment), snapshot)
        assert second.strategy.lessons == ("narrow is bad",)
        assert second.strategy.language_model.ledger.totals() == first.strategy.language_model.ledger.totals()
        run(second, 3)
        assert len(server.requests) == 3, "the limit counts what was spent before"
        assert "46.0% above" in server.requests[2]["messages"][1]["content"]
    rounds = [e["round"] for e in read_transcript(tmp_path / "transcript.jsonl") if e["event"] == "asked"]
    assert rounds == sorted(set(rounds))


def test_state_is_restored_exactly() -> None:
    def searches(url: str) -> tuple[Search, Search]:
        return proposer(url, retries=0, seed=4), proposer(url, retries=0, seed=4)

    with ChatServer(lambda messages: "", lambda n, body: Fault("empty")) as server:
        whole, part = searches(server.url)
        run(whole, 8)
        run(part, 3)
        again = proposer(server.url, retries=0, seed=4)
        again.load_state_dict(json.loads(json.dumps(part.state_dict())))
        run(again, 5)
    assert [t.architecture for t in again.trials] == [t.architecture for t in whole.trials]
    assert again.strategy.language_model.ledger.totals().requests == 8


def test_trials_and_lessons_of_other_searches_in_the_memory_are_shown(tmp_path: Path) -> None:
    lesson = json.dumps({"lessons": ["learned before"], "proposals": GOOD[5:6]})
    with (
        SearchMemory(tmp_path / "memory.sqlite") as memory,
        ChatServer(says(lesson, [GOOD[5], GOOD[0]], GOOD[1:2])) as server,
    ):
        other = Search(RandomSearch(memory=memory, budget=BUDGET, seed=1, train_first="none"), SPACE, FAMILY, "toy")
        strangers = run(other, 2)
        run(proposer(server.url, memory=memory), 1)
        search = proposer(server.url, memory=memory)
        search.ask(1)
        prompt = server.requests[-1]["messages"][1]["content"]
    assert "3 architectures so far" in prompt
    assert all(json.dumps(trial.architecture) in prompt for trial in strangers)
    assert "- learned before" in prompt
    assert [t.architecture for t in search.trials] == GOOD[:1], "what the memory knows is not trained again"


def test_scores_of_another_protocol_are_not_shown(tmp_path: Path) -> None:
    with ChatServer(says(GOOD[:1])) as server:
        earlier = run(proposer(server.url), 1)
        search = Search(
            GPTProposer(base_url=server.url, warm_start=earlier, train_first="none"), SPACE, FAMILY, "another protocol"
        )
        assert "0 scored" in search.strategy.prompt(1)
        same = Search(GPTProposer(base_url=server.url, warm_start=earlier, train_first="none"), SPACE, FAMILY, "toy")
        assert "1 scored" in same.strategy.prompt(1)
