"""A cache of its own for the tests, and small networks to train or to distil."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from blockwise_teachers import save_teacher
from torch import Tensor, nn

from nni_diffnas.search_spaces import BlockwiseUNetFamily


@pytest.fixture(scope="session", autouse=True)
def evaluator_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNI_DIFFNAS_CACHE", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> BlockwiseUNetFamily:
    """Students of a tiny teacher with random weights."""
    return BlockwiseUNetFamily(save_teacher(tmp_path_factory.mktemp("teacher")))


class SmallDenoiser(nn.Module):
    """Three convolutions that know the time (and the class, where it has one)."""

    def __init__(self, channels: int = 1, classes: int = 0, width: int = 24) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, channels, 3, padding=1)
        self.time = nn.Linear(2, width)
        self.classes = nn.Embedding(classes, width) if classes else None

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        angle = timestep.float() / 1000 * torch.pi / 2
        state = self.time(torch.stack([angle.sin(), angle.cos()], dim=1))
        if self.classes is not None:
            assert class_labels is not None
            state = state + self.classes(class_labels)
        hidden = torch.nn.functional.silu(self.enter(sample) + state[:, :, None, None])
        result: Tensor = self.leave(torch.nn.functional.silu(self.middle(hidden)) + hidden)
        return result


@pytest.fixture
def small_denoiser() -> type[SmallDenoiser]:
    return SmallDenoiser
