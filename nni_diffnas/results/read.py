"""The winner of an experiment: found in the search memory, exported as a diffusers pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.errors import DiffNASError, JobError
from ..api.trial import Trial
from ..job import Job, refuse_missing
from ..memory import SearchMemory
from ..memory.experiment_folder import ExperimentFolder
from ..memory.journal import understood
from ..searching.ranking import Outcome
from ..searching.search import Search
from ..trial.result_file import reason_of
from .export import export_pipeline
from .model_card import write_card
from .remote import fetch_output
from .verdict import Verdict, read_verdict

__all__ = ["Findings", "conclude", "data_changed", "export_trial", "read_search", "unknown_experiment"]

WEIGHTS = "model.safetensors"
"""Weights in a trial's output folder."""

SAMPLES = "samples.png"
"""Images that the trained network drew, in a trial's output folder and beside the exported pipeline."""


@dataclass(frozen=True)
class Findings:
    """One experiment as its memory tells it.

    Args:
        folder: of the experiment.
        job: of the search, with the rules by which it began.
        strategy: its name.
        trials: that can be ranked together.
        others: trials whose scores mean something else than theirs.
        described: what the data was when the search began; empty where nobody wrote it down.
    """

    folder: ExperimentFolder
    job: Job
    strategy: str
    trials: tuple[Trial, ...]
    others: tuple[Trial, ...] = ()
    described: str = ""

    def data_changed(self) -> str:
        """Say how the data differs from what the trials learned; empty where it does not, or is not here."""
        return data_changed(self.job, self.trials, self.described)

    @property
    def outcome(self) -> Outcome:
        """Its ranking."""
        return Outcome.of(self.trials, self.job.make_objective())

    @property
    def best(self) -> Trial:
        """Its best trial.

        Raises:
            JobError: none has succeeded.
        """
        best = self.outcome.best
        if best is None:
            raise JobError(f"Experiment {self.folder.id} has no successful trial yet ({len(self.trials)} trials).")
        return best

    def pick(self, trial_id: str | None = None) -> Trial:
        """The trial of that id; the best one without an id.

        Raises:
            JobError: there is no such trial, or, without an id, none that succeeded.
        """
        if trial_id is None:
            return self.best
        found = next((trial for trial in (*self.trials, *self.others) if trial.id == trial_id), None)
        if found is None:
            raise JobError(f"Experiment {self.folder.id} has no trial {trial_id!r}: see the ids in its web UI.")
        return found


def data_changed(job: Job, trials: Sequence[Trial], described: str) -> str:
    """Say how a job's data differs from what its latest trial learned; empty where it does not, or is not here."""
    try:
        return job.make_evaluation().changed_since(trials[-1].protocol, described) if trials else ""
    except DiffNASError:  # another's machine, or a plug-in that is not installed
        return ""


def read_search(folder: ExperimentFolder) -> Findings:
    """Read an experiment, running or finished, from its memory.

    Raises:
        JobError: the folder or its memory holds no search.
    """
    with SearchMemory.reading(folder.memory) as memory:
        starts = memory.events(kind="experiment", experiment=folder.id)
        if not starts:
            raise unknown_experiment(memory, folder)
        start: Mapping[str, Any] = starts[-1].body
        if "job" not in start:
            raise JobError(
                f"Experiment {folder.id} searched from Python with a space or an evaluator that no job file can name: "
                f"export its networks, or judge them, from Python too."
            )
        trials, others = memory.latest_alike(folder.id)
    described = str(start.get("described", ""))
    with understood(folder.memory):
        job, strategy = Job.recorded(start), str(start["strategy"])
    return Findings(folder, job, strategy, tuple(trials), tuple(others), described)


def unknown_experiment(memory: SearchMemory, folder: ExperimentFolder) -> JobError:
    """Say which experiments a memory knows, where it does not know that of its folder."""
    known = sorted({event.experiment for event in memory.events(kind="experiment")})
    named = (
        f"only {', '.join(known[:5])}: give the folder that name" if known else "nor any other: copy the whole folder"
    )
    return JobError(f"The memory {folder.memory} knows no experiment {folder.id}, {named}.")


def _output_with_weights(folder: ExperimentFolder, trial: Trial) -> Path:
    """Output folder of a trial; one that is on another machine is fetched."""
    output = folder.output(trial.id)
    if output is not None and (output / WEIGHTS).is_file() and folder.owns(output / WEIGHTS):
        return output
    fetched = fetch_output(folder, trial.job_id)
    if fetched is None or not (fetched / WEIGHTS).is_file():
        raise JobError(
            f"The weights of trial {trial.id} are not in the experiment's folder (a link out of it is not followed), "
            f"nor on a machine that NNI's remote service used: train it again with 'nni-diffnas train'."
        )
    return fetched


def export_trial(folder: ExperimentFolder, job: Job, trial: Trial, to: Path, trials: Sequence[Trial] = ()) -> Path:
    """Write the trained network of a trial as a diffusers pipeline folder with a model card.

    Args:
        folder: of the experiment.
        job: of the search.
        trial: whose network it is.
        to: folder that is written.
        trials: all trials of the search, for the card.

    Raises:
        JobError: its weights are not on this machine, or its evaluator makes no pipelines.
    """
    refuse_missing(job, trains=False)
    scheduler = job.make_evaluation().scheduler_config()
    if scheduler is None:
        raise JobError(
            f"Evaluator {job.evaluator.type!r} makes no diffusion pipelines of what this job trains: there is nothing "
            f"to export."
        )
    output = _output_with_weights(folder, trial)
    if to.parent == folder.path and not folder.owns(to):
        raise JobError(f"{str(to)!r} is a link out of the experiment's folder: give another folder with --to.")
    pipeline = export_pipeline(job.make_family(), trial.architecture, output / WEIGHTS, scheduler, to)
    if (output / SAMPLES).is_file() and folder.owns(output / SAMPLES):
        shutil.copyfile(output / SAMPLES, pipeline / SAMPLES)
    write_card(pipeline, job, trial, trials, _verdict_of(folder, trial))
    return pipeline


def conclude(search: Search, job: Job, folder: ExperimentFolder) -> None:
    """Print what a search has found and spent, and export its winner where it can be.

    Args:
        search: that is over.
        job: of the search.
        folder: of the experiment.

    Raises:
        Exception: whatever plug-ins, language models and disks raise.
    """
    print("\n" + search.conclusion(), flush=True)
    best = search.outcome.best
    if best is not None and job.make_evaluation().scheduler_config() is not None:
        try:
            pipeline = export_trial(folder, job, best, folder.path / "winner", search.own)
        except Exception as error:
            raise JobError(f"the winner was not exported: {reason_of(error)}") from error
        print(f"pipeline: {pipeline}", flush=True)


def _verdict_of(folder: ExperimentFolder, trial: Trial) -> Verdict | None:
    """The verdict in the experiment's folder, if it judges this trial."""
    verdict = read_verdict(folder.path)
    return verdict if verdict is not None and verdict.winner.trial == trial.id else None
