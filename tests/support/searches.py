"""Finished searches for what reads them: real strategies on a toy space, recorded as a door records them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toy_family import ToyFamily, score

from nni_diffnas.api.trial import Objective, Trial
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.plugins import find_plugin
from nni_diffnas.searching.search import Search

PROTOCOL = "toy/1"


def run_search(
    folder: Path,
    strategy: str = "RandomSearch",
    trials: int = 12,
    seed: int = 0,
    fail: int = 0,
    protocol: str = PROTOCOL,
    memory: Path | None = None,
    job: bool = True,
    noise: float = 0.0,
    **options: Any,
) -> ExperimentFolder:
    """Ask and tell a strategy, and leave an experiment's folder with its memory.

    Args:
        folder: of the experiment; its name is the id.
        strategy: name of the plug-in.
        trials: that end.
        seed: of the strategy.
        fail: every so many trials fail; 0 for none.
        protocol: of the scores.
        memory: file that is shared; by default the experiment's own.
        job: whether the start is recorded, as the tuner door does.
        noise: added to every score, of alternating sign.
        **options: of the strategy.
    """
    family = ToyFamily()
    experiment = ExperimentFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = memory or folder / "memory.sqlite"
    experiment.remember_memory(file)
    with SearchMemory(file) as opened:
        made = find_plugin("strategies", strategy)(
            objective=Objective("rfid", "minimize"), seed=seed, memory=opened, **options
        )
        search = Search(made, family.space, family, protocol, experiment=experiment.id)
        if job:
            body = {
                "job": {
                    "space": {"type": "toy"},
                    "data": {"source": "a/digits"},
                    "evaluator": {"type": "toy"},
                    "seed": seed,
                },
                "strategy": strategy,
                "options": options,
                "protocol": protocol,
                "space": family.space.key,
                "max_trials": trials,
                "versions": {"python": "3.11.9", "nni": "3.0"},
            }
            opened.log("experiment", experiment.id, body)
        for i in range(trials):
            (trial,) = search.ask(1)
            _end(search, trial, i, fail, noise)
    return experiment


def _end(search: Search, trial: Trial, i: int, fail: int, noise: float) -> None:
    if fail and i % fail == fail - 1:
        search.tell_failed(trial.id, "loss is not finite <step 3>", job_id=f"job{i}")
    else:
        value = 1 + score(trial.architecture) + noise * (-1) ** i
        search.tell(trial.id, {"rfid": value, **trial.cost.as_metrics()} if trial.cost else {}, job_id=f"job{i}")
