"""What a trial measures on its way, and whether it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nni_diffnas.api.errors import DiffNASError
from nni_diffnas.api.space import Value
from nni_diffnas.searching.halving import rung_metric, rung_setting

from ..images.pictures import TensorBoardLog, grid
from ..training.loop import Progress

__all__ = ["Curve", "Stopped"]


class Stopped(DiffNASError):
    """A trial fell behind and ends itself; no failure."""


class Curve:
    """Scores the network at evenly spread points of its training; falls in at every report of `denoising.train`.

    Args:
        points: how many; point k of n is at k / (n + 1) of the budget.
        generate: images with the weights as they are, uint8 ``[images, channels, height, width]``.
        score: their distances by name, ``rfid`` among them.
        report: hears of everything measured.
        log: likewise.
        settings: of the trial; ``stop.rfid@25`` ends it where its ``rfid`` after 25 % of the budget is larger.
    """

    def __init__(
        self,
        points: int,
        generate: Callable[[], NDArray[np.uint8]],
        score: Callable[[NDArray[np.uint8]], Mapping[str, float]],
        report: Callable[[Mapping[str, float]], None],
        log: TensorBoardLog | None = None,
        settings: Mapping[str, Value] | None = None,
    ) -> None:
        self.points, self.generate, self.score, self.report = points, generate, score, report
        self.log, self.settings = log, settings or {}
        self.scored = 0
        self.rungs: dict[str, float] = {}
        """``rfid@25`` and the like: what was measured so far."""

    def __call__(self, progress: Progress) -> None:
        """Measure, report, and perhaps stop.

        Raises:
            Stopped: the distance is above the threshold that came with the trial.
        """
        metrics = {"loss": progress.loss, "images": float(progress.images)}
        if due := 1.0 > progress.fraction >= (self.scored + 1) / (self.points + 1):
            self.scored = int(progress.fraction * (self.points + 1))
            generated = self.generate()
            metrics["rfid"] = self.score(generated)["rfid"]
            if self.log is not None:
                self.log.picture("samples", grid(generated[:64]), progress.images)
                self.log.scalar(f"rfid of {len(generated)} images", metrics["rfid"], progress.images)
        if self.log is not None:
            self.log.scalar("loss", progress.loss, progress.images)
        self.report(metrics)
        if due:
            self._stop(metrics["rfid"], self.scored / (self.points + 1), progress)

    def _stop(self, distance: float, fraction: float, progress: Progress) -> None:
        name = rung_metric("rfid", fraction)
        self.rungs[name] = distance
        limit = self.settings.get(rung_setting(name))
        if isinstance(limit, int | float) and distance > limit:
            raise Stopped(
                f"stopped after {progress.images} images: its rfid is {distance:.4g}, above {limit:.4g}, with which "
                f"trials go on here"
            )
