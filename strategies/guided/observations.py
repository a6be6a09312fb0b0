"""`Observations`: the trials of a search as what the surrogates learn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nni_diffnas.api.cost import COSTS
from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.strategy import SearchView
from nni_diffnas.api.trial import REFERENCE, UNRANKED, Trial

from .cost_model import CostModel
from .encoding import Encoding
from .extrapolation import extrapolate
from .outcomes import Outcomes

__all__ = ["Known", "Observations"]


@dataclass(frozen=True)
class Known:
    """What the search has learned.

    Args:
        matrices: ``n x L x V`` one-hot matrices of the finished trials.
        targets: ``n x m`` targets, one column an objective, more is better.
        pending: ``k x L x V`` one-hot matrices of the trials under way.
        candidates: the first so many trials may win; the others only teach.
        doubt: ``n`` variances of the first column beside the noise that all share: of what was only extrapolated.
    """

    matrices: torch.Tensor
    targets: torch.Tensor
    pending: torch.Tensor
    candidates: int
    doubt: torch.Tensor

    def agrees(self, other: Known) -> bool:
        """Whether the finished trials are the same."""
        pairs = ((self.matrices, other.matrices), (self.targets, other.targets), (self.doubt, other.doubt))
        return all(torch.equal(ours, theirs) for ours, theirs in pairs)


class Observations:
    """What the trials of a search have shown.

    Args:
        search: that is observed.
        encoding: of its space.
        objectives: further metrics to minimise, those that are known exactly last.
        compared: metric by which trials are stopped on their way (`nni_diffnas.searching.halving.Halving`); the
            objective by default.
        cost_model: copy of the costs among them; ``None`` where there is none.
    """

    def __init__(
        self,
        search: SearchView,
        encoding: Encoding,
        objectives: Sequence[str],
        cost_model: CostModel | None,
        compared: str | None = None,
    ) -> None:
        self._search, self._encoding, self._cost_model = search, encoding, cost_model
        self.objectives = tuple(objectives)
        self._compared = compared or search.objective.metric

    @property
    def scored(self) -> list[Trial]:
        """Finished trials of this protocol with all objectives, in order of submission; a `REFERENCE` is none."""
        return [trial for trial in self._comparable if self.score(trial) is not None]

    @property
    def references(self) -> list[Trial]:
        """Trials that must not win, but have been scored as the others: the default network outside the budget."""
        return [t for t in self._comparable if t.origin.kind == REFERENCE and self._raw(t) is not None]

    @property
    def _comparable(self) -> list[Trial]:
        return [
            trial
            for trial in self._search.trials
            if trial.protocol == self._search.about.protocol
            and all(self._minimised(trial, name) is not None for name in self.objectives)
        ]

    @property
    def _stopped(self) -> list[Trial]:
        """Trials that ended well before their training did, and whose networks no other trial has taken further."""
        further = [t.architecture for t in self._comparable if self._raw(t) is not None]
        further += [t.architecture for t in self._failed]
        stopped = [t for t in self._comparable if t.status == "succeeded" and self._raw(t) is None]
        return [t for t in stopped if t.architecture not in further]

    @property
    def _failed(self) -> list[Trial]:
        protocol = self._search.about.protocol
        return [t for t in self._search.trials if t.status == "failed" and t.protocol == protocol]

    def score(self, trial: Trial) -> float | None:
        """The objective turned so that more is better; ``None`` where there is none, or it is not to be ranked."""
        return self._search.objective.score(trial.metrics)

    def refuse_missing(self, enough: int) -> None:
        """Refuse a further objective that none of the trials with a score has measured, once there are so many.

        Raises:
            StrategyError: there is one.
        """
        scored = [trial for trial in self._search.trials if self.score(trial) is not None]
        for name in self.objectives if len(scored) >= enough else ():
            if all(self._minimised(trial, name) is None for trial in scored):
                raise StrategyError(
                    f"objectives names {name!r}, which no trial so far has measured as a number above 0: leave it out, "
                    f"or name another metric."
                )

    def _raw(self, trial: Trial) -> float | None:
        """The same, whether it is to be ranked or not."""
        return self._search.objective.score({k: v for k, v in trial.metrics.items() if k != UNRANKED})

    def _minimised(self, trial: Trial, name: str) -> float | None:
        """Negative logarithm of a further objective; ``None`` where it is missing or not a positive number."""
        metrics = {**(trial.cost.as_metrics() if trial.cost else {}), **trial.metrics}
        value = metrics.get(name)
        return None if value is None or not 0 < value < math.inf else -math.log(value)

    def known(self, scored: Sequence[Trial], taken: Sequence[Architecture]) -> Known:
        """What surrogates are fitted to: scored trials first, then those that only teach.

        These are references; trials that were stopped on their way, by what their rungs let expect; and failed ones,
        which count as the worst.

        Args:
            scored: from `scored`; one at least.
            taken: architectures that count as pending beside those that are.
        """
        references, failed = self.references, self._failed
        complete = [*scored, *references]
        extrapolated = extrapolate(self._stopped, complete, self._compared, self._raw)
        found = [*complete, *(each.trial for each in extrapolated)]
        scores = np.array([*map(self._raw, complete), *(each.score for each in extrapolated)], dtype=np.float64)
        outcomes = Outcomes(np.append(scores[: len(scored)], scores[len(complete) :]))
        columns = [outcomes(np.append(scores, [scores.min()] * len(failed)))]
        deviations = np.array([0.0] * len(complete) + [each.deviation for each in extrapolated] + [0.0] * len(failed))
        apart = (outcomes(np.append(scores, [0.0] * len(failed)) + deviations) - outcomes(
            np.append(scores, [0.0] * len(failed)) - deviations
        )) / 2  # fmt: skip
        for name in self.objectives:
            values = np.array([self._minimised(trial, name) for trial in found], dtype=np.float64)
            worst = [values.min() if name not in COSTS else self._minimised(t, name) or values.min() for t in failed]
            columns.append((np.append(values, worst) - values.mean()) / (values.std() or 1.0))
        encoding = self._encoding
        architectures = [trial.architecture for trial in (*found, *failed)]
        pending = [*(trial.architecture for trial in self._search.pending), *taken]
        return Known(
            encoding.one_hot(encoding.indices(architectures)),
            torch.from_numpy(np.stack(columns, axis=1)),
            encoding.one_hot(encoding.indices(pending)),
            len(scored),
            torch.from_numpy(apart**2),
        )

    def exact(self, scored: Sequence[Trial]) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """For each objective that is a cost: inputs of the surrogates to its target, scaled as the column is."""
        found: list[Callable[[torch.Tensor], torch.Tensor]] = []
        for name in self.objectives:
            if name not in COSTS or self._cost_model is None:
                continue
            complete = [*scored, *self.references]
            stopped = [each.trial for each in extrapolate(self._stopped, complete, self._compared, self._raw)]
            values = np.array([self._minimised(trial, name) for trial in complete + stopped], dtype=np.float64)
            mean, deviation = float(values.mean()), float(values.std()) or 1.0
            model = self._cost_model
            at = model.names.index(name) - len(model.names)  # the costs are the last inputs of the surrogates
            slope = -float(model.deviation[at]) / deviation
            offset = (-float(model.mean[at]) - mean) / deviation

            def target(x: torch.Tensor, at: int = at, slope: float = slope, offset: float = offset) -> torch.Tensor:
                return x[..., at, None] * slope + offset

            found.append(target)
        return found
