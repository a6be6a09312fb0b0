"""What a report is made of: the trials of an experiment or of a whole search memory, and where their files lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..api.errors import DiffNASError, JobError, SpaceError
from ..api.family import Family
from ..api.space import Architecture, Space
from ..api.trial import BY_HAND, RECOMMENDED, REFERENCE, Objective, Trial
from ..job import Job, load_job
from ..memory import Event, SearchMemory
from ..memory.experiment_folder import ExperimentFolder, find_experiment
from ..memory.journal import understood
from ..results.read import data_changed, unknown_experiment
from ..results.verdict import Verdict, read_verdict
from ..searching.ranking import Outcome
from .statistics import fence

__all__ = ["Source", "read_source"]


@dataclass(frozen=True)
class Source:
    """Trials that may be ranked together, with all that is known of how they came to be.

    Args:
        name: experiment id, or the memory's file name.
        memory: the search memory.
        folder: of the experiment; ``None`` where a memory was named.
        trials: of one space and one protocol, in order of submission.
        space: their search space.
        job: of the latest search; ``None`` where no door could record one.
        objective: what ranks the trials.
        events: entries of the journal that are no trials.
        others: trials of the memory that were scored by another protocol or come from another space.
    """

    name: str
    memory: Path
    folder: ExperimentFolder | None
    trials: tuple[Trial, ...]
    space: Space
    job: Job | None
    objective: Objective
    events: tuple[Event, ...]
    others: tuple[Trial, ...] = ()

    @cached_property
    def outcome(self) -> Outcome:
        """Ranking of the trials."""
        return Outcome.of(self.trials, self.objective)

    @cached_property
    def ended(self) -> tuple[Trial, ...]:
        """Trials that have succeeded or failed, in the order of submission."""
        return tuple(trial for trial in self.trials if trial.status != "pending")

    @cached_property
    def limit(self) -> float:
        """Worst value of the objective that is drawn: one diverged network must not flatten all charts."""
        return fence([float(trial.metrics[self.objective.metric]) for trial in self.outcome.ranked], self.objective)

    def drawable(self, trial: Trial) -> bool:
        """Whether a trial has a score within `limit`."""
        if trial.status != "succeeded" or self.objective.score(trial.metrics) is None:
            return False
        return self.within(float(trial.metrics[self.objective.metric]))

    def within(self, value: float) -> bool:
        """Whether a value of the objective is no worse than `limit`."""
        return value <= self.limit if self.objective.direction == "minimize" else value >= self.limit

    @cached_property
    def roles(self) -> dict[str, str]:
        """What stands out in charts, by id: ``best``, ``default``, ``hand``, ``recommended``."""
        kinds = {BY_HAND: "hand", RECOMMENDED: "recommended"}
        found = {trial.id: kinds[trial.origin.kind] for trial in self.trials if trial.origin.kind in kinds}
        special = {"default": self.outcome.default, "best": self.outcome.best}
        return found | {trial.id: role for role, trial in special.items() if trial is not None}

    @property
    def starts(self) -> list[Event]:
        """The starts of the searches, oldest first."""
        return [event for event in self.events if event.kind == "experiment"]

    @cached_property
    def planned(self) -> int | None:
        """Number of trials that the searches were allowed when they were started last; ``None`` where one is open."""
        latest = {event.experiment: event.body.get("max_trials") for event in self.starts}
        counts = [latest.get(experiment) or 0 for experiment in {trial.experiment for trial in self.trials}]
        return sum(map(int, counts)) if all(counts) else None

    @cached_property
    def family(self) -> Family | None:
        """Builds and prices the networks; ``None`` where its plug-in or its files are not here."""
        try:
            return None if self.job is None else self.job.make_family()
        except DiffNASError:
            return None

    @cached_property
    def default(self) -> Architecture | None:
        """The network that the search has to beat, trained or not."""
        trained = next((trial for trial in self.trials if trial.origin.kind in ("default", REFERENCE)), None)
        if trained is not None:
            return trained.architecture
        return None if self.family is None else self.family.space.validate(self.family.default)

    def describe(self, label: str) -> str:
        """What a label means, in one line."""
        return label if self.family is None else self.family.describe(label)

    def output(self, trial: Trial) -> Path | None:
        """Output folder of a trial; ``None`` where it is not on this machine."""
        place = self.memory.parent
        beside = ExperimentFolder(place if place.name == trial.experiment else place / trial.experiment)
        return (self.folder or beside).output(trial.id)

    @cached_property
    def data_changed(self) -> str:
        """How the data differs from what the trials learned; empty where it does not, or cannot be said."""
        described = str(self.starts[-1].body.get("described", "")) if self.starts else ""
        return "" if self.job is None else data_changed(self.job, self.trials, described)

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict in the experiment's folder, where one was computed."""
        return None if self.folder is None else read_verdict(self.folder.path)


def read_source(name: str, job_file: Path | None = None) -> Source:
    """Read an experiment, live or finished, or a search memory.

    Args:
        name: experiment id, its folder, or a search-memory file. Of a memory, the trials of all experiments that share
            space and protocol with its latest one.
        job_file: says what the objective is, where the memory does not.

    Raises:
        JobError: nothing of that name, no trials, or an objective that nobody has stated.
        MemoryFileError: the file is no search memory.
    """
    path = Path(os.path.expanduser(name))
    folder = None if os.path.isfile(path) else find_experiment(name)
    file = path.resolve() if folder is None else folder.memory
    experiment = None if folder is None else folder.id
    with SearchMemory.reading(file) as memory:
        events = tuple(memory.events(experiment=experiment))
        spaces = memory.spaces()
        trials, others = memory.latest_alike(experiment)
        if folder is not None and not trials and not events and memory.events():
            raise unknown_experiment(memory, folder)
        if not trials:
            raise JobError(f"{name!r} holds no trials yet: wait for the first one.")
        space = next(spaces[key] for key in spaces if trials[-1] in memory.trials(experiment, key))
    trials = _with_older(trials, others, space)
    others = [trial for trial in others if trial.id not in {kept.id for kept in trials}]
    starts = [event for event in events if event.kind == "experiment"]
    job = load_job(job_file) if job_file else None
    if job is None and starts and "job" in starts[-1].body:
        with understood(file):
            job = Job.recorded(starts[-1].body)
    objective = job.make_objective() if job else Objective()
    scored = [trial for trial in trials if trial.status == "succeeded"]
    if scored and not any(objective.metric in trial.metrics for trial in scored):
        if job_file:
            raise JobError(f"{str(job_file)!r} ranks by {objective.metric!r}, which no trial of {name!r} has measured.")
        if job is None:
            raise JobError(f"{name!r} does not say what its objective is: give the job file with --job.")
    label = name if folder is None else folder.id
    return Source(Path(label).name, file, folder, tuple(trials), space, job, objective, events, tuple(others))


def _with_older(own: Sequence[Trial], others: Sequence[Trial], space: Space) -> list[Trial]:
    """Trials of one space, and those of their protocol that lack labels, since version 0.1 recorded them.

    A search that was begun by the earlier release and resumed by this one has both.
    """
    older = []
    for trial in others:
        if space.stock and trial.protocol == own[-1].protocol and not space.stock.keys() & trial.architecture.keys():
            try:
                older.append(replace(trial, architecture=space.validate(trial.architecture)))
            except SpaceError:
                continue
    return [*older, *own]


def start_body(source: Source) -> Mapping[str, Any]:
    """What the door recorded when the latest search started; empty where it was a search from Python."""
    return source.starts[-1].body if source.starts else {}
