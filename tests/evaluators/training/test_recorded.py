"""A recorded step: what it does on a GPU, and on any machine, that its halves are a whole step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nni_diffnas.evaluators.training import denoising
from nni_diffnas.evaluators.training.batches import Batch
from nni_diffnas.evaluators.training.denoising import Training
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces.unet.family import UNetFamily

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def training(device: torch.device, seed: int = 0) -> Training:
    family = UNetFamily(preset="digits")
    torch.manual_seed(seed)
    model = family.build(family.default).to(device)
    pixels = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Training(model, pixels.to(device), None, Recipe(steps=8, batch_size=8, clip=1.0), seed)


def losses(training: Training, settled: int | None) -> list[float]:
    """Of eight steps; the training settles after so many of them."""
    found = []
    for step in range(8):
        if step == settled:
            training.settle(1.0)
        found.append(training.gradient(training.batches.draw()))
        training.update(step / 8)
    return [float(loss) for loss in found]


class Unrecorded:
    """Does at each call what a recording would repeat."""

    def __init__(self, gradient: Callable[[Batch], Tensor], direct: Callable[[], None], *_: object) -> None:
        self.gradient, self.direct = gradient, direct

    def __call__(self, batch: Batch) -> Tensor:
        loss = self.gradient(batch)
        self.direct()
        return loss


def test_a_step_in_two_halves_is_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denoising, "RecordedStep", Unrecorded)
    halves, whole = training(torch.device("cpu")), training(torch.device("cpu"))
    halves._worth_recording = True  # on a CPU, nothing is
    assert losses(halves, None) == losses(whole, None)
    assert halves.recorded
    assert not whole.recorded
    weights = zip(halves.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)


def test_a_network_that_cannot_be_recorded_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(denoising, "RecordedStep", refuse)
    refused, whole = training(torch.device("cpu")), training(torch.device("cpu"))
    refused._worth_recording = True
    assert losses(refused, None) == losses(whole, None)
    assert not refused.recorded


@needs_gpu
def test_a_recorded_training_is_the_same_to_the_digit() -> None:
    recorded, plain = training(torch.device("cuda")), training(torch.device("cuda"))
    assert losses(recorded, 3) == losses(plain, None)
    assert recorded.recorded
    assert not plain.recorded


@needs_gpu
def test_what_may_change_its_way_is_not_recorded() -> None:
    class Changing(nn.Identity):
        """Of a module that is no library's."""

    changing = training(torch.device("cuda"))
    changing.model.add_module("changing", Changing())
    losses(changing, 3)
    assert not changing.recorded
