"""NNI's own `NasExperiment` with our space, evaluator and strategy."""

from __future__ import annotations

from pathlib import Path

import pytest
from nni_experiment import run_script

from nni_diffnas.memory import SearchMemory

pytestmark = pytest.mark.nni

SEARCH = """
from pathlib import Path
from nni.nas.experiment import NasExperiment
from nni.nas.strategy.middleware import Chain, Deduplication
from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.evaluators import DiffusionEvaluator
from nni_diffnas.memory.experiment_folder import find_experiment
from nni_diffnas.memory import SearchMemory
from nni_diffnas.searching.ranking import Outcome
from nni_diffnas.report import read_source
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.strategies import DiffusionGuided, RegularizedEvolution
from nni_diffnas.results.read import export_trial, read_search

evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": 256}, score_images=32, sampler_steps=2,
                               curve_points=1, curve_images=16)
evaluator.prepare()
with SearchMemory(Path("memory.sqlite")) as memory:
    budget = Budget({"params": Window(max=2e5)})
    strategy = STRATEGY, budget=budget, memory=memory)
    experiment = NasExperiment(UNetSpace(preset="digits"), evaluator, Chain(strategy, Deduplication("invalid")))
    experiment.config.max_trial_number = TRIALS
    experiment.config.trial_concurrency = 2
    experiment.config.experiment_working_directory = str(Path("exp").resolve())
    experiment.run(port=PORT)
    best = next(iter(experiment.export_top_models(top_k=1, formatter="dict")))
    ranked = Outcome.of(strategy.search.trials, strategy.search.objective).ranked
    assert {k: best[k] for k in ranked[0].architecture} == ranked[0].architecture, (best, ranked)
    search = read_search(find_experiment(experiment.id))
    assert [trial.id for trial in search.trials] == [trial.id for trial in strategy.search.trials]
    pipeline = export_trial(search.folder, search.job, search.best, Path("winner"), search.trials)
    assert (pipeline / "model_index.json").is_file(), pipeline
    assert all((read_source(experiment.id).output(trial) / "samples.png").is_file() for trial in search.trials)
    experiment.stop()
print("FINISHED")
"""

EVOLUTION = "RegularizedEvolution(population=2, sample=1"
GUIDED = "DiffusionGuided(unguided=3, training_steps=5, candidates=16, sampler_steps=4"


@pytest.mark.parametrize(
    ("strategy", "count"),
    [(EVOLUTION, 3), pytest.param(GUIDED, 10, marks=pytest.mark.slow)],
    ids=["evolution", "guided"],
)
def test_nas_experiment_inside_a_chain(tmp_path: Path, strategy: str, count: int) -> None:
    said = run_script(tmp_path, SEARCH.replace("STRATEGY", strategy).replace("TRIALS", str(count)))
    assert "FINISHED" in said
    assert f"nni-diffnas: {count} trials will take about " in said
    with SearchMemory(tmp_path / "memory.sqlite", create=False) as memory:
        trials = memory.trials()
    assert [trial.status for trial in trials] == ["succeeded"] * count
    if strategy == GUIDED:
        kinds = [trial.origin.kind for trial in trials if trial.origin.kind not in ("reference", "by hand")]
        assert kinds[:3] == ["recommended", "recommended", "start"]
        assert kinds[-1] == "guided"
    assert all({"rfid", "macs", "params"} <= trial.metrics.keys() for trial in trials)
    assert trials[0].origin.kind == "reference"  # the default network, which the budget forbids
    assert all(trial.cost is not None and trial.cost.params <= 2e5 for trial in trials[1:])
    assert trials[0].protocol.startswith("rfid/")


PLUGIN = """
from pathlib import Path
from nni.nas.experiment import NasExperiment
from diffnas_denoiser_mlp.strategy import CheapestFirst
from nni_diffnas.doors.evaluator import PluginEvaluator
from nni_diffnas.doors.model_space import FamilySpace
from nni_diffnas.memory.experiment_folder import find_experiment
from nni_diffnas.results.read import read_search

strategy = CheapestFirst(objective="error")
experiment = NasExperiment(FamilySpace("mlp"), PluginEvaluator("denoise2d", metric="error", steps=20), strategy)
experiment.config.max_trial_number = 2
experiment.config.experiment_working_directory = str(Path("exp").resolve())
experiment.run(port=PORT)
search = read_search(find_experiment(experiment.id))
assert search.job.space.type == "mlp", search.job
assert [trial.origin.kind for trial in search.trials] == ["default", "cheapest"], search.trials
assert all(trial.metrics["error"] > 0 and trial.metrics["seconds"] > 0 for trial in search.trials), search.trials
experiment.stop()
print("FINISHED")
"""


def test_a_plug_in_needs_no_adapter_of_its_own(tmp_path: Path, plugin_site: Path) -> None:
    assert "FINISHED" in run_script(tmp_path, PLUGIN)
