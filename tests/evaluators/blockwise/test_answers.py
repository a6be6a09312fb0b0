"""The bank of the teacher's answers: what it gives, how often, where it lies, and what it refuses."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.evaluators.blockwise.answers import AnswerBank
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily


def bank(family: BlockwiseUNetFamily, folder: Path, *, memory: float = 2**30, count: int = 48) -> AnswerBank:
    teacher = TeacherPipeline(family)
    clean = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return AnswerBank(NoisedImages(teacher, clean, None, 0), count, 3, memory, folder, 0)


@pytest.mark.parametrize("memory", [2**30, 0])
def test_every_answer_is_the_teachers_and_is_given_as_often_as_asked(
    family: BlockwiseUNetFamily, tmp_path: Path, memory: float
) -> None:
    made = bank(family, tmp_path, memory=memory)
    teacher, seen = made.images.teacher, Counter[float]()
    for _ in range(9):
        batch = made.draw(16)
        assert batch.answer is not None
        assert torch.allclose(batch.noised, batch.a * batch.clean + batch.s * batch.noise)
        wanted = teacher.predict(teacher.network, batch.noised, batch.times, {})
        assert torch.allclose(batch.answer, wanted, atol=2e-3), "half precision is all that is lost"
        seen.update(batch.noise.flatten(1).double().sum(dim=1).tolist())
    assert made.asked == 48
    assert len(seen) == 48
    assert set(seen.values()) == {3}
    made.draw(16)
    assert made.asked == 64, "then it begins anew"
    assert not list(tmp_path.iterdir()), "a file without a name needs no cleaning up"


def test_memory_and_disk_hold_the_same(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    one, other = (bank(family, tmp_path, memory=memory) for memory in (2**30, 0))
    for _ in range(6):
        assert torch.equal(one.draw(20).noised, other.draw(20).noised)


def test_a_bank_that_no_disk_holds_is_refused(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match=r"more than the disk has room for: lower evaluator\.bank"):
        bank(family, tmp_path, count=10**13)
