"""Runs a whole search in this process, one trial after the other: short searches, debugging, benchmarks.

It needs no NNI manager, and leaves what one leaves, a folder with memory and trials, so that ``nni-diffnas report``,
``export`` and ``verdict`` take it by that folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.errors import TrialFailure
from ..api.trial import Trial
from ..job import Job
from ..searching.open import announce, open_job
from ..searching.ranking import format_cost
from ..trial.run import run_trial
from .experiment import ExperimentFolder

__all__ = ["run_search"]


def run_search(
    job: Job, strategy: str, folder: Path, max_trials: int, options: Mapping[str, Any] | None = None
) -> list[Trial]:
    """Search until ``max_trials`` have ended or the strategy has nothing more to suggest; print each; return them.

    Args:
        job: of the search.
        strategy: name of the plug-in.
        folder: of the experiment; its name becomes the id. A search that was interrupted there goes on.
        max_trials: failed ones included.
        options: of the strategy, as ``classArgs`` of the tuner.

    Raises:
        DiffNASError: bad input, before anything trains.
    """
    home, known = ExperimentFolder(folder.resolve()), dict(options or {})
    everything = job.make_family().space.to_nni()
    search, evaluation = open_job(job, strategy, job.objective.direction, known, everything, home, resumed=True)

    def own() -> list[Trial]:
        return [trial for trial in search.trials if trial.experiment == home.id]

    def run(trial: Trial, job_id: str) -> Trial:
        try:
            metrics = run_trial(job, search.parameters(trial), output=home.path / "trials" / job_id)
        except TrialFailure as failure:
            with search.recording():
                return search.tell_failed(trial.id, str(failure), job_id)
        with search.recording():
            return search.tell(trial.id, metrics, job_id)

    if not own():
        announce(search, strategy, evaluation, job, known, max_trials, concurrency=1)
    try:
        while asked := search.pending or (search.ask(1) if len(own()) < max_trials else []):
            ended = run(asked[0], f"{len(own()):04d}")
            score = ended.metrics.get(job.objective.metric)
            told = ended.reason or ("measured" if score is None else f"{job.objective.metric} {score:.4g}")
            print(f"{ended.id} {ended.origin.kind}: {told}  {format_cost(ended.cost)}", flush=True)
        if said := search.summary():
            print(said, flush=True)
    finally:
        if search.memory is not None:
            search.memory.close()
    return own()
