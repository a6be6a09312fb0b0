"""`Evaluation`: turns a built network into metrics; what an evaluator plug-in offers. Free of NNI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import JobError
from .family import Family
from .space import Architecture, Value
from .trial import Objective

if TYPE_CHECKING:
    import torch

__all__ = ["Evaluation", "TrialContext"]


def _ignore(metrics: Mapping[str, float]) -> None:
    """Report nothing: the trial runs alone."""


@dataclass(frozen=True)
class TrialContext:
    """What the door tells an evaluation about the trial.

    Args:
        architecture: of the network that is evaluated; empty for a stranger's network.
        output: folder for weights, samples and the TensorBoard log; exists.
        seed: of everything random in the trial.
        report: call it with intermediate metrics while training; NNI shows them as the trial's curve.
        settings: further scalars that the strategy sent with the parameters.
        family: that built the network; ``None`` for a network of a stranger's space.
    """

    architecture: Architecture
    output: Path
    seed: int = 0
    report: Callable[[Mapping[str, float]], None] = _ignore
    settings: Mapping[str, Value] = field(default_factory=dict)
    family: Family | None = None


class Evaluation(ABC):
    """Constructed from the ``data`` and ``evaluator`` sections of a job: names and paths only, cheap to construct.

    The constructor refuses bad settings with a `JobError`; `prepare` refuses bad data with a `DataError`, so that
    both are known before anything trains.
    """

    measures: tuple[str, ...] = ()
    """Names of all metrics that a trial may be ranked by, so that another objective is refused before anything trains;
    empty where that is not known before. `prepare` may leave out what the data turn out not to allow."""

    less_is_better: frozenset[str] = frozenset()
    """Those of `measures` that are distances or losses: an objective that maximises one is refused as a mistake."""

    @classmethod
    def stated(cls, data: Mapping[str, Any], version: str = "") -> dict[str, Any]:
        """Return a job's ``data`` section with those rules written out whose default depends on the version.

        What the section says itself stays. An experiment is resumed, reported and judged by the rules that it began
        with, so that its scores keep their meaning under a later version.

        Args:
            data: of a job.
            version: of nni-diffnas that began the experiment; empty: this one.
        """
        return dict(data)

    @property
    def fingerprint(self) -> str:
        """Name of the data's content and of the part that is trained on, which is a part of `protocol`; it prepares.

        Empty where the evaluation knows none.
        """
        return ""

    def changed_since(self, protocol: str, then: str = "") -> str:
        """Say how the data differs from what scores of ``protocol`` were measured on; empty where it does not.

        Args:
            protocol: of a trial, or of a search.
            then: what the data was, in words; empty where nobody knows.

        Raises:
            DataError: the data cannot be read.
        """
        if not self.fingerprint or not protocol or self.fingerprint in protocol:
            return ""
        was = f" (then {then}; now {self.describe_data()[0]})" if then and self.describe_data() else ""
        return f"The data has changed since the search began{was}"

    def describe_data(self) -> list[str]:
        """What the data is, in lines for a person, the most important one first; none by default."""
        return []

    def pictures(self) -> bytes:
        """A picture (PNG) of some of the data, for a person; empty where there is none."""
        return b""

    @property
    def rungs(self) -> tuple[str, ...]:
        """Names of the metrics that it measures while it trains too, and by which a trial can then end itself.

        See `nni_diffnas.searching.halving`; none by default.
        """
        return ()

    @property
    @abstractmethod
    def protocol(self) -> str:
        """What the scores mean, e.g. ``rfid/digits-features/1024 images/16 steps/rapid-20000``.

        Equal for scores that may be ranked together, and different otherwise.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Make what all trials share (decoded images, feature network, reference statistics), once, in the cache.

        Called by the door before the experiment, and by a trial on a machine whose cache is empty. Safe to call from
        several processes at once.

        Raises:
            DataError: the data cannot be used as the job says.
        """

    def check(self, family: Family) -> None:
        """Refuse a search space whose networks this evaluation cannot train; the doors call it before any trial.

        A trial does not call it, since it starts once per architecture: `evaluate` refuses its own network.

        Raises:
            DataError: the data does not fit the networks.
            JobError: the evaluation does not fit them.
        """

    def check_objective(self, objective: Objective, besides: Iterable[str] = ()) -> None:
        """Refuse an objective that is not measured, or of which less is better and that is maximised.

        Args:
            objective: of a search.
            besides: metrics that a trial has without this evaluation: its costs.

        Raises:
            JobError: it is not among `measures`, of the settings before `prepare`, of the data too behind it; or it
                is maximised.
        """
        known = (*self.measures, *besides)
        if self.measures and objective.metric not in known:
            where = " on these data" if objective.metric in type(self).measures else ""
            raise JobError(
                f"objective.metric is {objective.metric!r}, which the evaluator does not measure{where}: name one of "
                f"{', '.join(known)}."
            )
        if objective.direction == "maximize" and objective.metric in self.less_is_better:
            raise JobError(
                f"objective.direction is 'maximize', but less {objective.metric} is better, so that the worst "
                f"network would win: set it to minimize, as optimize_mode in the config."
            )

    @abstractmethod
    def evaluate(self, model: torch.nn.Module, context: TrialContext) -> dict[str, float]:
        """Train and score ``model``; return all metrics by name, numbers only.

        Raises:
            TrialFailure: the trial cannot give a score; the message is its reason.
        """

    def held_out(self) -> Evaluation:
        """Return this evaluation scored against images that no trial has been trained on or ranked by.

        Raises:
            JobError: this evaluator holds nothing out.
        """
        raise JobError(f"{type(self).__name__} holds no data out: a verdict needs data that the search has not seen.")

    def longer(self, factor: float) -> Evaluation:
        """Return this evaluation with ``factor`` times the training.

        Raises:
            JobError: the training of this evaluator has no length.
        """
        raise JobError(f"{type(self).__name__} cannot train longer: its training has no length.")

    def scheduler_config(self) -> dict[str, Any] | None:
        """Return the diffusers scheduler that samples the trained network; ``None`` where no pipeline can be made."""
        return None

    def resolved(self) -> dict[str, Any]:
        """Return all settings as JSON values, the defaults filled in; for people to read."""
        return {}

    def forecast(self, model: torch.nn.Module, family: Family | None = None) -> tuple[float, float]:
        """Seconds and bytes that `evaluate` of ``model`` will take on this machine, judged from a few timed steps."""
        return float("nan"), float("nan")
