"""`AskTellStrategy`: one searching algorithm, served through both of NNI's doors.

A subclass writes two hooks, `suggest` and `update`, and perhaps two more for its state. Everything else lives here
once: validation, budget, duplicates, pending trials, the search memory, NNI's event loop, resume.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from nni.nas.space import ExecutableModelSpace
from nni.nas.strategy import Strategy

from ..doors.engine import EngineLoop, open_search
from ..searching.halving import Halving
from ..searching.history import History
from ..trial.run import SETTING_PREFIX, parameters_of
from .cost import Budget, Cost
from .errors import BudgetError, SpaceError, StrategyError
from .family import Family, sample_within
from .space import Architecture, Space, Value
from .trial import REFERENCE, Direction, Metrics, Objective, Origin, Suggestion, Trial

if TYPE_CHECKING:
    from nni.nas.execution import ExecutionEngine

    from ..memory import SearchMemory

__all__ = ["AskTellStrategy"]

_STATE = "strategy"


class AskTellStrategy(Strategy):
    """Base of every strategy of nni-diffnas; it *is* an NNI strategy.

    Args:
        objective: name of the metric that ranks trials, or an `Objective`. The tuner door replaces it by the job's.
        direction: ``minimize`` or ``maximize``; read where ``objective`` is a name.
        budget: windows on MACs, parameters or latency, checked before anything is trained.
        seed: of everything random in the strategy.
        memory: where to keep the trials; ``None`` keeps them for the length of the run only. The door closes it.
        warm_start: trials of earlier experiments, used as if they had been run. Those that have not ended, were scored
            by another protocol or lie outside the space are left out: they cannot be ranked with this search's, and
            may be trained again.
        start_with_default: train the space's default network first, so that every search knows what it has to beat;
            where the budget forbids it, it is a `REFERENCE`, which is no candidate.
        halving: let trials end themselves that are not among the best 1/halving at a rung of their training (the
            evaluator's curve points); ``None``: all train to the end. See `Halving`.
    """

    max_rejections: ClassVar[int] = 20
    """How often in a row a suggestion may be refused before the strategy counts as stuck."""

    def __init__(
        self,
        *,
        objective: str | Objective = "rfid",
        direction: Direction = "minimize",
        budget: Budget | None = None,
        seed: int = 0,
        memory: SearchMemory | None = None,
        warm_start: Sequence[Trial] = (),
        start_with_default: bool = True,
        halving: float | None = None,
    ) -> None:
        super().__init__()
        if direction not in ("minimize", "maximize"):
            raise StrategyError(f"direction is {direction!r}: use 'minimize' or 'maximize'.")
        self.objective = objective if isinstance(objective, Objective) else Objective(objective, direction)
        self.budget = budget or Budget()
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.memory = memory
        self.experiment = uuid.uuid4().hex[:8]
        self.protocol = ""
        self.task = ""
        self.folder: Path | None = None
        self.carried: Mapping[str, Value] = {}
        self._warm_start = tuple(warm_start)
        self.start_with_default = start_with_default
        self.halving = None if halving is None else Halving(halving)
        self._space: Space | None = None
        self._family: Family | None = None
        self.history = History()
        self._own_memory = False
        self.wake: Callable[[], None] | None = None
        """What a door that can be woken sets: called from any thread, it has the door call `update` with what has ended
        meanwhile, perhaps nothing, and then `suggest` for the workers that are free."""

    # What a subclass writes ------------------------------------------------------------------------------------------

    @abstractmethod
    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Name up to ``count`` architectures to train next.

        Called when workers are free. Pending trials are in `pending`; finished ones have gone through `update`. Fewer
        than ``count`` means: nothing more for now; none at all while nothing is pending ends the search. It may take
        its time (train a surrogate, ask a server), since nobody waits for the search memory meanwhile, but must not
        block for ever.
        """

    @abstractmethod
    def update(self, trials: Sequence[Trial]) -> None:
        """Receive finished and failed trials, each once, in the order in which they ended, with all metrics.

        Trials of a warm start come first, before the first `suggest`. A trial that was given up as failed, because its
        process ended without a word, may come once more when it reports after all.
        """

    def check_budget(self) -> None:
        """Refuse a budget that no architecture of the space meets; called before `setup`.

        Raises:
            BudgetError: the message states the nearest cost.
        """
        if self.budget.windows:
            if self.family is None:
                raise BudgetError("A budget is given, but this search space cannot say costs before training.")
            sample_within(self.family, self.budget, np.random.default_rng(0))

    def setup(self) -> None:
        """Prepare what depends on the space; called once, after `space` is known and before everything else."""

    def check(self) -> None:
        """Find out whether what the strategy needs from outside (a language model, say) is there.

        Called by the doors and the doctor once the space is bound, before anything is trained.

        Raises:
            DiffNASError: it is not; the sentence names the remedy.
        """

    def forecast(self, trials: int) -> str:
        """Say what a search of so many trials will spend beside time and disk (on a language model, say), if anything.

        Called by the doors and the doctor once the space is bound, before anything is trained.
        """
        return ""

    def planned(self, trials: int) -> int:
        """How many trials the search will be, of those that it may have; fewer where it ends by itself."""
        return trials

    def summary(self) -> str:
        """What the strategy has to say when the search ends, e.g. what it cost; empty means nothing."""
        return ""

    def state(self) -> dict[str, Any]:
        """Return what the subclass must remember beyond the trials: primitives and tensors only."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; called after `setup` instead of replaying `update`."""

    # What a subclass uses --------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """The space that is searched."""
        if self._space is None:
            raise StrategyError(f"{type(self).__name__} has no search space yet: a door has to bind it first.")
        return self._space

    @property
    def family(self) -> Family | None:
        """What builds and prices the networks; ``None`` for a stranger's NNI model space."""
        return self._family

    @property
    def trials(self) -> list[Trial]:
        """All trials of this search, warm start included, in order of submission."""
        return list(self.history.trials.values())

    @property
    def ended(self) -> list[Trial]:
        """Trials that have ended since this process opened the search, in the order in which they did."""
        return list(self.history.ended.values())

    @property
    def pending(self) -> list[Trial]:
        """Trials that have been suggested and have not ended."""
        return [trial for trial in self.history.trials.values() if trial.status == "pending"]

    def cost(self, architecture: Mapping[str, Value]) -> Cost | None:
        """MACs, parameters and perhaps latency; ``None`` where the space cannot say."""
        return None if self._family is None else self._family.cost(architecture)

    def rejection(self, architecture: Architecture, settings: Mapping[str, Value] | None = None) -> str:
        """Say why a valid architecture may not be trained (outside the budget, already known); empty when it may."""
        if self.budget.windows and not (settings or {}).get(REFERENCE):
            cost = self.cost(architecture)
            if cost is None:
                raise BudgetError("A budget is given, but this search space cannot say costs before training.")
            if not self.budget.admits(cost):
                return self.budget.explain(cost)
        if self.history.knows(architecture, settings or {}):
            return "already trained or pending in this search"
        return ""

    def draw(self, taken: Collection[Architecture] = (), tries: int = 2000) -> Architecture | None:
        """Draw a random architecture within budget that is not known yet; ``None`` where none is found.

        Args:
            taken: architectures of the same batch, which are not known yet either.
            tries: draws before giving up, or before walking to a budget that they do not meet.
        """

        def fresh(drawn: Architecture) -> bool:
            return drawn not in taken and not self.rejection(drawn)

        if self._family is None:
            return next(filter(fresh, (self.space.sample(self.rng) for _ in range(tries))), None)
        try:
            return sample_within(self._family, self.budget, self.rng, tries, fresh)
        except BudgetError:
            return None

    # What the doors use ----------------------------------------------------------------------------------------------

    def bind(
        self,
        space: Space,
        family: Family | None = None,
        protocol: str = "",
        *,
        task: str = "",
        folder: Path | None = None,
    ) -> None:
        """Attach the space (and what prices it) before the first `ask`.

        Args:
            space: what is searched.
            family: builds and prices; a budget needs it.
            protocol: what the scores of this search will mean.
            task: one line on what is learned from which data, for people and language models.
            folder: of the experiment, for files that a client of the strategy writes (transcripts, caches).
        """
        self._space, self._family, self.protocol, self.task, self.folder = space, family, protocol, task, folder
        self.check_budget()
        self.setup()
        warm = [trial for trial in self._warm_start if self._serves(trial)]
        for trial in warm:
            self.history.add(trial)
        if warm:
            self.update(warm)

    def _serves(self, trial: Trial) -> bool:
        """Whether a trial of an earlier experiment tells this one anything that can be compared."""
        try:
            inside = self.space.validate(trial.architecture) == trial.architecture
        except SpaceError:
            inside = False
        earlier = trial.experiment != self.experiment and trial.status != "pending"
        return inside and earlier and trial.protocol == self.protocol

    def ask(self, count: int) -> list[Trial]:
        """Return up to ``count`` new pending trials, validated, within budget and not known yet.

        First they are chosen, which may be slow; then they are remembered, and the state that follows with them. Not to
        be called while `recording`: others would wait for the memory.

        Raises:
            StrategyError: the strategy keeps suggesting what is refused.
        """
        asked = self._admitted(count)
        with self.recording():
            if self.memory is not None:
                for trial in asked:
                    self.memory.add(trial, self.space)
        return asked

    def _admitted(self, count: int) -> list[Trial]:
        asked: list[Trial] = []
        rejections = 0
        while len(asked) < count:
            suggestions = self._first() or self.suggest(count - len(asked))
            if not suggestions:
                break
            for suggestion in suggestions:
                architecture = self.space.validate(suggestion.architecture)
                why = self.rejection(architecture, suggestion.settings)
                if why:
                    rejections += 1
                    if self.memory is not None:
                        self.memory.log("rejected", self.experiment, {"architecture": architecture, "why": why})
                    if rejections > self.max_rejections:
                        raise StrategyError(
                            f"{type(self).__name__} suggested {rejections} architectures in a row that cannot be "
                            f"trained, the last because: {why}."
                        )
                    continue
                rejections = 0
                trial = Trial(
                    id=f"{self.experiment}-{len(self.history.trials):04d}",
                    experiment=self.experiment,
                    architecture=architecture,
                    origin=Origin(type(self).__name__, suggestion.kind, suggestion.parent),
                    cost=self.cost(architecture),
                    settings=dict(suggestion.settings),
                    protocol=self.protocol,
                )
                self.history.add(trial, now=True)
                asked.append(trial)
                if len(asked) == count:
                    break
        return asked

    def _first(self) -> Sequence[Suggestion]:
        """Suggest the default network, once, where nothing has been tried."""
        if not self.start_with_default or self.history.trials or self._family is None:
            return ()
        default = self.space.validate(self._family.default)
        if self.rejection(default):
            return (Suggestion(default, REFERENCE, settings={REFERENCE: True}),)
        return (Suggestion(default, "default"),)

    def parameters(self, trial: Trial) -> dict[str, Value]:
        """Everything that travels to a trial: `parameters_of` it, what the door has it carry, and the thresholds of
        `halving` as they are now.
        """
        stops = {} if self.halving is None else self.halving.settings(self.trials, self.objective)
        further = {f"{SETTING_PREFIX}{name}": value for name, value in {**self.carried, **stops}.items()}
        return {**parameters_of(trial, self.space), **further}

    def tell(self, trial_id: str, metrics: Metrics, job_id: str = "") -> Trial:
        """Record the final metrics of a trial, even of one that was given up; a second report is ignored."""
        return self._told(trial_id, self.history.succeed(trial_id, metrics, job_id))

    def tell_failed(self, trial_id: str, reason: str, job_id: str = "") -> Trial:
        """Record that a trial ended without metrics."""
        return self._told(trial_id, self.history.fail(trial_id, reason, job_id))

    def _told(self, trial_id: str, ended: Trial | None) -> Trial:
        if ended is None:
            return self.history.trials[trial_id]
        if self.memory is not None:
            self.memory.update(ended)
        self.update([ended])
        return ended

    # NNI's NAS door --------------------------------------------------------------------------------------------------

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        if self._space is None:
            self._own_memory = open_search(self, model_space, engine)
        return model_space

    def _run(self) -> None:
        self._loop = EngineLoop(self, close_memory=self._own_memory)
        self._loop.run()

    def freeze(self, trial: Trial) -> ExecutableModelSpace:
        """NNI's model of a trial: the frozen model space that the engine trains."""
        return self.model_space.freeze(self.parameters(trial))

    # State -----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs beyond the trials themselves: primitives (and tensors of a subclass)."""
        return {"rng": self.rng.bit_generator.state, "state": self.state()}

    def restore(self, trials: Sequence[Trial], snapshot: Mapping[str, Any]) -> None:
        """Go on where a search stopped; the space must be bound.

        Args:
            trials: of the search, in order of submission, pending ones included.
            snapshot: the last one; without it the finished trials are replayed through `update`.
        """
        for trial in trials:
            self.history.add(trial)
        if snapshot:
            self.rng.bit_generator.state = snapshot["rng"]
            self.load_state(snapshot["state"])
        else:
            self.update([trial for trial in trials if trial.status != "pending"])

    @contextmanager
    def recording(self) -> Iterator[None]:
        """What happens inside, trials and the state that follows from them, is remembered together or not at all."""
        with self.memory.transaction() if self.memory is not None else nullcontext():
            yield
            if self.memory is not None:
                self.memory.save_state(self.experiment, _STATE, self.snapshot())

    def recall(self) -> None:
        """Go on with what the memory knows of this experiment; the space must be bound."""
        if self.memory is not None and (trials := self.memory.trials(experiment=self.experiment)):
            snapshot = self.memory.load_state(self.experiment, _STATE)
            self.restore(trials, snapshot if isinstance(snapshot, dict) else {})

    def state_dict(self) -> dict[str, Any]:
        """Everything, for NNI's checkpoint of a NAS experiment."""
        trials = [trial.to_json() for trial in self.trials]
        return {"experiment": self.experiment, "trials": trials, **self.snapshot()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`; the space must be bound. What the memory knows is newer, and has been recalled."""
        if self.history.trials and self.experiment == state_dict["experiment"]:
            return
        self.experiment = state_dict["experiment"]
        self.history = History()
        self.restore([Trial.from_json(body) for body in state_dict["trials"]], state_dict)
