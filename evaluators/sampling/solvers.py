"""DPM-Solver++ and DDIM: images from a trained network in few deterministic steps.

Written out here because diffusers' schedulers cost a trial over a second of imports; a test compares both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from nni_diffnas.api.errors import TrialFailure

from ..training.losses import Parameterisation

__all__ = [
    "SOLVERS",
    "DenoisingFunction",
    "Solver",
    "Spacing",
    "initial_noise",
    "sample",
    "sampling_timesteps",
    "to_uint8",
]

DenoisingFunction = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Solver = Literal["dpm-solver++", "ddim"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
Spacing = Literal["log-snr", "trailing"]

ENDS = (-4.0, 3.0)
"""Least and largest ln(a / s) between which ``log-snr`` spaces: beyond them, an image is all noise, or all there."""


def sampling_timesteps(alpha_bar: Tensor, steps: int, spacing: Spacing = "log-snr") -> list[int]:
    """Timesteps in falling order, the last of training first.

    ``log-snr``: by equal steps of lambda = ln(a / s), in which a solver of this kind has its error: Lu et al.,
    "DPM-Solver" (2022), section 3.4. ``trailing``: equal steps of the timestep, as diffusers' spacing of this name;
    from a cosine schedule ten of them leave several times the error, and images of too little contrast
    (docs/studies/2026-11-distance-noise.md).

    Args:
        alpha_bar: of the training schedule, ``[T]``.
        steps: 1 to T.
        spacing: as said.
    """
    count = len(alpha_bar)
    if spacing == "trailing":
        return [round(count - index * count / steps) - 1 for index in range(steps)]
    known = alpha_bar.double().cpu().numpy()
    levels = 0.5 * np.log(known / (1.0 - known))
    wanted = np.linspace(max(ENDS[0], levels[-1]), min(ENDS[1], levels[0]), steps)[1:]
    times = [count - 1, *np.abs(levels[None] - wanted[:, None]).argmin(axis=1).tolist()]
    for index in range(1, steps):  # neighbours that share a timestep make room
        times[index] = min(times[index], times[index - 1] - 1)
    return [max(time, steps - 1 - index) for index, time in enumerate(times)]


def initial_noise(count: int, shape: tuple[int, int, int], seed: int, *, antithetic: bool = True) -> Tensor:
    """Standard normal noise, the same on every machine and for every architecture.

    Args:
        count: of the images.
        shape: of one, channels first.
        seed: of all.
        antithetic: each noise is followed by its negative, so that their mean is zero, and what of the images follows
            the noise linearly has a mean that does not hang on which were drawn. Every noise alone is standard normal.

    Returns:
        ``[count, *shape]``; the first of more noises are those of fewer.
    """
    generator = torch.Generator().manual_seed(seed)
    if not antithetic:
        return torch.randn(count, *shape, generator=generator)
    drawn = torch.randn((count + 1) // 2, *shape, generator=generator)
    return torch.stack([drawn, -drawn], dim=1).flatten(0, 1)[:count]


@torch.inference_mode()
def sample(
    denoise: DenoisingFunction,
    noise: Tensor,
    alpha_bar: Tensor,
    parameterisation: Parameterisation,
    steps: int,
    *,
    labels: Tensor | None = None,
    solver: Solver = "dpm-solver++",
    spacing: Spacing = "log-snr",
    clip: float | None = 1.0,
) -> Tensor:
    """Integrate the probability-flow equation from pure noise to images.

    With a = sqrt(alpha_bar), s = sqrt(1 - alpha_bar), lambda = log(a / s) and h the step of lambda:
    x_next = (s_next / s) x - a_next (exp(-h) - 1) D, where D is the predicted x_0 (DDIM, first order) or, with
    r = h_previous / h, D + (D - D_previous) / (2 r) (second order).
    Lu et al., "DPM-Solver++" (2022), algorithm 2; the first and last steps are of first order.

    Args:
        denoise: maps noised images ``[batch, channels, height, width]``, timesteps int64 ``[batch]`` and labels to the
            network's prediction.
        noise: standard normal, ``[batch, channels, height, width]``.
        alpha_bar: of the training schedule, ``[T]``.
        parameterisation: of the network.
        steps: network evaluations, 1 to T.
        labels: int64 ``[batch]`` for a class-conditional network.
        solver: first order (``ddim``) or second.
        spacing: of the timesteps, see `sampling_timesteps`.
        clip: largest magnitude of the predicted x_0; ``None``: any.

    Returns:
        Images, nominally in [-1, 1], the shape of ``noise``.
    """
    times = sampling_timesteps(alpha_bar, steps, spacing)
    signals = [math.sqrt(float(alpha_bar[time])) for time in times] + [1.0]
    noises = [math.sqrt(1.0 - float(alpha_bar[time])) for time in times] + [0.0]
    images, previous, previous_step = noise, None, 0.0
    for index, time in enumerate(times):
        a, s, a_next, s_next = signals[index], noises[index], signals[index + 1], noises[index + 1]
        batch_time = torch.full((len(images),), time, dtype=torch.int64, device=images.device)
        signal, noise_level = torch.tensor(a), torch.tensor(s)
        given = parameterisation.network_input(images, signal, noise_level)
        # Behind the prediction may come learned variances, for which a deterministic solver has no use.
        prediction = denoise(given, batch_time, labels).float()[:, : images.shape[1]]
        clean = parameterisation.clean(images, prediction, signal, noise_level)
        if clip is not None:
            clean = clean.clamp(-clip, clip)
        if s_next == 0.0:
            return clean
        step = math.log(a_next / s_next) - math.log(a / s)
        direction = clean
        if solver == "dpm-solver++" and previous is not None:
            direction = clean + (clean - previous) * (step / (2.0 * previous_step))
        images = (s_next / s) * images - a_next * math.expm1(-step) * direction
        previous, previous_step = clean, step
    return images


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, 0 to 255, rounded.

    Raises:
        TrialFailure: they are not finite, which would become images of some kind.
    """
    if not bool(torch.isfinite(images).all()):
        raise TrialFailure("The network draws images that are not finite numbers: the training diverged.")
    return images.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)
