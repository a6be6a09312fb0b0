"""Opens a search: what all doors and the doctor have in common before the first trial.

Everything that can be refused is refused here, before anything trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.cost import COSTS
from ..api.errors import DataError, JobError
from ..api.evaluation import Evaluation
from ..api.paths import options_of
from ..api.trial import Trial
from ..job import Job, carried
from ..memory import SearchMemory
from ..memory.experiment_folder import MEMORY_FILE, ExperimentFolder
from ..plugins import find_plugin
from ..process.versions import versions
from .forecast import forecast_lines
from .halving import check_halving
from .narrowing import narrow_family
from .options import ConfiguredStrategy
from .search import Search

__all__ = [
    "MEMORY_FILE",
    "announce",
    "check_unchanged",
    "job_meant",
    "make_strategy",
    "open_job",
    "open_memory",
    "read_start",
]

_FROM_THE_JOB = ("objective", "direction", "budget", "seed", "memory", "warm_start")


def make_strategy(name: str, job: Job, memory: SearchMemory | None, options: Mapping[str, Any]) -> ConfiguredStrategy:
    """Construct a strategy plug-in for a job.

    Raises:
        PluginError, JobError: no such strategy, or it refuses its options.
    """
    made = find_plugin("strategies", name)
    if taken := [option for option in options if option in _FROM_THE_JOB]:
        raise JobError(f"Strategy {name!r} takes {taken[0]!r} from the job: set it there, not among the classArgs.")
    warm: list[Trial] = []
    for file in job.warm_start:
        with SearchMemory.reading(Path(file)) as earlier:
            warm += earlier.trials()
    try:
        strategy: ConfiguredStrategy = made(
            objective=job.make_objective(),
            budget=job.make_budget(),
            seed=job.seed,
            memory=memory,
            warm_start=warm,
            **options,
        )
    except TypeError as error:
        known = [option for option in options_of(made) if option not in _FROM_THE_JOB]
        if unknown := [option for option in options if option not in known]:
            raise JobError(
                f"Strategy {name!r} has no option {unknown[0]!r}: choose among {', '.join(known)}."
            ) from error
        raise JobError(f"Strategy {name!r} does not take these classArgs: {error}.") from error
    return strategy


def open_memory(folder: ExperimentFolder, file: Path | None = None) -> SearchMemory:
    """Open the search memory of an experiment, by default in its folder, so that it is found by the experiment's id."""
    folder.path.mkdir(parents=True, exist_ok=True)
    memory = SearchMemory(file or folder.path / MEMORY_FILE)
    folder.remember_memory(memory.path)
    return memory


def read_start(memory: Path, experiment: str) -> Mapping[str, Any]:
    """What was recorded when an experiment began; empty where it has not begun."""
    if not memory.is_file():
        return {}
    with SearchMemory.reading(memory) as opened:
        starts = opened.events(kind="experiment", experiment=experiment)
    return starts[-1].body if starts else {}


def job_meant(job: Job, folder: ExperimentFolder) -> Job:
    """The job of an experiment that goes on, with the rules by which it began.

    Args:
        job: as its file says it today.
        folder: of the experiment.
    """
    return job.resumed(_start_of(job, folder))


def _start_of(job: Job, folder: ExperimentFolder) -> Mapping[str, Any]:
    return read_start(Path(job.memory) if job.memory else folder.path / MEMORY_FILE, folder.id)


def check_unchanged(evaluation: Evaluation, start: Mapping[str, Any]) -> None:
    """Refuse to go on with a search whose further scores would mean something else than its first ones.

    Args:
        evaluation: prepared.
        start: body of the search's ``experiment`` event; empty where it has not begun.

    Raises:
        DataError: the data has changed.
        JobError: what is measured has.
    """
    began = str(start.get("protocol", ""))
    if not began or began == evaluation.protocol:
        return
    if changed := evaluation.changed_since(began, str(start.get("described", ""))):
        raise DataError(f"{changed}: put it back as it was, or start a new experiment.")
    raise JobError(
        f"The search began with scores of {began!r}, and would go on with {evaluation.protocol!r}, which cannot be "
        f"ranked together: undo what has changed in the job, or start a new experiment."
    )


def open_job(
    job: Job,
    name: str,
    optimize_mode: str,
    options: Mapping[str, Any],
    search_space: Mapping[str, Any],
    folder: ExperimentFolder | None = None,
    *,
    resumed: bool = False,
) -> tuple[Search, Evaluation]:
    """Open the search of a job: its data prepared, its strategy bound to what the config leaves of the space.

    Args:
        job: of the search.
        name: of the strategy plug-in.
        optimize_mode: of the tuner; must agree with the job's objective.
        options: of the strategy.
        search_space: NNI's, of the config.
        folder: of the experiment; without one nothing is remembered.
        resumed: the experiment was started before.

    Raises:
        DiffNASError: bad input.
    """
    wanted = job.make_objective().direction
    if optimize_mode != wanted:
        raise JobError(
            f"classArgs say optimize_mode: {optimize_mode}, the job's objective says {wanted}: set "
            f"optimize_mode: {wanted}, so that NNI's web UI sorts the right way."
        )
    start = _start_of(job, folder) if resumed and folder is not None else {}
    meant = job.resumed(start)
    family, evaluation = meant.make_family(), meant.make_evaluation()
    searched = narrow_family(family, search_space)
    evaluation.prepare()
    evaluation.check_objective(job.make_objective(), COSTS)
    check_unchanged(evaluation, start)
    evaluation.check(family)
    memory = None if folder is None else open_memory(folder, Path(job.memory) if job.memory else None)
    strategy = make_strategy(name, job, memory, options)
    search = Search(
        strategy,
        searched.space,
        searched,
        evaluation.protocol,
        experiment="" if folder is None else folder.id,
        task=job.task,
        folder=None if folder is None else folder.path,
        carried=carried(evaluation, job.data, meant.data),
    )
    if resumed:
        search.recall()
    check_halving(strategy.options.halving, strategy.options.objective, evaluation)
    strategy.check()
    return search, evaluation


def announce(
    search: Search,
    name: str,
    evaluation: Evaluation | None,
    job: Job | None,
    options: Mapping[str, Any] | None,
    max_trials: int | None,
    concurrency: int,
) -> None:
    """Forecast a search that begins, and record what it is: report, export and verdict go by that.

    Args:
        search: opened.
        name: of the strategy.
        evaluation: prepared; ``None`` where it is a stranger's.
        job: ``None`` where no job file can say what is searched.
        options: of the strategy; ``None`` where nobody knows them.
        max_trials: of the experiment; ``None`` when unlimited.
        concurrency: trials at once.
    """
    if max_trials:
        max_trials = search.strategy.planned(max_trials)
        for line in forecast_lines(search, evaluation, max_trials, concurrency):
            print(f"nni-diffnas: {line}", flush=True)
    if search.warm_start:
        print(f"nni-diffnas: {search.warm_start}", flush=True)
    if evaluation is not None:
        for line in evaluation.describe_data():
            print(f"nni-diffnas: {line}", flush=True)
    if search.memory is None:
        return
    body: dict[str, Any] = {
        "strategy": name,
        "protocol": search.protocol,
        "space": search.space.key,
        "max_trials": max_trials,
        "versions": versions(),
    }
    if options is not None:
        body["options"] = dict(options)
    if evaluation is not None:
        body["data"] = evaluation.resolved().get("data", {})
        body["described"] = next(iter(evaluation.describe_data()), "")
    if job is not None:
        body["job"] = job.stated().model_dump(mode="json")
    search.memory.log("experiment", search.experiment, body)
