"""`Generator`: trains the denoiser on random architectures of a space and samples new ones, guided or not."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.space import Space

from .encoding import Encoding
from .network import Denoiser, Tilt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .encoding import Indices

__all__ = ["Admits", "Generator", "NoiseLevels"]

_FORMAT = 1

_RESTART = 0.6
"""Position among the noise levels to which restarts go back: about half of the values are still open there."""

Admits = Callable[["Indices"], "NDArray[np.bool_]"]
"""``n x L`` valid architectures to ``n`` flags."""


@dataclass(frozen=True)
class NoiseLevels:
    """Noise levels of training and of sampling, in the scale of ``x0``: one object serves both.

    Levels are spaced as in EDM (Karras et al. 2022, eq. 5): ``sigma_i = (max^(1/rho) + i / (N - 1) (min^(1/rho) -
    max^(1/rho)))^rho``. Training draws the position ``i / (N - 1)`` uniformly from [0, 1], so that the sampler never
    meets a level that the network has not seen.

    Args:
        low: the lowest; here a value has become certain.
        high: the highest; here nothing of ``x0`` can be seen.
        rho: spacing.
    """

    low: float = 0.25
    high: float = 8.0
    rho: float = 4.0

    def at(self, position: torch.Tensor) -> torch.Tensor:
        """Level at positions from 0 (highest) to 1 (lowest)."""
        high, low = self.high ** (1 / self.rho), self.low ** (1 / self.rho)
        levels: torch.Tensor = (high + position * (low - high)) ** self.rho
        return levels


class Generator:
    """Diffusion model over the architectures of a space.

    Args:
        space: what is searched.
        levels: of noise.
        seed: of weights and training.
    """

    def __init__(self, space: Space, levels: NoiseLevels | None = None, seed: int = 0) -> None:
        self.encoding = Encoding(space)
        self.levels = levels or NoiseLevels()
        self.seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.denoiser = Denoiser(self.encoding)

    # Training --------------------------------------------------------------------------------------------------------

    def train(self, steps: int = 400, batch: int = 128, data: Indices | None = None) -> list[float]:
        """Fit the denoiser to random architectures; no scores are needed.

        Args:
            steps: of Adam, at least 1; the learning rate falls from 2e-3 to 0 along a cosine.
            batch: architectures in each.
            data: ``n x L`` architectures to learn from; by default fresh ones are drawn uniformly for each step.

        Returns:
            The loss of each step, in nats per label.
        """
        rng = np.random.default_rng(self.seed)
        noise = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(self.denoiser.parameters(), lr=2e-3, betas=(0.9, 0.99), fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        losses = []
        for _ in range(steps):
            drawn = self.encoding.sample(batch, rng) if data is None else data[rng.integers(len(data), size=batch)]
            x0 = 2 * self.encoding.one_hot(drawn) - 1
            sigma = self.levels.at(torch.rand(batch, generator=noise))
            x = x0 + sigma[:, None, None] * torch.randn(x0.shape, generator=noise)
            target = torch.from_numpy(np.where(drawn < 0, self.encoding.width, drawn))
            loss = nn.functional.cross_entropy(self.denoiser.logits(x, sigma).flatten(0, 1), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        self.denoiser.eval().requires_grad_(False)
        return losses

    # Sampling --------------------------------------------------------------------------------------------------------

    def sample(
        self,
        count: int,
        noise: torch.Generator,
        tilt: Tilt | None = None,
        *,
        steps: int = 12,
        start: Indices | None = None,
        start_position: float = 0.0,
    ) -> torch.Tensor:
        """Sample matrices along the probability-flow ODE ``dx/dsigma = (x - D(x; sigma)) / sigma``.

        By Heun's method, or, guided, by Euler's: guidance is only known to first order, and is what takes the time.

        Args:
            count: how many.
            noise: source of randomness.
            tilt: guidance; see `Tilt`.
            steps: noise levels; as many evaluations of the network where it is guided, else ``2 steps - 1``.
            start: ``count x L`` architectures to start from instead of nothing, noised to the level at
                ``start_position``.
            start_position: where in [0, 1) of the noise levels to start.

        Returns:
            ``count x L x V`` in the scale of ``x0``, to be read by `Encoding.decode`.
        """
        positions = start_position + (1 - start_position) * torch.linspace(0, 1, steps)
        sigmas = [*self.levels.at(positions).tolist(), 0.0]
        shape = (count, self.encoding.labels, self.encoding.width)
        # Noise alone has mean 0 and x0 has not: where labels can be absent, even the highest level would show that.
        middle = self.denoiser.prior() if start is None else 2 * self.encoding.one_hot(start) - 1
        x: torch.Tensor = middle + sigmas[0] * torch.randn(shape, generator=noise)
        for here, there in itertools.pairwise(sigmas):
            slope = (x - self.denoise(x, here, tilt)) / here
            stepped = x + (there - here) * slope
            if there > 0 and tilt is None:
                slope = (slope + (stepped - self.denoise(stepped, there, tilt)) / there) / 2
                stepped = x + (there - here) * slope
            x = stepped
        return x

    @torch.no_grad()
    def denoise(self, x: torch.Tensor, sigma: float, tilt: Tilt | None = None) -> torch.Tensor:
        """``D(x; sigma)``, tilted by guidance, in the scale of ``x0``."""
        denoised: torch.Tensor = self.denoiser(x, torch.full((len(x),), sigma), tilt)
        return denoised

    def architectures(self, count: int, noise: torch.Generator, **options: Any) -> tuple[Indices, NDArray[np.bool_]]:
        """Sample and decode: ``count x L`` indices and whether each is valid. Nothing is repaired or replaced."""
        return self.encoding.decode(self.sample(count, noise, **options))

    def within(
        self,
        count: int,
        noise: torch.Generator,
        admits: Admits,
        *,
        rounds: int = 12,
        enough: float = 1.0,
        **options: Any,
    ) -> tuple[Indices, NDArray[np.bool_]]:
        """Sample and decode; what is not admitted is noised half-way and denoised again, up to ``rounds`` times.

        Restarts (Xu et al. 2023, arXiv 2306.14878) correct what guidance by a differentiable copy of the cost leaves:
        in a lattice of choices, a narrow window needs rows that agree, and half-way up they can still be moved.

        Args:
            count: how many.
            noise: source of randomness.
            admits: ``n x L`` indices to ``n`` flags, exact.
            rounds: restarts at most.
            enough: part of the architectures that are to be admitted; then there is no further round.
            **options: of `sample`.

        Returns:
            ``count x L`` indices and whether each is valid. Some may still not be admitted.
        """
        indices, valid = self.architectures(count, noise, **options)
        restart = {**options, "start_position": _RESTART}
        for _ in range(rounds):
            wrong = np.flatnonzero(valid)[~admits(indices[valid])]
            if not len(wrong) or int(valid.sum()) - len(wrong) >= enough * count:
                break
            again, well = self.architectures(len(wrong), noise, **{**restart, "start": indices[wrong]})
            indices[wrong], valid[wrong] = again, well
        return indices, valid

    # Cache -----------------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Weights, noise levels and the space that they belong to."""
        levels = {"low": self.levels.low, "high": self.levels.high, "rho": self.levels.rho}
        body = {"format": _FORMAT, "space": self.encoding.space.key, "levels": levels, "seed": self.seed}
        stream = io.BytesIO()
        torch.save({**body, "weights": self.denoiser.state_dict()}, stream)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, space: Space) -> Generator:
        """Inverse of `to_bytes`.

        Raises:
            SpaceError: the generator is damaged, or was trained for another space.
        """
        try:
            body = torch.load(io.BytesIO(content), weights_only=True)
            if body["space"] != space.key or body["format"] != _FORMAT:
                raise SpaceError(
                    f"The cached generator was trained for space {body['space']}, this one is {space.key}: its labels "
                    f"have changed, so empty the cache and let it be trained again."
                )
            generator = cls(space, NoiseLevels(**body["levels"]), body["seed"])
            generator.denoiser.load_state_dict(body["weights"])
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            raise SpaceError(f"The cached generator of space {space.key} cannot be read: empty the cache.") from error
        generator.denoiser.eval().requires_grad_(False)
        return generator
