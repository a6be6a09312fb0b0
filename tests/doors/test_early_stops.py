"""Bad trials end early in real experiments: by NNI's assessor at the tuner door, by themselves at the NAS door."""

from __future__ import annotations

from pathlib import Path

import pytest
from nni_experiment import created, run_script, write_config

from nni_diffnas.api.ending import Ending
from nni_diffnas.api.trial import UNRANKED
from nni_diffnas.memory import SearchMemory

pytestmark = [pytest.mark.nni, pytest.mark.slow]

JOB = {
    "space": {"type": "unet", "preset": "digits"},
    "data": {"source": "digits"},
    "evaluator": {
        "type": "diffusion",
        "training": {"images": 1280},
        "score_images": 32,
        "sampler_steps": 3,
        "curve_points": 3,
        "curve_images": 32,
    },
}

SEARCH = """
from pathlib import Path
from nni.nas.experiment import NasExperiment
from nni_diffnas.evaluators import DiffusionEvaluator
from nni_diffnas.memory import SearchMemory
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.strategies import RandomSearch

evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": 1280}, score_images=32, sampler_steps=3,
                               curve_points=3, curve_images=32)
evaluator.prepare()
with SearchMemory(Path("memory.sqlite")) as memory:
    strategy = RandomSearch(halving=2, memory=memory)
    experiment = NasExperiment(UNetSpace(preset="digits"), evaluator, strategy)
    experiment.config.max_trial_number = 6
    experiment.config.trial_concurrency = 1
    experiment.config.experiment_working_directory = str(Path("exp").resolve())
    experiment.run(port=PORT)
    experiment.stop()
print("FINISHED")
"""


def test_medianstop_ends_trials_of_the_tuner_door(tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        JOB,
        maxTrialNumber=10,
        trialConcurrency=1,
        tuner={"name": "RandomSearch", "classArgs": {"job": "job.yml", "optimize_mode": "minimize"}},
        assessor={"name": "Medianstop", "classArgs": {"optimize_mode": "minimize", "start_step": 1}},
    )
    with created(config) as experiment:
        experiment.wait("DONE", timeout=900)
        folder = tmp_path / "exp" / experiment.id
    with SearchMemory(next(folder.glob("*.sqlite")), create=False) as memory:
        trials = memory.trials()
    assert len(trials) >= 10
    ended = [trial for trial in trials if trial.status != "pending"]
    assert len(ended) == 10, "stopped trials count, and are no reason to end the search"
    stopped = [trial for trial in ended if trial.status == "failed"]
    assert stopped
    assert {trial.ending for trial in stopped} == {Ending.STOPPED}
    assert any(trial.status == "succeeded" for trial in ended)


def test_trials_of_the_nas_door_end_themselves(tmp_path: Path) -> None:
    assert "FINISHED" in run_script(tmp_path, SEARCH, timeout=900)
    with SearchMemory(tmp_path / "memory.sqlite", create=False) as memory:
        trials = memory.trials()
    assert [trial.status for trial in trials] == ["succeeded"] * 6
    stopped = [trial for trial in trials if trial.metrics.get(UNRANKED)]
    whole = [trial for trial in trials if not trial.metrics.get(UNRANKED)]
    assert stopped, [trial.metrics for trial in trials]
    assert all({"rfid@25", "rfid@50", "rfid@75", "rfid"} <= trial.metrics.keys() for trial in whole)
    assert all("rfid" not in trial.metrics and "rfid@25" in trial.metrics for trial in stopped)
