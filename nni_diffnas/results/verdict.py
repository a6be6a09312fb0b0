"""Does the search pay? The winner beside what a hand would do, and beside the default, with intervals.

The best of many trials looks better than it is: it was chosen for its score. So `judging.judge` trains it again with
fresh seeds, with the best network by hand at the budget and the default, and scores all on held-out images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from statistics import fmean
from typing import Any

from ..api.cost import COSTS, Cost
from ..api.errors import JobError
from ..api.trial import BY_HAND, Objective
from ..files.whole_file import written_whole
from .intervals import Contrast, contrast, level_of

__all__ = ["DEFAULT", "VERDICT_FILE", "WINNER", "Judged", "Verdict", "read_verdict"]

VERDICT_FILE = "verdict.json"
"""In the verdict's folder: its scores, for the report."""

WINNER = "winner"
"""Kind of the judged network that the search has found."""

DEFAULT = "default"
"""Kind of the space's default network, and of a teacher."""


@dataclass(frozen=True)
class Judged:
    """One network with its scores on held-out images.

    Args:
        name: unique in its verdict, e.g. ``winner``, ``by hand (narrower)``.
        kind: `WINNER`, `BY_HAND`, `DEFAULT`, or empty for a further one.
        scores: value of the objective's metric for each fresh seed.
        cost: where it is known.
        trial: its id in the search; empty where it is none of its trials.
        runs: names of the folders of its trainings, within the verdict's.
        recommended: the space recommends it, so that no search had to find it.
    """

    name: str
    kind: str
    scores: tuple[float, ...]
    cost: Cost | None = None
    trial: str = ""
    runs: tuple[str, ...] = ()
    recommended: bool = False

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return fmean(self.scores)


@dataclass(frozen=True)
class Verdict:
    """The networks that were judged, and what follows.

    Args:
        objective: what is compared.
        networks: the winner, those by hand, the default, further ones; all but the winner may be missing.
        output: folder with a folder for each training: samples, the nearest training images below them, weights.
        quantity: cost in which the budget is stated: ``macs``, ``params`` or ``latency_ms``.
        paired: intervals are those of the differences seed by seed.
        looks: numbers of seeds after which the comparison may end; the last is the most.
        longer: training as a multiple of a trial's.
    """

    objective: Objective
    networks: tuple[Judged, ...]
    output: Path
    quantity: str = "macs"
    paired: bool = False
    looks: tuple[int, ...] = (3,)
    longer: float = 1.0

    @property
    def winner(self) -> Judged:
        """The network that the search has found."""
        return next(network for network in self.networks if network.kind == WINNER)

    @property
    def by_hand(self) -> Judged | None:
        """The best network by hand; ``None`` where none was judged."""
        best = min if self.objective.direction == "minimize" else max
        return best(self._by_hand, key=lambda network: network.mean, default=None)

    @property
    def default(self) -> Judged | None:
        """The default network, or the teacher of students."""
        return next((network for network in self.networks if network.kind == DEFAULT), None)

    @property
    def yardstick(self) -> Judged | None:
        """What the winner has to beat: the best by hand, else the default."""
        return self.by_hand or self.default

    @property
    def _by_hand(self) -> list[Judged]:
        return [network for network in self.networks if network.kind == BY_HAND]

    def level(self, other: Judged) -> float:
        """Level of the interval against a network, such that those of all looks and choices hold with 95 %."""
        return level_of(len(self.looks), len(self._by_hand) if other.kind == BY_HAND else 1)

    def against(self, other: Judged) -> Contrast:
        """The winner compared with another of the networks."""
        return contrast(self.winner.scores, other.scores, self.level(other), paired=self.paired)

    def beats(self, other: Judged) -> bool | None:
        """Whether the winner is better than another network; ``None`` where they are not told apart."""
        sign = self.against(other).sign
        return None if sign == 0 else (sign < 0) == (self.objective.direction == "minimize")

    @property
    def better(self) -> bool | None:
        """Whether the winner is better than what it has to beat; ``None`` where they are not told apart.

        Of several networks by hand it has to beat each: the one that looks best need not be it.
        """
        rivals = self._by_hand or ([] if self.default is None else [self.default])
        found = [self.beats(rival) for rival in rivals]
        if False in found:
            return False
        return True if found and None not in found else None

    @property
    def cost_words(self) -> str:
        """The quantity of the budget, in words."""
        return COSTS.get(self.quantity, self.quantity)

    @property
    def share(self) -> float | None:
        """What the winner costs of the default in the budget's quantity; ``None`` where that is not known."""
        ours, theirs = (_cost(network, self.quantity) for network in (self.winner, self.default))
        return ours / theirs if ours is not None and theirs else None

    def save(self) -> None:
        """Write `VERDICT_FILE` into the output folder."""
        body = {**asdict(self)}
        del body["output"]
        with written_whole(self.output / VERDICT_FILE) as draft:
            draft.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Verdict:
        """Read what `save` has written, by version 0.1 too.

        Raises:
            JobError: the file is damaged.
        """
        try:
            body = json.loads(file.read_text(encoding="utf-8"))
            objective = Objective(**body.pop("objective"))
            if "networks" not in body:
                return cls(objective, _version_0_1(body, file.parent), file.parent)
            networks = tuple(_judged(network) for network in body.pop("networks"))
            return cls(objective, networks, file.parent, **{**body, "looks": tuple(body["looks"])})
        except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
            raise JobError(
                f"The verdict {file} cannot be read: compute it again with 'nni-diffnas verdict'."
            ) from error


def _cost(network: Judged | None, quantity: str) -> float | None:
    return None if network is None or network.cost is None else network.cost.as_metrics().get(quantity)


def _judged(body: Mapping[str, Any]) -> Judged:
    cost = body["cost"]
    lists = {name: tuple(body[name]) for name in ("scores", "runs")}
    if not all(PurePath(run).name == run for run in lists["runs"]):
        raise ValueError("a run is a folder beside the verdict")  # of a stranger's file, which may name others
    return Judged(**{**body, **lists, "cost": None if cost is None else Cost(**cost)})


def _version_0_1(body: Mapping[str, Any], folder: Path) -> tuple[Judged, ...]:
    costs: list[Cost | None] = [Cost(**cost) for cost in body.get("costs", [])]
    winner, default = (
        Judged(kind, kind, tuple(body[kind]), cost, runs=tuple(sorted(run.name for run in folder.glob(f"{kind}-*"))))
        for kind, cost in zip((WINNER, DEFAULT), costs or [None, None], strict=True)
    )
    return Judged(**{**vars(winner), "trial": str(body["trial"])}), default


def read_verdict(experiment: Path) -> Verdict | None:
    """The verdict in an experiment's folder; ``None`` where none was computed.

    Raises:
        JobError: its file is damaged.
    """
    file = experiment / "verdict" / VERDICT_FILE
    return Verdict.load(file) if file.is_file() else None
