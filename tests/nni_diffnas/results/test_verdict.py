"""A verdict that cannot be reached trains no further."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.job import Job
from nni_diffnas.results import verdict
from nni_diffnas.search_spaces import UNetFamily


def test_a_failed_training_ends_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family, begun, failed = UNetFamily(preset="digits"), [], threading.Event()

    def score(*run: Any) -> float:
        begun.append(run)
        if len(begun) > 1:
            failed.wait(10)
            return 1.0
        raise TrialFailure("no memory")

    def shutdown(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        ended(pool, wait=False, cancel_futures=cancel_futures)
        failed.set()
        ended(pool, wait)

    ended = ThreadPoolExecutor.shutdown
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    monkeypatch.setattr(verdict, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))
    monkeypatch.setattr(verdict, "_score", score)
    content = {"space": {"type": "unet", "preset": "digits"}, "data": {"source": "digits"}}
    job = Job.model_validate({**content, "evaluator": {"type": "diffusion"}})
    architecture = next(iter(family.space.neighbours(family.default)))
    winner = Trial("e-0001", "e", architecture, Origin("s", "random"))
    with pytest.raises(TrialFailure, match="no memory"):
        verdict.judge(job, winner, tmp_path, range(10), workers=1)
    assert len(begun) <= 2, "of 20 at most one that ran already"
