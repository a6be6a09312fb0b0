"""Searches over a table, several seeds of several strategies, kept as experiments and set side by side.

    python benchmarks/arms.py --table FILE --strategies RandomSearch,RegularizedEvolution --seeds 4 --evaluations 150

Every strategy has its default options. The searches stay in ``--folder``, so that ``nni-diffnas report`` and
``nni-diffnas compare`` can be tried on them.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from pathlib import Path

from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job
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
    folders: list[Path] = []
    for name in arguments.strategies.split(","):
        for seed in range(arguments.seeds):
            folders.append(arguments.folder / f"{name}-{seed}")
            shutil.rmtree(folders[-1], ignore_errors=True)
            job = job_of(arguments.table, arguments.dataset, seed)
            with contextlib.redirect_stdout(None):
                run_search(job, name, folders[-1], arguments.evaluations, {"train_first": "none"})
    print(compare([read_source(str(folder)) for folder in folders]).describe())


if __name__ == "__main__":
    main()
