"""A whole search in one call, for scripts and notebooks: `nni_diffnas.search`.

It uses this machine alone, all its cores or GPUs. NNI's doors lead to more machines, and to a web page.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from .api.errors import JobError
from .api.trial import Trial
from .doors.in_process import run_search
from .job import Job, data_source
from .memory.experiment_folder import ExperimentFolder
from .planning.plan import STRATEGY, budget_windows, plan_search
from .planning.timing import Machine
from .results.intervals import LOOKS
from .results.judging import challenger, judge
from .results.read import Findings, export_trial, read_search
from .results.verdict import Verdict
from .results.verdict_text import describe_verdict
from .searching.open import MEMORY_FILE, read_start

__all__ = ["Found", "search"]


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Args:
        folder: of the search; ``nni-diffnas report``, ``export`` and ``verdict`` take it, too.
    """

    folder: Path

    @property
    def findings(self) -> Findings:
        """The search as its memory tells it: job, trials, ranking."""
        return read_search(ExperimentFolder(self.folder))

    @property
    def best(self) -> Trial:
        """The best trial: its ``architecture``, ``metrics``, ``cost``, and its ``origin``.

        Raises:
            JobError: none has succeeded.
        """
        return self.findings.best

    def report(self) -> Path:
        """Write the page of the search and return its file, ``report.html`` in the folder."""
        from .report import read_source, render_report

        file = self.folder / "report.html"
        file.write_text(render_report(read_source(str(self.folder))), encoding="utf-8")
        return file

    def verdict(self, seeds: int | None = 3) -> Verdict:
        """Say what the search gained over narrowing the default by hand: all are trained again, with fresh seeds.

        It prints the verdict in words, and goes on where it was interrupted.

        Args:
            seeds: trainings of each network, 2 or more; ``None``: 3, and 3 more until it is decided, 12 at most.

        Raises:
            JobError: too few seeds, or no trial has succeeded that could be judged.
            TrialFailure: a training failed.
        """
        if seeds is not None and seeds < 2:
            raise JobError(f"seeds is {seeds}: give 2 or more, whose scatter says how sure the verdict is.")
        found = self.findings
        verdict = judge(
            found.job,
            challenger(found.job, found.trials),
            self.folder / "verdict",
            LOOKS if seeds is None else (seeds,),
            Machine.here().workers,
            trials=found.trials,
            described=found.described,
        )
        print(describe_verdict(verdict), flush=True)
        return verdict

    @cached_property
    def pipeline(self) -> Any:
        """The best network as a pipeline of diffusers, ready to draw; it lies in the folder's ``winner``.

        Raises:
            JobError: no trial has succeeded.
        """
        from diffusers import DDPMPipeline

        found = self.findings
        folder = export_trial(found.folder, found.job, found.best, self.folder / "winner", found.trials)
        return DDPMPipeline.from_pretrained(folder, trust_remote_code=True)  # type: ignore[no-untyped-call]  # diffusers'


def search(
    images: str | Path,
    budget: float | str | None = None,
    hours: float = 1.0,
    *,
    strategy: str | None = None,
    folder: str | Path | None = None,
    size: int | None = None,
    trials: int | None = None,
    images_per_trial: int | None = None,
    seed: int | None = None,
) -> Found:
    """Search the best denoising network for these images, within a budget, in the time that there is.

    Space and sizes follow from the images and from a few training steps that are timed, as ``nni-diffnas new`` plans
    them; all cores or GPUs of this machine train, each a trial of its own. A search that was interrupted or killed goes
    on by the same call, of which all but the images may be left out.

    Example:
        >>> found = nni_diffnas.search(images="photos", budget=0.5, hours=2, size=16)
        >>> found.best.metrics["held_out_loss"]
        >>> found.pipeline(batch_size=4).images

    A script must keep the call behind ``if __name__ == "__main__"``, since the processes that train import it.

    Args:
        images: a folder of images or of class folders, an archive, an ``.npz``, or a name: ``digits``,
            ``patches``, ``cifar10``, ``mnist``.
        budget: a part of the default network's MACs, above 0 and up to 1, or a latency on this machine such as ``8ms``;
            half of the MACs without it.
        hours: for the whole search.
        strategy: name of the plug-in; ``DiffusionGuided`` without it.
        folder: of the search; by default named after the images, in the working directory.
        size: cut and resize the images to size x size pixels; unset: they are square and of one size.
        trials: their number, instead of what fits into the hours.
        images_per_trial: length of a trial's training, instead of what fits into the hours.
        seed: of the search; 0 without it.

    Returns:
        What was found: ``best``, ``report()``, ``verdict()``, ``pipeline``.

    Raises:
        DiffNASError: bad input, before anything trains.
    """
    if multiprocessing.parent_process() is not None:
        raise JobError('search() runs in a process that it started: put the call behind if __name__ == "__main__".')
    whole = {"size": size, "trials": trials, "images_per_trial": images_per_trial, "seed": seed}
    for name, value in whole.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise JobError(f"{name} is {value!r}: give a whole number.")
    if isinstance(hours, bool) or not isinstance(hours, Real):
        raise JobError(f"hours is {hours!r}: give a number, such as 2 or 0.5.")
    source = data_source(str(images))
    home = Path(os.path.expanduser(folder or f"{Path(source).stem}-search")).resolve()
    if start := read_start(home / MEMORY_FILE, ExperimentFolder(home).id):
        asked = {
            "strategy": strategy,
            "size": size,
            "seed": seed,
            "trials": trials,
            "images_per_trial": images_per_trial,
        }
        job = _begun(start, source, budget, asked, home)
        name, count = str(start["strategy"]), int(start["max_trials"] or 0)
        if not count:
            raise JobError(f"{str(home)!r} holds a search of as many trials as you like: go on with it by NNI.")
        options, workers = dict(start.get("options", {})), Machine.here().workers
    else:
        if home.exists() and (not home.is_dir() or any(home.iterdir())):
            raise JobError(f"{str(home)!r} is not an empty folder: name another one by folder.")
        name = strategy or STRATEGY
        plan = plan_search(
            source, 0.5 if budget is None else budget, 3600 * hours, strategy=name, size=size, trials=trials,
            images_per_trial=images_per_trial, seed=seed or 0,
        )  # fmt: skip
        job, options, count, workers = plan.validated, plan.options, plan.sizes.trials, plan.sizes.workers
        print(f"{plan.sizes}, in {home}", flush=True)
    run_search(job, name, home, count, options, workers)
    found = Found(home)
    print(found.findings.outcome.describe(), flush=True)
    return found


def _begun(
    start: Mapping[str, Any], source: str, budget: float | str | None, asked: Mapping[str, Any], home: Path
) -> Job:
    """The job of a search that goes on.

    Args:
        start: body of its ``experiment`` event.
        source: of the images.
        budget: as `search` takes it.
        asked: further arguments of `search` that say what is searched; ``None`` leaves it as it began.
        home: folder of the search.

    Raises:
        JobError: another search is asked for than the one that lies there.
    """
    job = Job.recorded(start)
    if job.data.get("source") != source:
        raise JobError(
            f"{str(home)!r} holds a search of {job.data.get('source')!r}, not of {source!r}: name another folder."
        )
    began = {
        "strategy": start["strategy"],
        "size": job.data.get("size"),
        "seed": job.seed,
        "trials": start["max_trials"],
        "images_per_trial": (job.evaluator.options.get("training") or {}).get("images"),
    }
    differs = [
        f"{name} {began[name]!r}, not {value!r}" for name, value in asked.items() if value not in (None, began[name])
    ]
    family = job.make_family()
    if budget is not None and budget_windows(budget, family.cost(family.default)) != job.make_budget().windows:
        differs.append(f"another budget than {budget!r}")
    if differs:
        raise JobError(f"{str(home)!r} holds a search with {differs[0]}: leave that out, or name another folder.")
    return job
