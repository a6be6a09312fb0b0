"""`History`: the trials of one running search, as its strategy sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from ..api.ending import Ending
from ..api.errors import StrategyError
from ..api.space import Architecture, Value, digest
from ..api.trial import Metrics, Trial

__all__ = ["History"]


class History:
    """Trials by id, in order of submission, each of which ends once."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.ended: dict[str, Trial] = {}
        """Those that have ended since this object was made, in the order in which they did."""
        self._known: set[str] = set()
        self._begun: dict[str, float] = {}

    def add(self, trial: Trial, *, now: bool = False) -> None:
        """Know of a trial from here on; ``now``: it begins at this moment, and its seconds are counted."""
        self.trials[trial.id] = trial
        self._known.add(self._identity(trial.architecture, trial.settings))
        if now:
            self._begun[trial.id] = time.monotonic()

    def knows(self, architecture: Architecture, settings: Mapping[str, Value]) -> bool:
        """Whether there is a trial of this architecture with these settings."""
        return self._identity(architecture, settings) in self._known

    @property
    def distinct(self) -> int:
        """How many different trials there are."""
        return len(self._known)

    @staticmethod
    def _identity(architecture: Architecture, settings: Mapping[str, Value]) -> str:
        return digest([architecture, dict(settings)])

    def succeed(self, trial_id: str, metrics: Metrics, job_id: str) -> Trial | None:
        """End a trial, even one that was given up, with its metrics; ``None`` where it had ended before.

        Raises:
            StrategyError: the id is unknown.
        """
        if self._get(trial_id).open:
            self.trials[trial_id] = replace(self.trials[trial_id], status="pending")
        return self._end(trial_id, lambda t, s: t.succeeded(metrics, seconds=s, job_id=job_id))

    def fail(self, trial_id: str, reason: str | Ending, job_id: str) -> Trial | None:
        """End a trial without metrics; ``None`` where it had ended before.

        Raises:
            StrategyError: the id is unknown.
        """
        return self._end(trial_id, lambda t, s: t.failed(reason, seconds=s, job_id=job_id))

    def _get(self, trial_id: str) -> Trial:
        if trial_id not in self.trials:
            raise StrategyError(f"Trial {trial_id!r} is unknown to this search: it was started by another one.")
        return self.trials[trial_id]

    def _end(self, trial_id: str, end: Callable[[Trial, float | None], Trial]) -> Trial | None:
        trial = self._get(trial_id)
        if trial.status != "pending":
            return None
        begun = self._begun.pop(trial_id, None)
        ended = end(trial, None if begun is None else round(time.monotonic() - begun, 3))
        self.trials[trial_id] = ended
        self.ended.pop(trial_id, None)  # given up before
        self.ended[trial_id] = ended
        return ended
