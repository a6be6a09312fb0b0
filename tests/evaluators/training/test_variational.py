"""Learned variances against the formulas written out with torch's distributions."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from nni_diffnas.evaluators.training.noise_schedules import CosineSchedule
from nni_diffnas.evaluators.training.variational import LearnedVariance

SCHEDULE = CosineSchedule(50)


def posterior(x0: Tensor, noised: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_(t-1) given x_t, x_0), DDPM equations 6 and 7."""
    beta, bar = SCHEDULE.betas().float(), SCHEDULE.alpha_bar().float()
    before = bar[t - 1]
    mean = (before.sqrt() * beta[t] * x0 + (1 - beta[t]).sqrt() * (1 - before) * noised) / (1 - bar[t])
    return mean, (1 - before) / (1 - bar[t]) * beta[t]


@pytest.mark.parametrize("t", [1, 7, 49])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
def test_the_divergence_is_that_of_two_normal_distributions(t: int, fraction: float) -> None:
    generator = torch.Generator().manual_seed(t)
    clean, predicted, noised = (torch.randn(2, 1, 3, 3, generator=generator) for _ in range(3))
    true_mean, true_variance = posterior(clean, noised, t)
    model_mean, _ = posterior(predicted, noised, t)
    beta = SCHEDULE.betas()[t].float()
    variance = (fraction * beta.log() + (1 - fraction) * true_variance.log()).exp()
    expected = kl_divergence(Normal(true_mean, true_variance.sqrt()), Normal(model_mean, variance.sqrt()))
    values = torch.full_like(clean, 2 * fraction - 1)
    found = LearnedVariance(SCHEDULE).loss(clean, predicted, values, torch.full((2,), t))
    bits = expected.mean(dim=(1, 2, 3)) / math.log(2) * 50 / 1000
    assert torch.allclose(found, bits, rtol=2e-3)


def test_the_last_step_counts_the_bits_of_pixel_values() -> None:
    clean = torch.tensor([-1.0, 0.0, 4 / 127.5, 1.0]).view(1, 1, 2, 2)
    predicted = clean + 0.01
    deviation = math.sqrt(float(SCHEDULE.betas()[0]))
    found = LearnedVariance(SCHEDULE).loss(clean, predicted, torch.ones_like(clean), torch.zeros(1, dtype=torch.int64))
    model, half = Normal(predicted, deviation), 1 / 255
    probability = model.cdf(clean + half) - model.cdf(clean - half)
    probability[0, 0, 0, 0] = model.cdf(clean + half)[0, 0, 0, 0]
    probability[0, 0, 1, 1] = 1 - model.cdf(clean - half)[0, 0, 1, 1]
    assert found.item() == pytest.approx(-probability.log2().mean().item() * 50 / 1000, rel=1e-3)


def test_the_mean_is_not_taught_and_the_variance_is_learned() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(64, 1, 2, 2, generator=generator) * 2 - 1
    # A prediction that is wrong by a known amount: the best variance is the posterior's plus that of the mean.
    predicted = (clean + 0.3 * torch.randn(64, 1, 2, 2, generator=generator)).requires_grad_()
    values = torch.zeros(64, 1, 2, 2, requires_grad=True)
    times = torch.full((64,), 5)
    learned = LearnedVariance(SCHEDULE)
    learned.loss(clean, predicted, values, times).mean().backward()
    assert predicted.grad is None
    assert values.grad is not None
    value = torch.zeros((), requires_grad=True)
    for _ in range(400):
        (gradient,) = torch.autograd.grad(
            learned.loss(clean, predicted, value.expand(64, 1, 2, 2), times).mean(), value
        )
        value = (value - 200 * gradient).detach().requires_grad_()
    low, high = learned.log_posterior[5], learned.log_beta[5]
    fitted = (low + (value + 1) / 2 * (high - low)).exp()
    apart = learned.mean_scale[5] * (clean - predicted)
    assert fitted.item() == pytest.approx((low.exp() + apart.square().mean()).item(), rel=1e-2)
