"""`Fidelities`: many networks trained up to the first rung of their training, and few of these to its end.

Successive halving spends as much on each rung (Jamieson & Talwalkar 2016): of ``eta`` networks that are trained up to
the first rung, one is trained to its end. Which networks come to the rung, and which of them goes on, the acquisition
function decides. A trial that has ended cannot be taken up again, so whoever goes on begins anew: its own trial costs
the rung once more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from nni_diffnas.api.space import Architecture, Value
from nni_diffnas.api.strategy import SearchView
from nni_diffnas.api.trial import BY_HAND, REFERENCE, Trial
from nni_diffnas.searching.halving import part_of_rung, rung_setting

__all__ = ["NOT_OURS", "Fidelities"]

NOT_OURS = ("default", BY_HAND, REFERENCE)
"""Origins of trials that say little of the choices: they are all of the default's kind."""

_NEVER = 1e30
"""Threshold that no metric passes, or that each does: JSON knows no infinity."""


class Fidelities:
    """What a search has trained briefly and what to its end.

    Args:
        search: that is observed.
        compared: metric that is measured at the rungs.
        eta: so many networks reach the first rung for each that is trained to its end.
    """

    def __init__(self, search: SearchView, compared: str, eta: float) -> None:
        self._search, self._compared, self._eta = search, compared, eta

    @property
    def rung(self) -> str | None:
        """Metric of the first rung, as ``loss@25``; ``None`` as long as no trial has measured it."""
        names = {name for trial in self._alike for name in trial.metrics if name.startswith(f"{self._compared}@")}
        return min(names, key=part_of_rung, default=None)

    @property
    def _alike(self) -> list[Trial]:
        protocol = self._search.about.protocol
        return [trial for trial in self._search.trials if trial.protocol == protocol]

    def briefly(self) -> Mapping[str, Value]:
        """Settings of a trial that ends at the first rung; none while no rung is known: it then goes to its end."""
        return {} if self.rung is None else {rung_setting(self.rung): -_NEVER}

    def to_the_end(self) -> Mapping[str, Value]:
        """Settings of a trial that passes the first rung, whatever it measures there."""
        return {} if self.rung is None else {rung_setting(self.rung): _NEVER}

    def waiting(self, taken: Collection[Architecture]) -> list[Trial]:
        """Trials that ended at the first rung, and whose networks have not been trained further, nor failed.

        Args:
            taken: networks that are about to be.
        """
        rung = self.rung
        if rung is None:
            return []
        brief = self.briefly()
        begun = [trial.architecture for trial in self._alike if trial.settings != brief]
        reached = [t for t in self._alike if t.settings == brief and t.status == "succeeded" and rung in t.metrics]
        return [trial for trial in reached if trial.architecture not in begun and trial.architecture not in taken]

    def due(self, taken: Sequence[Mapping[str, Value]]) -> bool:
        """Whether enough networks have come to the first rung for one more to be trained to its end.

        Args:
            taken: settings of the trials that are about to begin.
        """
        rung = self.rung
        if rung is None:
            return False
        brief = self.briefly()
        ours = [trial for trial in self._alike if trial.origin.kind not in NOT_OURS]
        reached = sum(trial.settings == brief and rung in trial.metrics for trial in ours)
        whole = [trial.settings for trial in ours if trial.settings != brief and trial.status != "failed"]
        whole += [settings for settings in taken if settings != brief]
        return reached >= self._eta * len(whole)
