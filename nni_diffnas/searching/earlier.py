"""`Earlier`: trials that were recorded before, by this search, others, or an earlier release."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    def describe(self, given: Sequence[Trial], serving: Sequence[Trial], about: About) -> str:
        """Say how many trials of a warm start count; empty where none was given.

        Args:
            given: all of them.
            serving: those that count, see `serving`.
            about: the search that they warm.
        """
        others = [trial for trial in given if trial.experiment != about.experiment]
        text = f"of {len(others)} trials of warm_start {len(serving)} count"
        if len(serving) == len(others):
            return text if others else ""
        foreign = sorted({trial.protocol for trial in others} - {about.protocol})
        scored = f", as by {foreign[0]!r} instead of {about.protocol!r}" if foreign else ""
        return f"{text}: the others have not ended, lie outside this space or were scored by another protocol{scored}"

    def _inside(self, trial: Trial) -> bool:
        try:
            return self.space.validate(trial.architecture) == trial.architecture
        except SpaceError:
            return False
