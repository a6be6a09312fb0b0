"""Samplers by name: our own solvers, and any scheduler of diffusers (whose import takes over a second)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nni_diffnas.api.errors import JobError

from ..training.compute import in_batches
from ..training.losses import Parameterisation
from ..training.recipe import Recipe
from .solvers import SOLVERS, DenoisingFunction, Spacing, sample, sampling_timesteps, to_uint8

__all__ = [
    "NOISE",
    "Sampler",
    "find_scheduler",
    "kind_of",
    "make_scheduler",
    "sample_by_scheduler",
    "scheduler_of",
    "space_by_log_snr",
]

NEEDED = {"num_train_timesteps", "beta_schedule", "prediction_type"}


NOISE = "noise levels of training, beta_schedule and prediction_type"
"""The kind of scheduler that can be swapped for another of its kind: the network says noise, velocity or image."""

_DECISIVE = ("prediction_type", "beta_schedule", "num_train_timesteps")
"""Fields of a scheduler's file without which nobody knows what the network was trained for."""

_CONSISTENCY = ("CMStochastic", "LCM", "TCD", "SCM", "FlowMatchLCM")


def kind_of(scheduler: Any) -> str:
    """What kind of network a scheduler of diffusers samples: `NOISE`, or another in words."""
    name, config = type(scheduler).__name__, scheduler.config
    if name.startswith(_CONSISTENCY):
        return "a network distilled to few steps (consistency)"
    flow = str(config.get("prediction_type", "")).startswith("flow") or config.get("use_flow_sigmas")
    if flow or "Flow" in name:
        return "flow matching"
    return NOISE if set(inspect.signature(type(scheduler)).parameters) >= NEEDED else "networks of its own kind"


def taken_unsaid(said: Mapping[str, Any], scheduler: Any) -> str:
    """What a scheduler took where its file leaves open what the network was trained for; empty where it says all.

    Args:
        said: fields of the file.
        scheduler: of diffusers, made from it.
    """
    config, own = scheduler.config, type(scheduler).__name__
    taken = {name: config[name] for name in _DECISIVE if name in config and name not in said}
    if not taken:
        return ""
    return (
        f"Its scheduler's file names no {', '.join(taken)}: {', '.join(map(str, taken.values()))}, which {own} takes "
        f"then, {'was' if len(taken) == 1 else 'were'} taken."
    )


def find_scheduler(name: str) -> type[Any]:
    """The class of diffusers' scheduler with this name.

    Raises:
        JobError: no such scheduler, or one of another kind of diffusion (flow matching, continuous noise levels).
    """
    import diffusers

    kind = getattr(diffusers, name, None)
    known = set(inspect.signature(kind).parameters) if isinstance(kind, type) else set()
    odd = "Inverse" in name or name.startswith(_CONSISTENCY)
    if not isinstance(kind, type) or odd or not known >= NEEDED or not hasattr(kind, "set_timesteps"):
        raise JobError(
            f"The sampler is {name!r}: choose dpm-solver++, ddim, or the class of a diffusers scheduler with a "
            f"beta_schedule and a prediction_type, such as UniPCMultistepScheduler."
        )
    return kind


def scheduler_of(recipe: Recipe) -> dict[str, Any] | None:
    """Configuration of the diffusers scheduler that samples what a recipe has trained; ``None``: no scheduler does."""
    prediction = recipe.parameterisation().diffusers_name
    if prediction is None:
        return None
    return {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": recipe.timesteps,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": recipe.noise_schedule().diffusers_name,
        "prediction_type": prediction,
        "variance_type": "learned_range" if recipe.learned_sigma else "fixed_small",
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "timestep_spacing": "trailing",
    }


def make_scheduler(name: str, config: Mapping[str, Any] | None) -> Any:
    """The scheduler of diffusers with this class name, for a network that was trained as ``config`` says.

    Args:
        name: of the class, e.g. ``UniPCMultistepScheduler``.
        config: `DiffusionEvaluation.scheduler_config`; what the scheduler does not know is left out.

    Raises:
        JobError: no such scheduler, or one that does not suit such networks.
    """
    kind = find_scheduler(name)
    if config is None:
        raise JobError(
            f"evaluator.sampler {name!r} cannot sample networks with training.prediction 'edm', whose input diffusers "
            f"does not scale: choose dpm-solver++ or ddim."
        )
    known = inspect.signature(kind).parameters
    try:
        return kind(**{key: value for key, value in config.items() if key in known and not key.startswith("_")})
    except (ValueError, NotImplementedError) as error:
        raise JobError(f"evaluator.sampler {name!r} does not suit the training ({error}): choose another.") from error


def space_by_log_snr(scheduler: Any) -> bool:
    """Have a scheduler of diffusers take the timesteps of `sampling_timesteps`; whether it takes any but its own."""
    by_itself = scheduler.set_timesteps
    if "timesteps" not in inspect.signature(by_itself).parameters:
        return False

    def set_timesteps(num_inference_steps: int, device: Any = None) -> None:
        by_itself(timesteps=sampling_timesteps(scheduler.alphas_cumprod, num_inference_steps), device=device)

    scheduler.set_timesteps = set_timesteps
    return True


@torch.inference_mode()
def sample_by_scheduler(
    scheduler: Any,
    denoise: DenoisingFunction,
    noise: Tensor,
    steps: int,
    seeds: Sequence[int],
    labels: Tensor | None = None,
) -> Tensor:
    """Images from noise by a scheduler of diffusers.

    Args:
        scheduler: of `make_scheduler`.
        denoise: maps noised images, timesteps ``[batch]`` and labels to the network's prediction.
        noise: standard normal, ``[batch, channels, height, width]``.
        steps: given to ``set_timesteps``; a second-order scheduler evaluates the network about twice as often.
        seeds: of each image's own noise in a stochastic scheduler, so that it does not hang on the batch.
        labels: int64 ``[batch]`` for a class-conditional network.

    Returns:
        Images, nominally in [-1, 1], the shape of ``noise``.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    images = noise * scheduler.init_noise_sigma
    options: dict[str, Any] = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        options["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    learns_sigma = str(scheduler.config.get("variance_type", "")).startswith("learned")
    for time in scheduler.timesteps:
        prediction = denoise(scheduler.scale_model_input(images, time), time.expand(len(images)), labels).float()
        if not learns_sigma:
            prediction = prediction[:, : images.shape[1]]
        images = scheduler.step(prediction, time, images, **options).prev_sample
    final: Tensor = images
    return final


@dataclass(frozen=True)
class Sampler:
    """Images from a network, by a solver of ours or a scheduler of diffusers.

    Args:
        name: ``dpm-solver++``, ``ddim``, or the class of the scheduler.
        steps: network evaluations an image.
        alpha_bar: of the training schedule, ``[T]``.
        parameterisation: of the network.
        config: of a scheduler of diffusers for the same training; ``None``: there is none.
        clip: largest magnitude of our solvers' predicted x_0; ``None``: any.
        spacing: of our solvers' timesteps.
    """

    name: str
    steps: int
    alpha_bar: Tensor
    parameterisation: Parameterisation
    config: Mapping[str, Any] | None
    clip: float | None = 1.0
    spacing: Spacing = "log-snr"

    def __call__(
        self, denoise: DenoisingFunction, noise: Tensor, seeds: Sequence[int], labels: Tensor | None
    ) -> Tensor:
        """Images, nominally in [-1, 1], the shape of ``noise``; ``seeds`` as in `sample_by_scheduler`."""
        if self.name not in SOLVERS:
            return sample_by_scheduler(
                make_scheduler(self.name, self.config), denoise, noise, self.steps, seeds, labels
            )
        return sample(
            denoise, noise, self.alpha_bar, self.parameterisation, self.steps,
            labels=labels, solver=self.name, spacing=self.spacing, clip=self.clip,
        )  # fmt: skip

    def pixels(
        self,
        denoise: DenoisingFunction,
        noise: Tensor,
        seed: int,
        labels: Tensor | None,
        device: torch.device,
        size: int,
        decode: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> Tensor:
        """Generate uint8 images, on the CPU.

        Args:
            denoise: as of `sample_by_scheduler`.
            noise: standard normal, ``[images, channels, height, width]``.
            seed: of the noise that a stochastic scheduler adds.
            labels: int64 ``[images]`` for a class-conditional network.
            device: of the network.
            size: images generated at once while the memory suffices.
            decode: maps what is sampled to images in [-1, 1], for latents.
        """

        def make(start: int, stop: int) -> Tensor:
            classes = None if labels is None else labels[start:stop].to(device)
            seeds = [(seed * 1_000_003 + index) & 0x7FFFFFFF for index in range(start, stop)]
            return to_uint8(decode(self(denoise, noise[start:stop].to(device), seeds, classes))).cpu()

        return torch.cat(list(in_batches(len(noise), size, make)))
