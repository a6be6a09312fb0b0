"""`BlockwiseLocalSearch`: distil each block of a teacher on its own, choose per block, retrain (arXiv 2311.04950)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nni_diffnas.api.blocks import BlockFamily
from nni_diffnas.api.cost import COSTS
from nni_diffnas.api.errors import BudgetError, StrategyError
from nni_diffnas.api.space import Architecture, Value
from nni_diffnas.api.trial import REFERENCE, Suggestion, Trial
from nni_diffnas.doors.strategy import AskTellStrategy

from .choices import choose_globally, choose_locally, choose_randomly, knapsack, knapsack_best
from .fronts import Front, read_front, teacher_only, total

__all__ = ["BlockwiseLocalSearch"]

CHOICES = ("auto", "local", "knapsack", "global", "random")
HALVINGS = 2
APART = 1 / 3
"""Part of the blocks in which candidates differ: near ones would recover alike."""


class BlockwiseLocalSearch(AskTellStrategy):
    """First one trial per block, as many at once as there are workers; then, where candidates are compared, short ones
    of these; then one per chosen student.

    The trials' settings (``task``, ``block``, ``share``, ``beta``) tell the evaluator ``blockwise`` what to do. A block
    whose trial fails is tried again; where it fails `max_attempts` times it stays the teacher's. Nothing but the trials
    themselves is remembered, so that an experiment that was killed goes on with the blocks that are missing.

    Args:
        choice: one way to choose or a list of them. ``local``: per block the cheapest path with loss at most
            ``tolerance`` times that of the teacher-shaped path. ``knapsack``: the least sum of losses within the job's
            budget, exactly. ``auto``: the knapsack where there is a budget, else local. Controls: ``global``, evolution
            of whole networks by the sum of their plain squared errors; ``random``, a random network of the cost that
            ``auto`` chooses.
        tolerance: s, one value or a list; at least 0. Used by local and, without a budget, global choice.
        quantity: what is made cheap without a budget: ``macs``, ``params`` or ``latency_ms``.
        betas: schedules to retrain each chosen network with; the evaluator's own where the list is empty.
        candidates: how many choices of the knapsack are retrained for a moment, before the one whose predictions come
            nearest to the teacher's becomes the student; 1: the best by the blocks' losses is taken as it is. With
            more, each retraining is ``probe_share`` of a student's, and twice that for the better half. They differ in
            a third of the blocks.
        probe_share: part of a student's training by which candidates are judged first, above 0, at most 0.25.
        score_teacher: score the teacher too, for comparison; it is no candidate for the winner.
        **options: of `AskTellStrategy`.

    Raises:
        StrategyError: an option out of range.
    """

    max_attempts = 3

    def __init__(
        self,
        *,
        choice: str | Sequence[str] = "auto",
        tolerance: float | Sequence[float] = 1.0,
        quantity: str = "macs",
        betas: Sequence[str] = (),
        candidates: int = 1,
        probe_share: float = 0.01,
        score_teacher: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**{"train_first": "none", **options})
        self.choices = [choice] if isinstance(choice, str) else list(choice)
        self.tolerances = [float(tolerance)] if isinstance(tolerance, int | float) else [float(s) for s in tolerance]
        self.quantity, self.betas, self.score_teacher = quantity, tuple(betas), score_teacher
        self.candidates, self.probe_share = candidates, probe_share
        if candidates < 1 or not 0.0 < probe_share <= 0.25:
            raise StrategyError(
                f"candidates is {candidates} and probe_share {probe_share:g}: give at least 1, and a part above 0, at "
                f"most 0.25."
            )
        if candidates > 1 and not self.options.budget.windows:
            raise StrategyError(
                f"candidates is {candidates}, and there is no budget by which the knapsack could choose them: give the "
                f"job one on one of {', '.join(COSTS)}."
            )
        for name in self.choices:
            if name not in CHOICES:
                raise StrategyError(f"choice is {name!r}: use one of {', '.join(CHOICES)}.")
        if quantity not in COSTS:
            raise StrategyError(f"quantity is {quantity!r}: use one of {', '.join(COSTS)}.")
        if not self.choices or not self.tolerances or any(s < 0 for s in self.tolerances):
            raise StrategyError("choice and tolerance want at least one value, and tolerances of at least 0.")
        if "knapsack" in self.choices and not self.options.budget.windows:
            raise StrategyError(f"choice 'knapsack' needs a budget: give the job one on one of {', '.join(COSTS)}.")
        if "local" in self.choices and self.options.budget.windows:
            raise StrategyError("choice 'local' cannot keep a budget on the whole network: use 'knapsack' or 'auto'.")

    # The search ------------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> BlockFamily:
        """The family, which knows the blocks.

        Raises:
            StrategyError: the space is of another kind.
        """
        if not isinstance(self.search.family, BlockFamily):
            raise StrategyError(
                "BlockwiseLocalSearch searches the blocks of a teacher: use space 'blockwise' (BlockwiseUNetSpace)."
            )
        return self.search.family

    def check_budget(self) -> None:
        """Refuse a space without blocks, and a budget below the cheapest network.

        Raises:
            BudgetError: the message says what the cheapest network costs.
            StrategyError: the space is of another kind.
        """
        for name, window in self.search.budget.windows.items():
            if name == "latency_ms" and self.blocks.fixed.latency_ms is None:
                raise BudgetError(
                    "The budget bounds latency_ms, which is not measured: set latency: true in the space."
                )
            cheapest = self.blocks.cheapest(name)
            if window.max is not None and cheapest > window.max:
                raise BudgetError(
                    f"The budget allows {window.max:,.6g} {name}, the cheapest network of this space has "
                    f"{cheapest:,.6g}: raise the budget, or offer smaller kernels and widths."
                )
        if self.quantity == "latency_ms" and self.blocks.fixed.latency_ms is None:
            raise StrategyError("quantity is latency_ms, which is not measured: set latency: true in the space.")

    def planned(self, trials: int) -> int:
        """The teacher, every block, every student by every schedule: where none fails and no two students are alike."""
        students = len(self.choices) * len(self.tolerances) * max(1, len(self.betas))
        return min(trials, self.score_teacher + len(self.blocks.blocks) + sum(self._probes) + students)

    @property
    def _probes(self) -> list[int]:
        """Candidates that each round of short retrainings begins with."""
        if self.candidates == 1 or not {"auto", "knapsack"} & set(self.choices):
            return []
        return [count for r in range(HALVINGS) if (count := self.candidates >> r) > 1]

    def forecast(self, suggestions: int) -> str:
        """What the short retrainings of candidates amount to."""
        if not self._probes:
            return ""
        return (
            f"{sum(self._probes)} of these trials are short retrainings of {self.candidates} candidates, together "
            f"{self._probed:.0%} of a student's training"
        )

    def whole(self, trials: int) -> float:
        """Short retrainings count by their part of a student's."""
        return max(0, trials - sum(self._probes)) + self._probed

    @property
    def _probed(self) -> float:
        """What all short retrainings amount to, in those of a student."""
        return float(sum(count * self.probe_share * 2**index for index, count in enumerate(self._probes)))

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Blocks first; nothing while the last of them are under way; then candidates, in rounds; then the students."""
        default = self.blocks.space.validate(self.blocks.default)
        wanted: list[Suggestion | None] = []
        if self.score_teacher:
            wanted.append(self._attempt(default, REFERENCE, {"task": "teacher", REFERENCE: True}))
        for block in self.blocks.blocks:
            wanted.append(self._attempt(default, "block", {"task": "block", "block": block.name}))
        now = [suggestion for suggestion in wanted if suggestion is not None]
        if now or any(trial.settings.get("task") == "block" for trial in self.search.pending):
            return now[:count]
        living, settings = self._living(self.fronts())
        if settings:
            wanted = [self._attempt(architecture, "probe", settings) for architecture in living]
        else:
            wanted = [
                self._attempt(architecture, kind, {"task": "retrain", **({"beta": beta} if beta else {})})
                for kind, architecture in self.chosen().items()
                for beta in self.betas or ("",)
            ]
        return [suggestion for suggestion in wanted if suggestion is not None][:count]

    def update(self, trials: Sequence[Trial]) -> None:
        """Nothing to remember: `suggest` reads the trials."""

    def _attempt(self, architecture: Architecture, kind: str, settings: dict[str, Value]) -> Suggestion | None:
        """The next attempt at something, unless it has succeeded, is under way, or has failed too often."""
        for attempt in range(self.max_attempts):
            tried = {**settings, **({"attempt": attempt} if attempt else {})}
            trial = self._last(architecture, tried)
            if trial is None:
                # Only students have to keep the budget.
                return Suggestion(architecture, kind, settings=tried, candidate=settings["task"] == "retrain")
            if trial.status != "failed":
                return None
        return None

    def _last(self, architecture: Architecture, settings: Mapping[str, Value]) -> Trial | None:
        found = [t for t in self.search.trials if t.settings == settings and t.architecture == architecture]
        return found[-1] if found else None

    def _living(self, fronts: list[Front]) -> tuple[list[Architecture], dict[str, Value]]:
        """Candidates of the knapsack that are left, and how those are probed that have to be; one in the end."""
        family, apart = self.blocks, math.ceil(APART * len(fronts))
        if not self._probes:
            return [], {}
        best = knapsack_best(fronts, family.fixed, self.search.budget, self.candidates, apart)
        living = [family.assemble(point.path for point in points) for points in best]
        for index in range(HALVINGS):
            if len(living) == 1:
                break
            settings: dict[str, Value] = {"task": "probe", "share": self.probe_share * 2**index}
            gaps = [self._gap(architecture, settings) for architecture in living]
            if None in gaps:
                return living, settings
            order = sorted(range(len(living)), key=lambda i: (gaps[i], i))
            living = [living[i] for i in order[: len(living) // 2]]
        return living[:1], {}

    def _gap(self, architecture: Architecture, settings: Mapping[str, Value]) -> float | None:
        """What a candidate's probe found; infinite where it failed too often, ``None`` where it is not done."""
        for attempt in range(self.max_attempts):
            tried = {**settings, **({"attempt": attempt} if attempt else {})}
            trial = self._last(architecture, tried)
            if trial is None or trial.status != "failed":
                return None if trial is None or not trial.metrics else float(trial.metrics["gap"])
        return math.inf

    # Choosing --------------------------------------------------------------------------------------------------------

    def fronts(self) -> list[Front]:
        """What is known of each block; a block without a successful trial stays the teacher's."""
        measured = {
            t.settings["block"]: t for t in self.search.trials if t.settings.get("task") == "block" and t.metrics
        }
        return [
            read_front(block, measured[block.name].metrics, self.search.space)
            if block.name in measured
            else teacher_only(block)
            for block in self.blocks.blocks
        ]

    def chosen(self) -> dict[str, Architecture]:
        """The students to retrain, each once, by how they were chosen.

        Raises:
            BudgetError: no combination of the fronts is within budget.
        """
        fronts = self.fronts()
        found: dict[str, Architecture] = {}
        for name in self.choices:
            for tolerance in self.tolerances:
                architecture = self._choose(name, fronts, tolerance)
                cost = self.blocks.cost(architecture)
                if not self.search.budget.admits(cost):
                    raise BudgetError(
                        f"Choice {name!r} found no network within budget ({self.search.budget.explain(cost)}): "
                        f"leave it out, use 'knapsack', which finds one where there is one, or widen the budget."
                    )
                if architecture not in found.values():
                    found[name if len(self.tolerances) == 1 else f"{name} s={tolerance:g}"] = architecture
        return found

    def _choose(self, name: str, fronts: list[Front], tolerance: float) -> Architecture:
        family, fixed = self.blocks, self.blocks.fixed
        if name == "random":
            reference = self._choose("auto", fronts, tolerance)
            target = family.cost(reference).as_metrics()[self.quantity]
            return choose_randomly(family, target, self.quantity, self.search.budget, self.options.seed)
        if name == "global":
            points = choose_globally(fronts, fixed, self.search.budget, tolerance, self.quantity, self.options.seed)
        elif name == "knapsack" or self.search.budget.windows:
            if living := self._living(fronts)[0]:
                return living[0]
            points = knapsack(fronts, fixed, self.search.budget)
        else:
            points = choose_locally(fronts, tolerance, self.quantity)
        assert total(points, fixed, "macs") == family.cost(family.assemble(p.path for p in points)).macs
        return family.assemble(point.path for point in points)
