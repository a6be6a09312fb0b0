"""`Earlier`: trials that were recorded before, by this search, others, or an earlier release."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..api.errors import SpaceError
from ..api.space import Architecture, Space
from ..api.strategy import About
from ..api.trial import Trial

__all__ = ["Earlier"]


class Earlier:
    """Understands trials from a memory, and gives them back to it as they were.

    Args:
        space: what is searched.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._recorded: dict[str, Architecture] = {}

    def understood(self, trial: Trial) -> Trial:
        """The trial with its architecture as this space writes it, where an earlier release wrote it otherwise."""
        try:
            architecture = self.space.validate(trial.architecture)
        except SpaceError:
            return trial
        if architecture == trial.architecture:
            return trial
        self._recorded[trial.id] = trial.architecture
        return replace(trial, architecture=architecture)

    def as_recorded(self, trial: Trial) -> Trial:
        """The trial with its architecture as it was recorded: the memory keeps what it was told."""
        return replace(trial, architecture=self._recorded.get(trial.id, trial.architecture))

    def serving(self, trials: Iterable[Trial], about: About) -> list[Trial]:
        """Those of other experiments that tell this one something that can be compared.

        Args:
            trials: of a warm start.
            about: the search that they warm.
        """
        return [
            trial
            for trial in map(self.understood, trials)
            if trial.experiment != about.experiment
            and trial.status != "pending"
            and trial.protocol == about.protocol
            and self._inside(trial)
        ]

    def _inside(self, trial: Trial) -> bool:
        try:
            return self.space.validate(trial.architecture) == trial.architecture
        except SpaceError:
            return False
