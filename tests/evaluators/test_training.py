"""Formulas by hand, the optimiser against torch's, and trainings that can be repeated."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nni_diffnas.errors import TrialFailure
from nni_diffnas.evaluators.ema import PowerAverage, power_for_width
from nni_diffnas.evaluators.losses import PARAMETERISATIONS, MinSNRWeighting
from nni_diffnas.evaluators.optimizer import AdamW, learning_rate
from nni_diffnas.evaluators.schedules import SCHEDULES
from nni_diffnas.evaluators.training import Progress, Recipe, TrainingResult, train

PIXELS = torch.randint(0, 256, (96, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def run(model: nn.Module, seed: int = 0, labels: Tensor | None = None, **recipe: Any) -> TrainingResult:
    reports: list[Progress] = []
    settings = {"steps": 20, "batch_size": 16, **recipe}
    return train(model, PIXELS, labels, Recipe(**settings), seed, reports.append)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_torchs(decay: float) -> None:
    ours, theirs = (nn.Linear(5, 3), nn.Linear(5, 3))
    theirs.load_state_dict(ours.state_dict())
    optimizer = AdamW(list(ours.parameters()), betas=(0.9, 0.99), decay=decay)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=decay)
    for step in range(30):
        # Some gradients are longer than the clip and some are not: Adam alone does not see a common factor.
        batch = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)) * 5
        rate = learning_rate(0.01, step / 30, 0.2)
        for model in (ours, theirs):
            (model(batch).square().sum() * (1 if step % 3 else 1e-4)).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        reference.zero_grad()
        optimizer.step(rate, clip=1.0)
        assert ours.weight.grad is None
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    assert learning_rate(2.0, 0.05, 0.1) == pytest.approx(1.0)
    assert learning_rate(2.0, 0.1, 0.1) == pytest.approx(2.0)
    assert learning_rate(2.0, 0.55, 0.1) == pytest.approx(1.0)
    assert learning_rate(2.0, 1.0, 0.1) == pytest.approx(0.0)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.15])
def test_the_average_has_the_profile_of_its_power_law(width: float) -> None:
    # An average of the numbers 1..n weighs them by t^gamma: relative mean (g+1)/(g+2), deviation = width.
    count, gamma = 2000, power_for_width(width)
    weight = torch.zeros(count, dtype=torch.float64)
    average = PowerAverage([weight], width)
    for step in range(count):
        weight.zero_()
        weight[step] = 1.0
        average.update()
    times = (torch.arange(count, dtype=torch.float64) + 1) / count
    profile = average.average[0]
    mean = float((profile * times).sum())
    assert float(profile.sum()) == pytest.approx(1.0)
    assert mean == pytest.approx((gamma + 1) / (gamma + 2), abs=2e-3)
    assert math.sqrt(float((profile * (times - mean) ** 2).sum())) == pytest.approx(width, abs=2e-3)


def test_swapping_twice_changes_nothing() -> None:
    weight = torch.zeros(3)
    average = PowerAverage([weight])
    weight.fill_(1.0)
    average.update()
    weight.fill_(5.0)
    average.swap()
    assert weight.tolist() == [1.0] * 3
    average.swap()
    assert weight.tolist() == [5.0] * 3


@pytest.mark.parametrize("name", ["v", "epsilon"])
def test_the_target_leads_back_to_the_image(name: str) -> None:
    clean, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    a, s = torch.tensor(0.8), torch.tensor(0.6)
    parameterisation = PARAMETERISATIONS[name]()
    noised, target = a * clean + s * noise, parameterisation.target(clean, noise, a, s)
    assert torch.allclose(parameterisation.clean(noised, target, a, s), clean, atol=1e-5)
    # An error of one in the prediction is an error of 1 / scale in the image, squared.
    wrong = parameterisation.clean(noised, target + 1.0, a, s)
    snr = a.square() / s.square()
    assert torch.allclose((wrong - clean).square() * parameterisation.error_scale(snr), torch.ones(1), atol=1e-4)


def test_min_snr_caps_the_weight_of_clean_images() -> None:
    snr = torch.tensor([0.1, 5.0, 50.0])
    assert MinSNRWeighting(5.0).weights(snr, PARAMETERISATIONS["v"]()).tolist() == pytest.approx(
        [0.1 / 1.1, 5 / 6, 5 / 51]
    )
    assert MinSNRWeighting(5.0).weights(snr, PARAMETERISATIONS["epsilon"]()).tolist() == pytest.approx([1, 1, 0.1])


def test_alpha_bar_falls_from_signal_to_noise() -> None:
    for schedule in SCHEDULES.values():
        alpha_bar = schedule(1000).alpha_bar()
        assert (alpha_bar.diff() < 0).all()
        assert alpha_bar[0] > 0.999
        assert alpha_bar[-1] < 1e-4


def test_training_repeats_to_the_bit_and_learns(small_denoiser: type[nn.Module]) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        model = small_denoiser()
        result = run(model, seed, steps=60)
        states.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert (result.images, result.steps) == (960, 60)
    assert result.loss < 0.5


def test_every_architecture_sees_the_same_numbers() -> None:
    class Spy(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.weights, self.seen = nn.Parameter(torch.ones(width)), torch.zeros(0)

        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            torch.rand(len(self.weights))  # its own use of random numbers must not matter
            self.seen = torch.cat([self.seen, sample.detach().flatten(), timestep.float()])
            return sample * self.weights.mean()

    one, other = Spy(1), Spy(7)
    run(one, steps=5)
    run(other, steps=5)
    assert torch.equal(one.seen, other.seen)
    times = one.seen[16 * 16 : 16 * 16 + 16]
    assert (times.sort().values // (1000 / 16)).tolist() == list(range(16)), "one timestep in every slice"


def test_class_labels_reach_the_network(small_denoiser: type[nn.Module]) -> None:
    model = small_denoiser(classes=3)  # type: ignore[call-arg]
    before = model.classes.weight.clone()  # type: ignore[union-attr, operator]
    run(model, labels=torch.arange(96) % 3)
    assert not torch.equal(model.classes.weight, before)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("budget", [{"images": 100}, {"steps": 7}, {"seconds": 0.3}])
def test_budgets_are_kept(small_denoiser: type[nn.Module], budget: dict[str, Any]) -> None:
    reports: list[Progress] = []
    result = train(small_denoiser(), PIXELS, None, Recipe(batch_size=16, reports=4, **budget), 0, reports.append)
    expected = {"images": 7, "steps": 7}
    assert result.steps == expected.get(next(iter(budget)), result.steps)
    assert result.seconds == pytest.approx(0.3, abs=0.2) or "seconds" not in budget
    assert 1 <= len(reports) <= 5
    assert reports[-1].fraction == 1.0


def test_divergence_is_a_failure_with_its_reason(small_denoiser: type[nn.Module]) -> None:
    class Broken(small_denoiser):  # type: ignore[misc, valid-type]
        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            result: Tensor = super().forward(sample, timestep) * math.inf
            return result

    with pytest.raises(TrialFailure, match=r"diverged: the loss is inf after 1 steps.*learning rate"):
        run(Broken())


@pytest.mark.parametrize("budget", [{}, {"images": 5, "steps": 5}])
def test_exactly_one_budget(budget: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one of images, steps and seconds"):
        Recipe(**budget)
