"""The digits search from Python: NNI's own `NasExperiment`, with our space, evaluator and strategy.

Run it as ``python examples/digits/search.py``; watch it at http://localhost:8080. It takes about as long as the search
of ``config.yml`` plus four seconds a trial, which NNI's NAS trials spend on imports.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nni.nas.experiment import NasExperiment

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.evaluators import DiffusionEvaluator
from nni_diffnas.memory import SearchMemory
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.searching.ranking import Outcome
from nni_diffnas.strategies import DiffusionGuided


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--images", type=int, default=16_000, help="that each network is trained on")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--folder", type=Path, default=Path("digits-search"), help="for the experiment and its memory")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)

    evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": arguments.images})
    evaluator.prepare()  # bad data is refused here, before anything trains
    with SearchMemory(arguments.folder / "memory.sqlite") as memory:
        strategy = DiffusionGuided(unguided=4, seed=0, budget=Budget({"macs": Window(max=2.9e6)}), memory=memory)
        experiment = NasExperiment(UNetSpace(preset="digits"), evaluator, strategy)
        experiment.config.max_trial_number = arguments.trials
        experiment.config.trial_concurrency = 2
        experiment.config.experiment_working_directory = str(arguments.folder.resolve())
        experiment.run(port=arguments.port)
        print(Outcome.of(strategy.search.trials, strategy.search.objective).describe())
        experiment.stop()


if __name__ == "__main__":
    main()
