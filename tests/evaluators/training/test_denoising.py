"""Formulas by hand, the optimiser against torch's, and trainings that can be repeated."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.evaluators.training.batches import Batches
from nni_diffnas.evaluators.training.denoising import Training, TrainingResult, train
from nni_diffnas.evaluators.training.ema import ConstantAverage, PowerAverage, power_for_width
from nni_diffnas.evaluators.training.loop import Progress
from nni_diffnas.evaluators.training.losses import (
    PARAMETERISATIONS,
    EDMPreconditioning,
    EDMWeighting,
    MinSNRWeighting,
    VPrediction,
)
from nni_diffnas.evaluators.training.noise_schedules import (
    SCHEDULES,
    CosineSchedule,
    LogNormalTimesteps,
    UniformTimesteps,
)
from nni_diffnas.evaluators.training.recipe import Recipe

PIXELS = torch.randint(0, 256, (96, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def run(model: nn.Module, seed: int = 0, labels: Tensor | None = None, **recipe: Any) -> TrainingResult:
    reports: list[Progress] = []
    settings = {"steps": 20, "batch_size": 16, **recipe}
    return train(model, PIXELS, labels, Recipe(**settings), seed, reports.append)


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


@pytest.mark.parametrize("name", ["v", "epsilon", "edm"])
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


def test_the_constant_average_is_the_usual_one() -> None:
    weight = torch.zeros(1)
    average = ConstantAverage([weight], 0.75)
    for value in (4.0, 8.0):
        weight.fill_(value)
        average.update()
    assert average.average[0].item() == pytest.approx(0.75 * 1.0 + 0.25 * 8.0)


def test_edm_with_unit_deviation_is_minus_v() -> None:
    clean, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    a, s = torch.tensor(0.28), torch.tensor(0.96)
    edm, v = EDMPreconditioning(1.0), VPrediction()
    assert torch.allclose(edm.target(clean, noise, a, s), -v.target(clean, noise, a, s), atol=1e-6)
    noised = a * clean + s * noise
    assert torch.allclose(edm.network_input(noised, a, s), noised)
    snr = (a / s).square()
    assert EDMWeighting(1.0).weights(snr, v).item() == pytest.approx(1.0)


@pytest.mark.parametrize("deviation", [0.3, 0.5])
def test_edm_gives_its_network_unit_variance(deviation: float) -> None:
    generator = torch.Generator().manual_seed(0)
    clean = deviation * torch.randn(200_000, generator=generator)
    noise = torch.randn(200_000, generator=generator)
    edm = EDMPreconditioning(deviation)
    for a, s in ((0.1, 0.99**0.5), (0.8, 0.6)):
        signal, level = torch.tensor(a), torch.tensor(s)
        assert edm.network_input(signal * clean + level * noise, signal, level).std().item() == pytest.approx(
            1, rel=0.02
        )
        assert edm.target(clean, noise, signal, level).std().item() == pytest.approx(1, rel=0.02)
        # The same as the paper's formula, with x = x_0 + sigma eps.
        sigma = s / a
        skip = deviation**2 / (sigma**2 + deviation**2)
        out = sigma * deviation / (sigma**2 + deviation**2) ** 0.5
        literal = (clean - skip * (clean + sigma * noise)) / out
        assert torch.allclose(edm.target(clean, noise, signal, level), literal, atol=1e-3)
    snr = torch.tensor([0.01, 1.0, 100.0])
    sigma2 = 1 / snr
    literal = (sigma2 + deviation**2) / (sigma2 * deviation**2)
    weights = EDMWeighting(deviation).weights(snr, PARAMETERISATIONS["epsilon"]())
    assert torch.allclose(weights * snr, literal)


def test_timesteps_are_drawn_as_their_distribution_says() -> None:
    generator = torch.Generator().manual_seed(0)
    schedule = CosineSchedule(4000)
    times = LogNormalTimesteps(schedule, -1.2, 1.2).draw(20_000, generator)
    alpha_bar = schedule.alpha_bar()[times]
    levels = 0.5 * ((1 - alpha_bar) / alpha_bar).log()
    assert levels.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert levels.std().item() == pytest.approx(1.2, abs=0.02)
    middles = LogNormalTimesteps(schedule, -1.2, 1.2).quantiles(torch.tensor([0.5, 0.8413]))
    levels = 0.5 * ((1 - schedule.alpha_bar()) / schedule.alpha_bar()).log()
    assert levels[middles].tolist() == pytest.approx([-1.2, 0.0], abs=0.01)
    assert UniformTimesteps(100).quantiles(torch.tensor([0.0, 0.25, 1.0])).tolist() == [0, 25, 99]
    independent = UniformTimesteps(100, stratified=False).draw(5000, generator)
    assert (independent.min(), independent.max()) == (0, 99)
    assert len(set(UniformTimesteps(100).draw(100, generator).tolist())) == 100
    assert len(set(UniformTimesteps(100, stratified=False).draw(100, generator).tolist())) < 80


def test_only_whole_images_are_mirrored_and_only_when_asked() -> None:
    draw = UniformTimesteps(10)
    plain = Batches(PIXELS, None, 96, draw, False, 0).draw()
    mirrored = Batches(PIXELS, None, 96, draw, True, 0).draw()
    assert torch.equal(plain.noise, mirrored.noise)
    kept = [torch.equal(one, other) for one, other in zip(plain.clean, mirrored.clean, strict=True)]
    turned = [torch.equal(one.flip(-1), other) for one, other in zip(plain.clean, mirrored.clean, strict=True)]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 30 < sum(turned) < 66


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


@pytest.mark.parametrize(
    "settings",
    [
        {"prediction": "edm", "weighting": "edm", "drawn": "log-normal"},
        {"recipe": "iddpm", "learned_sigma": False, "learning_rate": 2e-3},
    ],
)
def test_every_recipe_learns_digits(small_denoiser: type[nn.Module], settings: dict[str, Any]) -> None:
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy(load_digits().images * (255 / 16)).to(torch.uint8).unsqueeze(1)
    torch.manual_seed(0)
    model, reports = small_denoiser(), list[Progress]()
    recipe = Recipe(**{**settings, "steps": 300, "batch_size": 32, "ema": "power"})
    train(model, pixels, None, recipe, 0, reports.append)
    assert reports[-1].loss < 0.6 * reports[0].loss


def test_out_of_memory_halves_the_batch_and_changes_nothing_else(small_denoiser: type[nn.Module]) -> None:
    sizes: list[int] = []

    class Narrow(small_denoiser):
        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            sizes.append(len(sample))
            if len(sample) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            result: Tensor = super().forward(sample, timestep)
            return result

    gradients, models = [], []
    for kind in (small_denoiser, Narrow):
        torch.manual_seed(0)
        model = kind()
        training = Training(model, PIXELS, None, Recipe(steps=2, batch_size=16), 0)
        training.gradient(training.batches.draw())
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
        models.append(model)
    assert sizes == [16, 8, 4, 4, 4, 4]
    assert training.micro_batch == 4
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    assert run(models[1]).micro_batch == 4


def test_a_network_too_large_for_one_image_fails_with_a_sentence(small_denoiser: type[nn.Module]) -> None:
    class Huge(small_denoiser):
        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrialFailure, match="no memory to train this network on a single image"):
        run(Huge())


def test_dropout_is_the_recipes_where_it_names_one() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.1))
    Training(model, PIXELS, None, Recipe(steps=1), 0)
    assert model[1].p == 0.1
    Training(model, PIXELS, None, Recipe(steps=1, dropout=0.3), 0)
    assert model[1].p == 0.3


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
    model = small_denoiser(classes=3)
    before = model.classes.weight.clone()
    run(model, labels=torch.arange(96) % 3)
    assert not torch.equal(model.classes.weight, before)


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
    class Broken(small_denoiser):
        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            result: Tensor = super().forward(sample, timestep) * math.inf
            return result

    with pytest.raises(TrialFailure, match=r"diverged: the loss is inf after 1 steps.*learning rate"):
        run(Broken())


def test_a_loss_that_grows_is_a_failure_long_before_the_next_report(small_denoiser: type[nn.Module]) -> None:
    class Leaving(small_denoiser):
        calls = 0

        def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
            self.calls += 1
            result: Tensor = super().forward(sample, timestep) * 3.0**self.calls
            return result

    with pytest.raises(TrialFailure, match=r"diverged: the loss is .* after 4 steps"):
        run(Leaving(), steps=1000, reports=1)


def test_a_recipe_is_its_name_and_what_is_said_otherwise() -> None:
    iddpm = Recipe(recipe="iddpm", steps=9, learning_rate=3e-4)
    assert (iddpm.timesteps, iddpm.learned_sigma, iddpm.clip, iddpm.dropout) == (4000, True, None, 0.3)
    assert (iddpm.batch_size, iddpm.ema, iddpm.ema_decay, iddpm.learning_rate) == (128, "constant", 0.9999, 3e-4)
    assert iddpm.rate(0.01) == iddpm.rate(1.0) == 3e-4
    assert Recipe(**iddpm.model_dump()) == iddpm
    assert Recipe(recipe="rapid", steps=9) == Recipe(steps=9)
    with pytest.raises(ValueError, match=r"rapid.*iddpm"):
        Recipe(recipe="slow", steps=9)


def test_the_fingerprint_tells_what_trains_differently() -> None:
    base = Recipe(steps=9)
    assert base.fingerprint == Recipe(steps=9, reports=3).fingerprint
    others = {Recipe(steps=9, **change).fingerprint for change in ({"gamma": 4.0}, {"clip": None}, {"dropout": 0.1})}
    assert len(others | {base.fingerprint}) == 4


def test_recipes_of_version_0_1_keep_their_fingerprint() -> None:
    """Their scores stay comparable with those of today, whatever options there are by now."""
    assert Recipe(images=1).fingerprint == "bb84f9a6"
    assert Recipe(recipe="iddpm", steps=1).fingerprint == "d8524838"
    assert Recipe(images=1, flip=True, weighting="uniform").fingerprint == "cb660e2c"


@pytest.mark.parametrize("budget", [{}, {"images": 5, "steps": 5}])
def test_exactly_one_budget(budget: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="exactly one of images, steps and seconds"):
        Recipe(**budget)
