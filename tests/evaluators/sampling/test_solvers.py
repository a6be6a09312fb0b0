"""The sampler does what diffusers' schedulers do."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from nni_diffnas.evaluators.sampling.schedulers import space_by_log_snr
from nni_diffnas.evaluators.sampling.solvers import Solver, initial_noise, sample, sampling_timesteps, to_uint8
from nni_diffnas.evaluators.training.losses import PARAMETERISATIONS
from nni_diffnas.evaluators.training.noise_schedules import SCHEDULES


def denoise(images: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
    """Some smooth function of images and time."""
    return torch.sin(images * 1.3 + times.view(-1, 1, 1, 1) / 300)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedules_are_those_of_diffusers(schedule: str) -> None:
    from diffusers import DDPMScheduler

    ours = SCHEDULES[schedule](1000)
    theirs = DDPMScheduler(beta_schedule=ours.diffusers_name).alphas_cumprod
    assert torch.allclose(ours.alpha_bar().float(), theirs, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
@pytest.mark.parametrize(("solver", "clip"), [("ddim", 1.0), ("dpm-solver++", None)])
def test_samples_are_those_of_diffusers(prediction: str, solver: Solver, clip: float | None) -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    parameterisation = PARAMETERISATIONS[prediction]()
    common = {
        "beta_schedule": "linear", "timestep_spacing": "trailing", "prediction_type": parameterisation.diffusers_name,
    }  # fmt: skip
    scheduler = (
        DDIMScheduler(**common, set_alpha_to_one=True)
        if solver == "ddim"
        else DPMSolverMultistepScheduler(**common, final_sigmas_type="zero", lower_order_final=True)
    )
    scheduler.set_timesteps(20)
    noise = initial_noise(3, (1, 4, 4), seed=0)
    theirs = noise
    for time in scheduler.timesteps:
        # diffusers' DDIM keeps the noise that goes with the clipped image only when it is told to.
        told = {"use_clipped_model_output": True} if solver == "ddim" else {}
        theirs = scheduler.step(denoise(theirs, time.expand(3), None), time, theirs, **told).prev_sample
    alpha_bar = SCHEDULES["linear"]().alpha_bar()
    assert scheduler.timesteps.tolist() == sampling_timesteps(alpha_bar, 20, "trailing")
    ours = sample(denoise, noise, alpha_bar, parameterisation, 20, solver=solver, spacing="trailing", clip=clip)
    assert torch.allclose(ours, theirs, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 10, 999, 1000])
def test_timesteps_by_log_snr_fall_from_the_last_of_training(schedule: str, steps: int) -> None:
    alpha_bar = SCHEDULES[schedule]().alpha_bar()
    times = sampling_timesteps(alpha_bar, steps)
    assert len(times) == steps
    assert times[0] == 999
    assert times[-1] >= 0
    assert all(later < time for time, later in itertools.pairwise(times))


def test_timesteps_by_log_snr_are_equal_steps_of_it() -> None:
    alpha_bar = SCHEDULES["cosine"]().alpha_bar().double()
    levels = (0.5 * torch.log(alpha_bar / (1 - alpha_bar)))[sampling_timesteps(alpha_bar, 10)[1:]]
    assert levels.diff().tolist() == pytest.approx([7 / 9] * 8, abs=0.15)
    assert levels[-1].item() == pytest.approx(3.0, abs=0.1)


def test_a_scheduler_of_diffusers_takes_the_same_timesteps() -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(beta_schedule="linear", final_sigmas_type="zero", lower_order_final=True)
    assert space_by_log_snr(scheduler)
    scheduler.set_timesteps(10, device="cpu")
    alpha_bar, noise = SCHEDULES["linear"]().alpha_bar(), initial_noise(3, (1, 4, 4), seed=0)
    assert scheduler.timesteps.tolist() == sampling_timesteps(alpha_bar, 10)
    theirs = noise
    for time in scheduler.timesteps:
        theirs = scheduler.step(denoise(theirs, time.expand(3), None), time, theirs).prev_sample
    ours = sample(denoise, noise, alpha_bar, PARAMETERISATIONS["epsilon"](), 10, clip=None)
    assert torch.allclose(ours, theirs, rtol=2e-3, atol=2e-4)
    assert not space_by_log_snr(DDIMScheduler()), "it computes the timestep before each by itself"


def test_noise_depends_on_its_seed_alone() -> None:
    assert torch.equal(initial_noise(4, (1, 2, 2), 5), initial_noise(4, (1, 2, 2), 5))
    assert torch.equal(initial_noise(4, (1, 4, 4), 5), initial_noise(6, (1, 4, 4), 5)[:4])
    assert not torch.equal(initial_noise(4, (1, 2, 2), 5), initial_noise(4, (1, 2, 2), 6))


def test_noise_comes_in_antithetic_pairs() -> None:
    noise = initial_noise(7, (1, 4, 4), 5)
    assert torch.equal(noise[0:6:2], -noise[1:6:2])
    assert not torch.equal(noise[0], noise[2])
    one_by_one = initial_noise(7, (1, 4, 4), 5, antithetic=False)
    assert not torch.equal(one_by_one[0], -one_by_one[1])


def test_pixels_survive_the_way_there_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(pixels.float() / 127.5 - 1), pixels)
    assert np.array_equal(to_uint8(torch.tensor([-3.0, 3.0])), [0, 255])
