"""Processes that train side by side on one machine, each on a GPU of its own where there are several."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

__all__ = ["core_count", "visible_gpus", "worker_pool"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def core_count() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def visible_gpus() -> list[str]:
    """CUDA's names of the GPUs that torch sees here."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(_VISIBLE, "").split(",") if name.strip()]
    return (named or [str(number) for number in range(count)])[:count]


def worker_pool(count: int, gpus: Sequence[str] | None = None) -> ProcessPoolExecutor:
    """Start a pool of processes that end with this one; of several GPUs each takes one, in turn.

    They import a script that starts them: what that runs must stand behind ``if __name__ == "__main__"``.

    Args:
        count: of the processes.
        gpus: names of those to share out; `visible_gpus` by default.
    """
    context = multiprocessing.get_context("spawn")
    found = visible_gpus() if gpus is None else gpus
    if len(found) < 2:
        return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
    turns = context.SimpleQueue()
    for number in range(count):
        turns.put(found[number % len(found)])
    return ProcessPoolExecutor(count, mp_context=context, initializer=_take, initargs=(turns,))


def _take(turns: Any) -> None:
    """Show a process that has just started one GPU; CUDA looks when it is first used."""
    _end_with_parent()
    os.environ[_VISIBLE] = turns.get()


def _end_with_parent() -> None:
    """Do not outlive a parent that was killed: a process of its pool would wait for work without end."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a process that another one has started"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
