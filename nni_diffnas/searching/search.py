"""`Search`: one running search, whatever door it goes through.

It asks the strategy and tells it, keeps history and memory, settles what nobody heard of, and knows when to end. A door
adds how trials are started and heard of, and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..api.ending import Ending
from ..api.errors import StrategyError
from ..api.family import Family
from ..api.space import Architecture, Space, Value
from ..api.strategy import About
from ..api.trial import Metrics, Origin, Suggestion, Trial, ranked_together
from ..memory import SearchMemory
from ..trial.parameters import SETTING_PREFIX, parameters_of
from .earlier import Earlier
from .first import FIRST, YARDSTICKS, first_suggestions
from .history import History
from .jobs import Jobs
from .options import ConfiguredStrategy
from .progress import Pace, trial_line
from .ranking import Outcome, why_broken
from .view import View

__all__ = ["Search"]

_STATE = "strategy"

MAX_REJECTIONS = 20
"""How often in a row a suggestion may be refused before the strategy counts as stuck."""


class Search:
    """One running search.

    Args:
        strategy: what suggests, and says what is wanted.
        space: what is searched.
        family: builds and prices; a budget needs it. ``None`` for a stranger's NNI model space.
        protocol: what the scores of this search mean.
        experiment: id; a random one by default.
        task: one line on what is learned from which data, for people and language models.
        folder: of the experiment, for files that a client of the strategy writes (transcripts, caches).
        memory: where to keep the trials, where the strategy names none; the caller closes it.
        carried: settings that travel with every trial, see `job.carried`.

    Raises:
        DiffNASError: budget, strategy and space do not go together.
    """

    def __init__(
        self,
        strategy: ConfiguredStrategy,
        space: Space,
        family: Family | None = None,
        protocol: str = "",
        *,
        experiment: str = "",
        task: str = "",
        folder: Path | None = None,
        memory: SearchMemory | None = None,
        carried: Mapping[str, Value] | None = None,
    ) -> None:
        options = strategy.options
        self.strategy, self.options, self.memory = strategy, options, memory or options.memory
        self.experiment = experiment or uuid.uuid4().hex[:8]
        self.history = History()
        about = About(self.experiment, protocol, task, folder, self.memory)
        rng = np.random.default_rng(options.seed)
        self.view = View(space, family, options.objective, options.budget, rng, self.history, about)
        self.unstarted: list[Trial] = []
        """Trials that were suggested before this process opened the search, and never started."""
        self.on_end: Callable[[Trial, bool], None] = lambda trial, given_up: None
        """Hears of each trial that has ended, and whether it had been given up before."""
        self._pace = Pace()
        self._carried = dict(carried or {})
        self._earlier = Earlier(space)
        strategy.begin(self.view)
        strategy.check_budget()
        strategy.setup()
        warm = self._earlier.serving(options.warm_start, about)
        self.warm_start = self._earlier.describe(options.warm_start, warm, about)
        for trial in warm:
            self.history.add(trial)
        if warm:
            strategy.update(warm)

    # What is known ---------------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """What is searched."""
        return self.view.space

    @property
    def family(self) -> Family | None:
        """What builds and prices the networks."""
        return self.view.family

    @property
    def protocol(self) -> str:
        """What the scores mean."""
        return self.view.about.protocol

    @property
    def trials(self) -> list[Trial]:
        """All trials, those of a warm start included, in order of submission."""
        return self.view.trials

    @property
    def own(self) -> list[Trial]:
        """Trials of this experiment, without those of a warm start."""
        return [trial for trial in self.trials if trial.experiment == self.experiment]

    @property
    def pending(self) -> list[Trial]:
        """Trials that have been suggested and have not ended."""
        return self.view.pending

    @property
    def running(self) -> int:
        """How many trials run, or are about to."""
        return len(self.pending) - len(self.unstarted)

    @property
    def ended(self) -> list[Trial]:
        """Trials that have ended since this process opened the search, in the order in which they did."""
        return list(self.history.ended.values())

    @property
    def done(self) -> int:
        """How many trials of this experiment have ended."""
        return sum(trial.status != "pending" for trial in self.own)

    @property
    def outcome(self) -> Outcome:
        """The ranking of its own trials."""
        return Outcome.of(self.own, self.options.objective)

    @property
    def broken(self) -> str:
        """Why the search has to end although the strategy has more to suggest; empty while it may go on."""
        return why_broken(self.ended)

    def awaits(self, trial_id: str) -> bool:
        """Whether a result of this trial may still come."""
        trial = self.history.trials.get(trial_id)
        return trial is not None and trial.open

    def left(self, limit: int | None) -> float:
        """How many trials may still be started, of so many."""
        return float("inf") if limit is None else limit - len(self.own) + len(self.unstarted)

    # Asking ----------------------------------------------------------------------------------------------------------

    def ask(self, count: int) -> list[Trial]:
        """Return up to ``count`` trials to start: those left over from before a resume, then new ones.

        New ones are validated, within budget and not known yet. First they are chosen, which may be slow; then they are
        remembered, and the state that follows with them. Not to be called while `recording`: others would wait for the
        memory.

        Raises:
            StrategyError: the strategy keeps suggesting what is refused.
        """
        again, self.unstarted = self.unstarted[:count], self.unstarted[count:]
        asked = self._admitted(count - len(again))
        if asked and asked[-1].origin.kind in FIRST:  # the strategy may begin what it does beside trials
            self.strategy.update(())
        with self.recording():
            if self.memory is not None:
                for trial in asked:
                    self.memory.add(trial, self.space)
        return again + asked

    def _admitted(self, count: int) -> list[Trial]:
        asked: list[Trial] = []
        rejections = 0
        while len(asked) < count:
            suggestions = self.first()[:1] or self.strategy.suggest(count - len(asked))
            if not suggestions:
                break
            for suggestion in suggestions:
                architecture = self.space.validate(suggestion.architecture)
                why = self._refusal(architecture, suggestion)
                if why:
                    rejections += 1
                    if self.memory is not None:
                        self.memory.log("rejected", self.experiment, {"architecture": architecture, "why": why})
                    if rejections > MAX_REJECTIONS:
                        raise StrategyError(
                            f"{self.name} suggested {rejections} architectures in a row that cannot be trained, the "
                            f"last because: {why}."
                        )
                    continue
                rejections = 0
                asked.append(self._trial_of(architecture, suggestion))
                if len(asked) == count:
                    break
        return asked

    @property
    def name(self) -> str:
        """The strategy's name, in origins and messages."""
        return type(self.strategy).__name__

    def _refusal(self, architecture: Architecture, suggestion: Suggestion) -> str:
        if suggestion.candidate:
            return self.view.refusal(architecture, suggestion.settings)
        return self.view.repetition(architecture, suggestion.settings)

    def _trial_of(self, architecture: Architecture, suggestion: Suggestion) -> Trial:
        trial = Trial(
            id=f"{self.experiment}-{len(self.history.trials):04d}",
            experiment=self.experiment,
            architecture=architecture,
            origin=Origin(self.name, suggestion.kind, suggestion.parent),
            cost=None if self.family is None else self.family.cost(architecture),
            settings=dict(suggestion.settings),
            protocol=self.protocol,
        )
        self.history.add(trial, now=True)
        return trial

    def first(self) -> list[Suggestion]:
        """What is still to be trained before the strategy is asked; nothing once it has suggested something."""
        tried = self.history.trials.values()
        if any(trial.origin.kind not in FIRST for trial in tried):
            return []
        return [each for each in self._first if not self.view.repetition(each.architecture, each.settings)]

    @cached_property
    def _first(self) -> list[Suggestion]:
        return first_suggestions(self.space, self.family, self.options)

    def parameters(self, trial: Trial) -> dict[str, Value]:
        """Everything that travels to a trial: `parameters_of` it, what the door has it carry, and the thresholds of
        halving as they are now, where the trial has none of its own. The default and networks by hand train to their
        end: they are what the rest is compared with.
        """
        halving = None if trial.origin.kind in YARDSTICKS else self.options.halving
        stops = {} if halving is None else halving.settings(ranked_together(self.trials), self.options.objective)
        own = {name: value for name, value in trial.settings.items() if name in stops}
        further = {f"{SETTING_PREFIX}{name}": value for name, value in {**self._carried, **stops, **own}.items()}
        return {**parameters_of(trial, self.space), **further}

    # Telling ---------------------------------------------------------------------------------------------------------

    def tell(self, trial_id: str, result: Any, job_id: str = "") -> Trial:
        """Record the final metrics of a trial, even of one that was given up; a second report is ignored.

        Args:
            trial_id: of a trial of this search.
            result: what the trial has reported: a dictionary, or the objective alone.
            job_id: of the job that ran it.
        """
        metrics: Metrics = result if isinstance(result, Mapping) else {self.options.objective.metric: float(result)}
        named = {name: value for name, value in metrics.items() if name != "default"}
        given_up = self._given_up(trial_id)
        return self._told(trial_id, self.history.succeed(trial_id, named, job_id), given_up)

    def tell_failed(self, trial_id: str, reason: str | Ending, job_id: str = "") -> Trial:
        """Record that a trial ended without metrics."""
        given_up = self._given_up(trial_id)
        return self._told(trial_id, self.history.fail(trial_id, reason, job_id), given_up)

    def _given_up(self, trial_id: str) -> bool:
        known = self.history.trials.get(trial_id)
        return known is not None and known.status != "pending"

    def _told(self, trial_id: str, ended: Trial | None, given_up: bool) -> Trial:
        if ended is None:
            return self.history.trials[trial_id]
        self.unstarted = [trial for trial in self.unstarted if trial.id != trial_id]
        if self.memory is not None:
            self.memory.update(self._earlier.as_recorded(ended))
        self.strategy.update([ended])
        self.on_end(ended, given_up)
        return ended

    def settle(self, jobs: Jobs, *, silent: bool, assessed: bool = False) -> list[Trial]:
        """Tell results that have not come through; fail the trials whose process has ended without one.

        Args:
            jobs: what the door knows now.
            silent: also those whose process has ended well; their result may still be under way otherwise.
            assessed: whoever was killed was stopped early, by an assessor.

        Returns:
            The trials that have failed by this.
        """
        results, ended = jobs.results(), jobs.ended()
        for trial in self.trials:
            if trial.open and trial.id in results:
                job_id, value = results[trial.id]
                self.tell(trial.id, value, job_id)
        failed = []
        for trial in self.pending:
            reason = ended.get(trial.id)
            if reason or (silent and reason is not None):
                why = Ending.STOPPED if assessed and reason is Ending.KILLED else reason or Ending.SILENT
                failed.append(self.tell_failed(trial.id, why))
        return failed

    def catch_up(self, jobs: Jobs, *, silent: bool, assessed: bool = False) -> set[str]:
        """After a resume, learn what has happened meanwhile; return the ids of what is run again by itself.

        What is pending and not run again has never started, and is what `ask` hands out first.
        """
        with self.recording():
            self.settle(jobs, silent=silent, assessed=assessed)
        again = jobs.to_run_again()
        self.unstarted = [trial for trial in self.pending if trial.id not in again]
        self.history.ended.clear()  # these have ended before this process opened the search
        return again

    # Saying ----------------------------------------------------------------------------------------------------------

    def progress(self, trial: Trial, limit: int | None, concurrency: int) -> str:
        """A line on a trial that has just ended.

        Args:
            trial: has ended.
            limit: of the trials of this search.
            concurrency: trials at once.
        """
        best = Outcome.of(self.trials, self.options.objective).best
        planned = limit and max(self.strategy.planned(limit), len(self.own))
        of = f"/{planned}" if planned else ""
        is_best = best is not None and best.id == trial.id
        line = f"[{self.done}{of}] {trial_line(trial, self.options.objective.metric, best=is_best)}"
        left = self._pace.step(planned and planned - self.done, concurrency)
        return f"{line}, {left}" if left else line

    def conclusion(self) -> str:
        """What was found, and what it has cost."""
        said = self.strategy.summary()
        return f"{self.outcome.describe()}\n{said}" if said else self.outcome.describe()

    # Remembering -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What `restore` needs beyond the trials themselves: primitives (and tensors of a strategy)."""
        return {"rng": self.view.rng.bit_generator.state, "state": self.strategy.state()}

    def restore(self, trials: Sequence[Trial], snapshot: Mapping[str, Any]) -> None:
        """Go on where a search stopped.

        Args:
            trials: of the search, in order of submission, pending ones included.
            snapshot: the last one; without it the finished trials are replayed through `StrategyHooks.update`.
        """
        trials = [self._earlier.understood(trial) for trial in trials]
        for trial in trials:
            self.history.add(trial)
        if snapshot:
            self.view.rng.bit_generator.state = snapshot["rng"]
            self.strategy.load_state(snapshot["state"])
        else:
            self.strategy.update([trial for trial in trials if trial.status != "pending"])

    @contextmanager
    def recording(self) -> Iterator[None]:
        """What happens inside, trials and the state that follows from them, is remembered together or not at all."""
        with self.memory.transaction() if self.memory is not None else nullcontext():
            yield
            if self.memory is not None:
                self.memory.save_state(self.experiment, _STATE, self.snapshot())

    def recall(self) -> None:
        """Go on with what the memory knows of this experiment."""
        if self.memory is not None and (trials := self.memory.trials(experiment=self.experiment)):
            snapshot = self.memory.load_state(self.experiment, _STATE)
            self.restore(trials, snapshot if isinstance(snapshot, dict) else {})

    def state_dict(self) -> dict[str, Any]:
        """Everything, for NNI's checkpoint of a NAS experiment."""
        trials = [trial.to_json() for trial in self.trials]
        return {"experiment": self.experiment, "trials": trials, **self.snapshot()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`; what the memory knows is newer, and has been recalled."""
        if self.history.trials and self.experiment == state_dict["experiment"]:
            return
        self.experiment, self.history = state_dict["experiment"], History()
        about = replace(self.view.about, experiment=self.experiment)
        self.view = replace(self.view, history=self.history, about=about)
        self.strategy.begin(self.view)
        self.restore([Trial.from_json(body) for body in state_dict["trials"]], state_dict)
