"""What tests of `GPTProposer` share: a toy search, a way to run it, and models with a list of answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toy_family import ToyFamily, score

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.trial import Trial
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import GPTProposer

FAMILY = ToyFamily()
SPACE = FAMILY.space
BUDGET = Budget({"macs": Window(min=20_000, max=100_000)})
GOOD = [
    {"level0.width": w, "level0.depth": d, "attention": False} for w in (8, 16, 24, 32) for d in (1, 2, 3) if w * d > 20
]
TOO_BIG = {"level0.width": 32, "level0.depth": 3, "attention": True, "heads": 1}


def proposer(url: str | None = None, folder: Path | None = None, **options: Any) -> Search:
    where = {} if url is None else {"base_url": url, "backoff_s": 0.002, "timeout_s": 5.0}
    search = Search(
        GPTProposer(**{**where, "budget": BUDGET, "train_first": "none", **options}),
        SPACE,
        FAMILY,
        "toy",
        task="toys",
        folder=folder,
    )
    return search


def run(search: Search, count: int, workers: int = 1, value: Callable[[Trial], float] | None = None) -> list[Trial]:
    """Train ``count`` trials; they end in the order in which they were asked for."""
    done = 0
    while done < count:
        asked = search.ask(min(workers, count - done))
        if not asked:
            break
        for trial in asked:
            search.tell(trial.id, {"rfid": score(trial.architecture) if value is None else value(trial)})
            done += 1
    return search.trials


def says(*answers: Any) -> Callable[[list[dict[str, str]]], str]:
    """A model with a list of answers; the last one is repeated."""
    left = list(answers)

    def model(messages: list[dict[str, str]]) -> str:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer if isinstance(answer, str) else json.dumps({"lessons": [], "proposals": answer})

    return model


def kinds(search: Search) -> Counter[str]:
    return Counter(trial.origin.kind for trial in search.trials)
