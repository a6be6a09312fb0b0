"""Together with other parts of NNI: its strategies, its middleware, a stranger's space, its assessor."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from nni_experiment import created, run_script, write_config

from nni_diffnas.api.ending import Ending
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder

pytestmark = [pytest.mark.nni, pytest.mark.slow]

# NNI's own experiments, on its engine that runs the trials one after the other in this process.
PARTS = """
import json
import nni
import torch
from nni.nas import strategy as theirs
from nni.nas.experiment import NasExperiment
from nni.nas.nn.pytorch import LayerChoice, ModelSpace, MutableConv2d
from nni.nas.strategy.middleware import Chain, Deduplication, FailureHandler, Filter, MultipleEvaluation
from nni_diffnas.evaluators import DiffusionEvaluator
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.strategies import RandomSearch, RegularizedEvolution

class Stranger(ModelSpace):
    def __init__(self):
        super().__init__()
        width = nni.choice("width", [4, 8, 16])
        self.enter = MutableConv2d(1, width, 3, padding=1)
        choices = [MutableConv2d(width, width, 1), MutableConv2d(width, width, 3, padding=1)]
        self.middle = LayerChoice(choices, label="middle")
        self.leave = MutableConv2d(width, 1, 3, padding=1)

    def forward(self, sample, timestep, class_labels=None):
        return self.leave(torch.relu(self.middle(self.enter(sample))))

def narrow(model):
    return model.sample["level0.width"] < 32

def sequential(space, strategy, trials=3):
    from nni.nas.experiment import NasExperimentConfig
    from nni.nas.experiment.config import SequentialEngineConfig
    evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": 64}, score_images=32, sampler_steps=2,
                                   extractor="random", curve_points=0)
    evaluator.prepare()
    config = NasExperimentConfig.default(space, evaluator, strategy)
    config.execution_engine = SequentialEngineConfig(max_model_count=trials)
    experiment = NasExperiment(space, evaluator, strategy, config)
    experiment.run()
    best = list(experiment.export_top_models(top_k=1, formatter="dict"))
    experiment.stop()
    return best

found = {}
def unet():
    return UNetSpace(preset="digits")

found["Random"] = sequential(unet(), theirs.Random())
found["GridSearch"] = sequential(unet(), theirs.GridSearch(shuffle=True))
found["RegularizedEvolution"] = sequential(unet(), theirs.RegularizedEvolution(population_size=2, sample_size=1))
found["TPE"] = sequential(unet(), theirs.TPE())

ours = RandomSearch(seed=1)
found["Filter"] = sequential(unet(), Chain(ours, Filter(narrow)), 4)
refused = [trial for trial in ours.trials if trial.status == "failed"]
assert all(trial.architecture["level0.width"] >= 32 for trial in refused), refused
assert all(trial.architecture["level0.width"] < 32 for trial in ours.trials if trial.status == "succeeded")
assert any(trial.status == "succeeded" for trial in ours.trials)

ours = RegularizedEvolution(population=2, sample=1, seed=2)
chain = Chain(ours, Deduplication("invalid"), FailureHandler(metric=-1e9), MultipleEvaluation(2))
found["Chain"] = sequential(unet(), chain, 4)
done = [trial for trial in ours.trials if trial.status == "succeeded"]
assert done and all(trial.metrics["rfid"] > 0 for trial in done), ours.trials

ours = RandomSearch(seed=3)
found["Stranger"] = sequential(Stranger(), ours)
assert [trial.status for trial in ours.trials].count("succeeded") == 3, ours.trials
print(json.dumps({name: len(models) for name, models in found.items()}))
"""


def test_strategies_middleware_and_spaces_of_nni(tmp_path: Path) -> None:
    said = run_script(tmp_path, PARTS, timeout=600)
    found = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))
    assert found == dict.fromkeys(
        ["Random", "GridSearch", "RegularizedEvolution", "TPE", "Filter", "Chain", "Stranger"], 1
    )


TRIAL = """
import time
from nni_diffnas.trial import run
from nni_diffnas.evaluators.tabular import TabularEvaluation
from nni_diffnas.job import load_job

def evaluate(self, model, context):
    score = 1.0 if context.architecture["number"] < 4 else 100.0
    for _ in range(30 if score > 1 else 6):
        context.report({"rfid": score})
        time.sleep(0.5)
    return {"rfid": score}

run.build_seeded = lambda *given: None
TabularEvaluation.evaluate = evaluate
run.run_trial(load_job("job.yml"))
"""


def test_medianstop_ends_hopeless_trials_early_and_the_search_goes_on(plugin_site: Path, tmp_path: Path) -> None:
    numbers = np.arange(6)[:, None]
    values = np.hstack([numbers + 1.0, numbers + 1.0])
    columns = {"labels": ["number"], "metrics": ["rfid", "macs"], "maximize": False}
    np.savez(tmp_path / "table.npz", choices=numbers, values=values, **columns)
    (tmp_path / "trial.py").write_text(TRIAL)
    job = {
        "space": {"type": "table", "path": "table.npz"},
        "data": {"path": "table.npz"},
        "evaluator": {"type": "tabular"},
    }
    arguments = {"job": "job.yml", "optimize_mode": "minimize", "train_first": "none"}
    config = write_config(
        tmp_path,
        job,
        maxTrialNumber=6,
        trialCommand=f"{sys.executable} trial.py",
        tuner={"name": "CheapestFirst", "classArgs": arguments},
        assessor={"name": "Medianstop", "classArgs": {"optimize_mode": "minimize", "start_step": 2}},
    )
    with created(config) as experiment:
        experiment.wait("DONE", timeout=300)
        folder = ExperimentFolder(tmp_path / "exp" / experiment.id)
        statuses = {
            json.loads(job["hyperParameters"][0])["parameters"]["number"]: job["status"] for job in experiment.trials()
        }
    # NNI 3.0 calls them USER_CANCELED when the trial's process is faster than its own bookkeeping.
    assert {"EARLY_STOPPED", "USER_CANCELED"} & set(statuses.values()), statuses
    with SearchMemory(folder.memory, create=False) as memory:
        trials = memory.trials()
    assert [trial.status for trial in trials[:4]] == ["succeeded"] * 4
    assert Ending.STOPPED in {trial.ending for trial in trials[4:]}
