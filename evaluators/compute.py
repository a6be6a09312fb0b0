"""Where torch computes: the device and the number of CPU threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from nni_diffnas.errors import TrialFailure

__all__ = ["DeviceName", "choose_device", "threads"]

DeviceName = Literal["auto", "cpu", "cuda"]


def choose_device(name: DeviceName) -> torch.device:
    """Device of this name; ``auto`` takes a CUDA GPU where there is one.

    Raises:
        TrialFailure: ``cuda`` is wanted where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TrialFailure("evaluator.device is 'cuda', but torch sees no CUDA GPU: choose auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Use so many CPU threads (unset: ``OMP_NUM_THREADS``, else 1), then as many as before."""
    before = torch.get_num_threads()
    named = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(count or (int(named) if named.isdigit() and int(named) > 0 else 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)
