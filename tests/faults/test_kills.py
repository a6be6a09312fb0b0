"""Searches that are killed at random moments and resumed: nothing is lost, run twice, or tried instead."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from killed_search import Search, killed_search, kinds_of


def check(search: Search, kills: list[str], seed: int) -> None:
    counts = killed_search(search, kills, random.Random(seed))
    print(counts)
    ended = [trial for trial in counts.trials if trial.status != "pending"]
    assert search.trials - counts.spare <= len(ended) <= search.trials
    assert counts.lost == counts.repeated == 0
    assert counts.as_undisturbed
    assert counts.failed <= counts.kills["trial"] * search.concurrency
    assert counts.finished >= len(ended) - counts.failed, "every trial wrote down what it did"
    assert all("killed" in trial.reason for trial in ended if trial.status == "failed")


@pytest.mark.slow
@pytest.mark.nni
def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    check(Search("tuner", tmp_path, trials=5, concurrency=1), ["manager", "stop"], seed=0)


@pytest.mark.faults
@pytest.mark.nni
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("door", ["tuner", "nas"])
def test_ten_kills_at_random_moments(door: str, concurrency: int, tmp_path: Path) -> None:
    rng = random.Random(concurrency)
    kills = [kinds_of(door)[i % 4] for i in range(10)]
    rng.shuffle(kills)
    check(Search(door, tmp_path, trials=14 * concurrency, concurrency=concurrency), kills, seed=concurrency)
