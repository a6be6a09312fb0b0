"""The same search through Python: ``python prepare.py``, then ``python search.py``."""

from pathlib import Path

from nni.nas.experiment import NasExperiment

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.evaluators import BlockwiseEvaluator
from nni_diffnas.search_spaces import BlockwiseUNetSpace
from nni_diffnas.strategies import BlockwiseLocalSearch

PORT = 8080


def main() -> None:
    space = BlockwiseUNetSpace(str(Path(__file__).parent / "teacher"))
    evaluator = BlockwiseEvaluator(
        {"source": "digits"},
        supernet={"steps": 800, "cached_images": 512},
        training={"images": 48_000},
    )
    evaluator.prepare()
    evaluator.check(space.family)
    cost = space.family.cost(space.family.default)
    budget = Budget({"macs": Window(max=0.55 * cost.macs), "params": Window(max=0.6 * cost.params)})
    experiment = NasExperiment(space, evaluator, BlockwiseLocalSearch(budget=budget))
    experiment.config.max_trial_number = 20
    experiment.config.trial_concurrency = 2
    experiment.run(PORT)
    for trial in experiment.strategy.search.trials:
        print(trial.origin.kind, dict(trial.settings), trial.metrics.get("rfid"), trial.cost)
    experiment.stop()


if __name__ == "__main__":
    main()
