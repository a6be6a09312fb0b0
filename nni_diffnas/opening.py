"""What the tuner door and the doctor open a search with: the space that NNI's config leaves, and the strategy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import JobError
from .job import Job
from .memory import SearchMemory
from .plugins import find_plugin
from .space import Space
from .strategy import AskTellStrategy
from .trial import Trial

__all__ = ["make_strategy", "restrict_space"]


def restrict_space(space: Space, search_space: Mapping[str, Any]) -> Space:
    """Narrow a space to the values that the experiment's NNI search space offers.

    Raises:
        SpaceError, JobError: another set of labels, or a value that the space does not have.
    """
    offered = Space.from_nni(search_space)
    if set(offered.labels) != set(space.labels):
        extra, missing = set(offered.labels) - set(space.labels), set(space.labels) - set(offered.labels)
        raise JobError(
            f"The config's search space does not fit the job's (unknown: {sorted(extra) or 'none'}, missing: "
            f"{sorted(missing) or 'none'}): write it anew with 'nni-diffnas space JOB --output FILE'."
        )
    kept = {
        label: tuple(values[i] for i in sorted(space.index_of(label, value) for value in offered.choices[label]))
        for label, values in space.choices.items()
    }
    if kept == space.choices:
        return space
    conditions = {
        label: tuple((parent, tuple(v for v in values if v in kept[parent])) for parent, values in listed)
        for label, listed in space.conditions.items()
    }
    return Space(kept, space.edges, conditions)


def make_strategy(name: str, job: Job, memory: SearchMemory | None, options: Mapping[str, Any]) -> AskTellStrategy:
    """Construct a strategy plug-in for a job.

    Raises:
        PluginError, JobError: no such strategy, or it refuses its options.
    """
    made = find_plugin("strategies", name)
    warm: list[Trial] = []
    for file in job.warm_start:
        with SearchMemory(Path(file), create=False) as earlier:
            warm += earlier.trials(space_key=job.make_family().space.key)
    try:
        strategy: AskTellStrategy = made(
            objective=job.make_objective(),
            budget=job.make_budget(),
            seed=job.seed,
            memory=memory,
            warm_start=warm,
            **options,
        )
    except TypeError as error:
        raise JobError(f"Strategy {name!r} does not take these classArgs: {error}.") from error
    return strategy
