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
        generate: images with the weights as they are, uint8 ``[images, channels, height, width]``; ``None``: no images.
        score: their distances by name, ``rfid`` among them.
        report: hears of everything measured.
        log: likewise.
        settings: of the trial; ``stop.rfid@25`` ends it where its ``rfid`` after 25 % of the budget is larger.
        signals: what else is measured of the weights as they are, by name; less is better.
    """

    def __init__(
        self,
        points: int,
        generate: Callable[[], NDArray[np.uint8]] | None,
        score: Callable[[NDArray[np.uint8]], Mapping[str, float]],
        report: Callable[[Mapping[str, float]], None],
        log: TensorBoardLog | None = None,
        settings: Mapping[str, Value] | None = None,
        signals: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self.points, self.generate, self.score, self.report = points, generate, score, report
        self.log, self.settings, self.signals = log, settings or {}, signals
        self.scored = 0
        self.rungs: dict[str, float] = {}
        """``rfid@25`` and the like: what was measured so far."""

    def __call__(self, progress: Progress) -> None:
        """Measure, report, and perhaps stop.

        Raises:
            Stopped: something measured is above the threshold that came with the trial.
        """
        measured: dict[str, float] = {}
        if 1.0 > progress.fraction >= (self.scored + 1) / (self.points + 1):
            self.scored = int(progress.fraction * (self.points + 1))
            measured = self._measure(progress.images)
        if self.log is not None:
            self.log.scalar("loss", progress.loss, progress.images)
        self.report({"loss": progress.loss, "images": float(progress.images), **measured})
        rungs = {rung_metric(name, self.scored / (self.points + 1)): value for name, value in measured.items()}
        self.rungs |= rungs
        for rung, value in rungs.items():
            limit = self.settings.get(rung_setting(rung))
            if isinstance(limit, int | float) and value > limit:
                raise Stopped(
                    f"stopped after {progress.images} images: its {rung.partition('@')[0]} is {value:.4g}, above "
                    f"{limit:.4g}, with which trials go on here"
                )

    def _measure(self, images: int) -> dict[str, float]:
        """Everything that is measured on the way, after so many images."""
        measured = dict(self.signals())
        for name, value in measured.items():
            if self.log is not None:
                self.log.scalar(name, value, images)
        if self.generate is not None:
            generated = self.generate()
            measured["rfid"] = self.score(generated)["rfid"]
            if self.log is not None:
                self.log.picture("samples", grid(generated[:64]), images)
                self.log.scalar(f"rfid of {len(generated)} images", measured["rfid"], images)
        return measured
