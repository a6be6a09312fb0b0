"""What a search found: its best, median and default architectures, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..api.trial import BY_HAND, RECOMMENDED, REFERENCE, Objective, Trial, ranked_together
from .formats import format_cost

__all__ = ["Outcome", "why_broken"]

MAX_FAILURES_IN_A_ROW = 5
"""A job that is broken must not burn a night: after so many failures in a row the search ends."""


def why_broken(ended: Sequence[Trial]) -> str:
    """Say why a search has to end although its strategy has more to suggest; empty while it may go on.

    Args:
        ended: trials of this search, in the order in which they ended; those from before a resume do not count, or what
            the user has repaired could not go on.
    """
    last = [trial for trial in ended if trial.ending is None or not trial.ending.faultless][-MAX_FAILURES_IN_A_ROW:]
    if len(last) < MAX_FAILURES_IN_A_ROW or any(trial.status != "failed" for trial in last):
        return ""
    return f"{MAX_FAILURES_IN_A_ROW} trials in a row failed, the last because: {last[-1].reason}"


@dataclass(frozen=True)
class Outcome:
    """Ranking of the successful trials of one search.

    Args:
        objective: what ranks them.
        ranked: successful trials that can be ranked together, best first; without a `REFERENCE`.
        failed: number of failed trials.
        ended: number of all that have ended, whether they can be ranked or not.
        default: the trial of the space's default architecture (or teacher), where it was measured.
        by_hand: the best trial of the default scaled to the budget by hand, where there is one.
    """

    objective: Objective
    ranked: tuple[Trial, ...]
    failed: int
    ended: int
    default: Trial | None
    by_hand: Trial | None = None

    @classmethod
    def of(cls, trials: Sequence[Trial], objective: Objective) -> Outcome:
        """Rank trials, those that `ranked_together` lets; equal scores keep their order of submission."""
        alike = ranked_together(trials)
        succeeded = [trial for trial in alike if trial.status == "succeeded" and objective.metric in trial.metrics]
        scored = [(score, trial) for trial in succeeded if (score := objective.score(trial.metrics)) is not None]
        ranked = tuple(trial for _, trial in sorted(scored, key=lambda pair: pair[0], reverse=True))
        default = next((trial for trial in succeeded if trial.origin.kind in ("default", REFERENCE)), None)
        by_hand = next((trial for trial in ranked if trial.origin.kind == BY_HAND), None)
        counts = Counter(trial.status for trial in trials)
        return cls(objective, ranked, counts["failed"], counts["failed"] + counts["succeeded"], default, by_hand)

    @property
    def best(self) -> Trial | None:
        """The best trial."""
        return self.ranked[0] if self.ranked else None

    @property
    def recommended(self) -> Trial | None:
        """The best trial of what the space recommends for the budget, where it recommends anything."""
        return next((trial for trial in self.ranked if trial.origin.kind == RECOMMENDED), None)

    @property
    def known(self) -> dict[str, Trial]:
        """What needs no search, by name: by hand, recommended, default; those that have scores."""
        listed = {"by hand": self.by_hand, "recommended": self.recommended, "default": self.default}
        return {name: trial for name, trial in listed.items() if trial is not None}

    @property
    def found(self) -> tuple[Trial, ...]:
        """What the search found itself, best first: neither the default network nor one by hand."""
        kinds = ("default", REFERENCE, BY_HAND)
        known = [trial.architecture for trial in (*self.ranked, self.default) if trial and trial.origin.kind in kinds]
        return tuple(trial for trial in self.ranked if trial.architecture not in known)

    @property
    def challenger(self) -> Trial | None:
        """The best that the search found itself."""
        return self.found[0] if self.found else None

    def ahead_of(self, trial: Trial) -> list[Trial]:
        """Which of the networks that a search has to beat score as well as a trial, or better: by hand, the default."""
        metric, sign = self.objective.metric, 1 if self.objective.direction == "minimize" else -1
        ours, known = sign * float(trial.metrics[metric]), (self.by_hand, self.default)
        return [other for other in known if other is not None and sign * float(other.metrics[metric]) <= ours]

    @property
    def median(self) -> Trial | None:
        """The trial in the middle of the ranking (the better one of two)."""
        return self.ranked[(len(self.ranked) - 1) // 2] if self.ranked else None

    def describe(self) -> str:
        """Write a small table for the terminal."""
        if self.best is None:
            return f"No trial succeeded ({self.failed} failed): see the reasons above and in the trials' result.json."
        name = self.objective.metric
        lines = [f"{'':11} {name:>10}  cost"]
        known = {title: trial for title, trial in self.known.items() if title != "default"}
        for title, trial in {"best": self.best, **known, "median": self.median, "default": self.default}.items():
            if trial is None:
                lines.append(f"{title:11} {'-':>10}  not trained")
            else:
                lines.append(f"{title:11} {trial.metrics[name]:>10.4g}  {format_cost(trial.cost)}   ({trial.id})")
        chosen = ", ".join(f"{label}={value}" for label, value in self.best.architecture.items())
        origin = self.best.origin
        lines.append(f"best architecture ({origin.kind} by {origin.strategy}): {chosen}")
        lines += self._caveats()
        if self.failed:
            lines.append(f"{self.failed} of {self.ended} trials failed")
        return "\n".join(lines)

    def _caveats(self) -> list[str]:
        """What must be said beside a best trial that is not ahead of what a search has to beat."""
        assert self.best is not None
        name, lines, next_best = self.objective.metric, [], self.challenger
        ahead = [] if next_best is None else self.ahead_of(next_best)
        if next_best is not None and (rivals := [trial for trial in ahead if trial.origin.kind != REFERENCE]):
            beaten_by = " or ".join(
                f"the {'network by hand' if t is self.by_hand else 'default network'}" for t in rivals
            )
            lines.append(
                f"No trial beat {beaten_by}; the next best is {next_best.id} ({next_best.metrics[name]:.4g}). "
                f"Search longer: raise maxTrialNumber, or start from these trials with warm_start in the job."
            )
        if self.best.origin.kind == RECOMMENDED:
            lines.append("The best is the network that the space recommends for this budget: no trial beat it.")
        for trial in self.ahead_of(self.best):
            if trial.origin.kind == REFERENCE:
                which = "same" if trial.metrics[name] == self.best.metrics[name] else "better"
                score = f"{which} {name} ({trial.metrics[name]:.4g})"
                lines.append(f"The default network, which is no candidate here, has the {score}.")
        if len(self.ranked) > 1 and len({trial.metrics[name] for trial in self.ranked}) == 1:
            lines.append(
                f"All {len(self.ranked)} scored trials have the very same {name}, so that none is better than another: "
                f"train them longer, or rank them by another objective.metric."
            )
        return lines
