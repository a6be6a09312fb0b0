"""An evaluator of one's own: how well a network denoises the two-moons data set."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

from nni_diffnas.api.errors import JobError, TrialFailure
from nni_diffnas.api.evaluation import Evaluation, TrialContext

if TYPE_CHECKING:
    import torch

__all__ = ["Denoise2D"]


class Denoise2D(Evaluation):
    """Train on noised two-moons points; the score is the mean squared error of the predicted noise.

    Args:
        data: nothing to say; the points are made.
        steps: of training, at least 1.
        seconds: to wait on top, so that a trial lasts as long as a real one.
        fail_width: a width of the first layer whose training is made to diverge; ``None`` never.

    Raises:
        JobError: no steps.
    """

    def __init__(
        self, data: dict[str, Any], steps: int = 100, seconds: float = 0.0, fail_width: int | None = None
    ) -> None:
        if steps < 1:
            raise JobError(f"evaluator.steps is {steps}: train for at least one step.")
        self.steps, self.seconds, self.fail_width = steps, seconds, fail_width

    @property
    def protocol(self) -> str:
        """The steps are all that matters."""
        return f"denoise2d/{self.steps} steps"

    def prepare(self) -> None:
        """Nothing is shared."""

    def evaluate(self, model: torch.nn.Module, context: TrialContext) -> dict[str, float]:
        """Train and report the error on fresh points."""
        import torch

        generator = torch.Generator().manual_seed(context.seed)

        def error(count: int) -> torch.Tensor:
            angle = torch.rand(count, generator=generator) * math.pi
            side = (torch.rand(count, generator=generator) > 0.5).float() * 2 - 1
            points = torch.stack([side * angle.cos() + (1 - side) / 2, side * angle.sin() + (1 - side) / 4], 1)
            noise = torch.randn(count, 2, generator=generator)
            log_sigma = torch.randn(count, 1, generator=generator) - 1
            noisy = torch.cat([points + log_sigma.exp() * noise, log_sigma], 1)
            return (model(noisy) - noise).square().mean()

        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(self.steps):
            loss = error(256)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % max(1, self.steps // 4) == 0:
                context.report({"error": loss.item()})
        time.sleep(self.seconds)
        if self.fail_width is not None and context.architecture.get("layer0.width") == self.fail_width:
            raise TrialFailure("the loss is not finite after training: lower the learning rate.")
        with torch.no_grad():
            return {"error": error(4096).item()}
