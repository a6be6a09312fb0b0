"""`NoiseAwarePredictor`: guidance as in the paper (arXiv 2305.16943), by a predictor that has seen noised networks."""

from __future__ import annotations

import torch

from .encoding import Encoding
from .generator import NoiseLevels
from .network import Tilt

__all__ = ["NoiseAwarePredictor"]


class NoiseAwarePredictor:
    """Predicts the target of ``x0`` from ``x`` and ``sigma``; its gradient in ``x`` is added to the score.

    Args:
        encoding: of the space.
        levels: of noise: those of the generator.
        seed: of weights and noise.
        width: of the hidden layers.
    """

    def __init__(self, encoding: Encoding, levels: NoiseLevels, seed: int, width: int = 64) -> None:
        self.levels = levels
        self.noise = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = torch.nn.Sequential(
                torch.nn.Linear(encoding.labels * encoding.width + 1, width),
                torch.nn.SiLU(),
                torch.nn.Linear(width, width),
                torch.nn.SiLU(),
                torch.nn.Linear(width, 1),
            )

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """``n`` predicted targets of ``n x L x V`` matrices noised by ``n`` levels."""
        scaled = (x / (1 + sigma**2).sqrt()[:, None, None]).flatten(1)
        predicted: torch.Tensor = self.network(torch.cat([scaled, sigma.log()[:, None] / 4], dim=1))[:, 0]
        return predicted

    def fit(self, matrices: torch.Tensor, targets: torch.Tensor, steps: int = 200, batch: int = 128) -> None:
        """Learn from clean architectures, noised anew in each step.

        Args:
            matrices: ``n x L x V`` one-hot.
            targets: ``n``, of standard deviation about 1: guidance strengths then mean the same in every space.
            steps: of AdamW.
            batch: architectures in each.
        """
        x0, y = 2 * matrices - 1, targets.float()
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=3e-3, weight_decay=1e-2, fused=True)
        for _ in range(steps):
            rows = torch.randint(len(x0), (batch,), generator=self.noise)
            sigma = self.levels.at(torch.rand(batch, generator=self.noise))
            x = x0[rows] + sigma[:, None, None] * torch.randn(x0[rows].shape, generator=self.noise)
            loss = (self(x, sigma) - y[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.network.requires_grad_(False)

    def tilt(self, strength: float) -> Tilt:
        """Guidance: ``score + strength * gradient``.

        A row's evidence is ``2 x / sigma^2``, and a score ``g`` moves ``x`` by ``sigma^2 g``: evidence ``2 g``.

        Args:
            strength: nats for each standard deviation of the targets.
        """

        def tilt(x: torch.Tensor, sigma: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                leaf = x.detach().requires_grad_(True)
                (gradient,) = torch.autograd.grad(self(leaf, sigma).sum(), leaf)
            return torch.nn.functional.pad(2 * strength * gradient, (0, 1)).clamp(-20.0, 20.0)

        return tilt
