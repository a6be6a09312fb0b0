"""A bank of the teacher's answers: it runs once for a noised image that the student learns from several times."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nni_diffnas.api.errors import TrialFailure

from ..training.compute import in_batches
from .teacher_pipeline import Noised, NoisedImages

__all__ = ["AnswerBank"]

Rows = NDArray[np.float16]


class AnswerBank:
    """Batches of noised images with the teacher's predictions; most of them repeat what the teacher has answered.

    It holds some answers, gives each of them ``passes`` times, every time in another order, and then replaces all.
    Noise and answers are kept in half precision: the teacher sees the noise as it is kept.

    Args:
        images: noised images without end, with their teacher.
        count: answers that are held at once.
        passes: how often each is given.
        memory: bytes that the bank may take; where it needs more it lies on the disk.
        folder: for its file there, which is gone when the bank is.
        seed: of the order.

    Raises:
        TrialFailure: the disk has no room for it.
    """

    def __init__(self, images: NoisedImages, count: int, passes: int, memory: float, folder: Path, seed: int) -> None:
        self.images, self.passes = images, passes
        self.asked = 0
        """Images that the teacher has answered for."""
        shape = (2, count, *images.clean.shape[1:])
        size = 2 * math.prod(shape)
        self._rows: Rows
        if size <= memory:
            self._rows = np.zeros(shape, np.float16)
        elif size > 0.9 * shutil.disk_usage(folder).free:
            raise TrialFailure(
                f"{count:,} of the teacher's answers take {size / 2**30:.3g} GiB, more than the disk has room for: "
                f"lower evaluator.bank."
            )
        else:
            with tempfile.TemporaryFile(dir=folder) as file:  # what is mapped stays, though it has no name
                self._rows = np.memmap(file, np.float16, "w+", shape=shape)
        self._chosen = torch.zeros(count, dtype=torch.int64)
        self._times = torch.zeros(count, dtype=torch.int64)
        self._generator = torch.Generator().manual_seed(seed)
        self._filled, self._given = 0, 0
        self._order = torch.empty(0, dtype=torch.int64)

    def draw(self, count: int) -> Noised:
        """The next batch, with the teacher's predictions as ``answer``."""
        if self._filled == len(self._times):
            while len(self._order) < count and self._given < self.passes:
                self._order = torch.cat([self._order, torch.randperm(len(self._times), generator=self._generator)])
                self._given += 1
            if len(self._order) >= count:
                rows, self._order = self._order[:count], self._order[count:]
                noise, answer = (torch.from_numpy(self._rows[part, rows.numpy()]).float() for part in range(2))
                return self.images.noised(self._chosen[rows], self._times[rows], noise, answer)
            self._filled, self._order = 0, self._order[:0]  # what is left makes no whole batch
        return self._ask(count)

    def _ask(self, count: int) -> Noised:
        """A fresh batch, which is kept as far as there is room."""
        teacher, (chosen, times, noise) = self.images.teacher, self.images.drawn(count)
        noise = noise.half().float()
        batch = self.images.noised(chosen, times, noise)

        @torch.no_grad()
        def ask(start: int, stop: int) -> Tensor:
            part = batch.part(start, stop)
            return teacher.predict(teacher.network, part.noised, part.times, part.condition)

        answer = torch.cat(list(in_batches(count, count, ask))).half()
        self.asked += count
        kept = slice(self._filled, min(self._filled + count, len(self._times)))
        here = kept.stop - kept.start
        self._rows[0, kept], self._rows[1, kept] = noise[:here].numpy(), answer[:here].cpu().numpy()
        self._chosen[kept], self._times[kept] = chosen[:here], times[:here]
        self._filled = kept.stop
        if self._filled == len(self._times):
            self._given = 1  # all have been given once
        return replace(batch, answer=answer.float())
