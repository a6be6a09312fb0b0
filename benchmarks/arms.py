"""Searches over a table, several seeds of several strategies, kept as search memories and set side by side.

    python benchmarks/arms.py --table FILE --strategies RandomSearch,RegularizedEvolution --seeds 4 --evaluations 150

Every strategy has its default options. The memories stay in ``--folder``, so that ``nni-diffnas report`` and
``nni-diffnas compare`` can be tried on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from nni_diffnas.errors import TrialFailure
from nni_diffnas.evaluation import TrialContext
from nni_diffnas.job import Job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.plugins import find_plugin
from nni_diffnas.report import compare, read_source
from nni_diffnas.table import load_table


def job_of(table: Path, dataset: str | None, seed: int) -> Job:
    where = {"path": str(table.resolve()), **({"dataset": dataset} if dataset else {})}
    loaded = load_table(table, dataset)
    direction = "maximize" if loaded.maximize else "minimize"
    return Job.model_validate(
        {
            "space": {"type": "table", **where},
            "data": where,
            "evaluator": {"type": "tabular"},
            "objective": {"metric": loaded.objective, "direction": direction},
            "seed": seed,
        }
    )


def search(name: str, job: Job, evaluations: int, file: Path) -> None:
    """Run one search and record it as the tuner door does."""
    family, evaluation = job.make_family(), job.make_evaluation()
    evaluation.prepare()
    with SearchMemory(file) as memory:
        strategy = find_plugin("strategies", name)(
            objective=job.make_objective(), seed=job.seed, memory=memory, start_with_default=False
        )
        strategy.experiment = file.stem
        strategy.bind(family.space, family, evaluation.protocol, task=job.task)
        body = {
            "job": job.model_dump(mode="json"),
            "strategy": name,
            "options": {},
            "protocol": evaluation.protocol,
            "space": family.space.key,
            "max_trials": evaluations,
        }
        memory.log("experiment", strategy.experiment, body)
        for _ in range(evaluations):
            for trial in strategy.ask(1):
                context = TrialContext(trial.architecture, file.parent, job.seed)
                try:
                    strategy.tell(trial.id, evaluation.evaluate(family.build(trial.architecture), context))
                except TrialFailure as failure:
                    strategy.tell_failed(trial.id, str(failure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--strategies", default="RandomSearch,RegularizedEvolution")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--folder", type=Path, default=Path("runs/arms"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in arguments.strategies.split(","):
        for seed in range(arguments.seeds):
            file = arguments.folder / f"{name}-{seed}.sqlite"
            file.unlink(missing_ok=True)
            search(name, job_of(arguments.table, arguments.dataset, seed), arguments.evaluations, file)
            files.append(file)
    print(compare([read_source(str(file)) for file in files]).describe())


if __name__ == "__main__":
    main()
