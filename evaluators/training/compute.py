"""Where and how torch computes: the device, its number format and memory layout, CPU threads, processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nni_diffnas.api.errors import TrialFailure

__all__ = [
    "DeviceName",
    "Team",
    "autocast",
    "channels_last",
    "choose_device",
    "computing",
    "in_batches",
    "place",
    "threads",
]

DeviceName = Literal["auto", "cpu", "cuda"]


def choose_device(name: DeviceName) -> torch.device:
    """Device of this name; ``auto`` takes a CUDA GPU where there is one.

    Raises:
        TrialFailure: ``cuda`` is wanted where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise TrialFailure("evaluator.device is 'cuda', but torch sees no CUDA GPU: choose auto or cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def place(model: nn.Module, device: torch.device) -> None:
    """Move the network to the device, and where its convolutions want it, channels last in memory."""
    model.to(device)
    if channels_last(model, device):
        model.to(memory_format=torch.channels_last)


def channels_last(model: nn.Module, device: torch.device) -> bool:
    """Whether the network computes faster on the device with channels last in memory.

    On a GPU all do. On a CPU those with depthwise convolutions do, others do not (``benchmarks/choices.py layouts``).
    """
    return device.type == "cuda" or any(
        isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels for module in model.modules()
    )


def _bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bf16 where the device has units for it."""
    return torch.autocast("cuda", torch.bfloat16, enabled=_bf16(device))


def computing(device: torch.device) -> dict[str, Any]:
    """What is chosen for a device, for the records."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "number_format": "bf16" if _bf16(device) else "float32",
        "threads": torch.get_num_threads(),
        "processes": Team.size(),
    }


def in_batches(count: int, size: int, make: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
    """Images 0 to ``count``, in batches that are halved while the memory does not suffice.

    Args:
        count: of the images.
        size: of a batch, at first.
        make: maps start and stop to the images; must not depend on how they are split.

    Raises:
        TrialFailure: the memory does not suffice for one image.
    """
    start = 0
    while start < count:
        try:
            made = make(start, min(start + size, count))
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise TrialFailure("The device has no memory to generate a single image: free some.") from error
            size //= 2
            torch.cuda.empty_cache()
            continue
        yield made
        start += len(made)


class Team:
    """The processes that train one network together, a GPU each: those of ``accelerate launch``; usually just one.

    All draw the same batch and take their share of it, so that several processes train as one does. Only the first
    scores, reports and writes.
    """

    def __init__(self) -> None:
        self.count, self.rank = self.size(), self.number()
        if self.count > 1:
            from accelerate import PartialState

            PartialState(cpu=not torch.cuda.is_available())  # connects the processes

    @staticmethod
    def size() -> int:
        """Number of processes."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @staticmethod
    def number() -> int:
        """Which of them this one is; 0 is the first."""
        return int(os.environ.get("RANK", "0")) if Team.size() > 1 else 0

    def share(self, size: int) -> tuple[int, int]:
        """The part of a batch for this process: from which image to before which."""
        return size * self.rank // self.count, size * (self.rank + 1) // self.count

    def total(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            torch.distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, summed in zip(tensors, parts, strict=True):
                tensor.copy_(summed.view_as(tensor))

    def first(self, value: float) -> float:
        """The value of the first process, for all."""
        if self.count == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device="cuda" if torch.cuda.is_available() else "cpu")
        torch.distributed.broadcast(told, 0)
        return float(told)


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
