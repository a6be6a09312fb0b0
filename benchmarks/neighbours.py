"""Is there anything better near a network? All networks that differ from it in one choice and meet the job's budget.

    python benchmarks/neighbours.py examples/patches/job.yml --network "wide ConvNeXt" --journal FILE

The network is one that ``nni-diffnas cost JOB`` lists by its name, or an architecture file. Each is trained as a
trial of the job is, with one seed; the network itself with ``--seeds``, which tell how much of a difference is luck.
Choices that change nothing (how deep the way up is, where all levels have one layer) have the very same score.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from reporting import report

from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.cache import fingerprint
from nni_diffnas.cli.arguments import find_architecture
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.training.compute import threads
from nni_diffnas.job import Job, load_job
from nni_diffnas.trial.run import run_trial


def one_apart(family: Family, job: Job, chosen: Architecture) -> Iterator[tuple[str, Architecture]]:
    """Name and network of all that differ from one in a choice that it has, within budget."""
    for label in chosen:
        for value in family.space.choices[label]:
            if value == chosen[label]:
                continue
            try:
                changed = family.space.validate({**chosen, label: value})
            except SpaceError:  # the choice decides whether others are there
                continue
            if job.make_budget().admits(family.cost(changed)):
                yield f"{label} {value}", changed


def trained(job: Job, architecture: Architecture, seed: int) -> dict[str, Any]:
    """Metrics of one training."""
    with tempfile.TemporaryDirectory() as folder, threads(1):
        return run_trial(job, architecture, output=Path(folder), seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("job", type=Path, help="job file, with a budget")
    parser.add_argument("--network", default="wide ConvNeXt", help="as 'nni-diffnas cost JOB' lists it, or a file")
    parser.add_argument("--seeds", type=int, default=3, help="of the network itself")
    parser.add_argument("--most", type=int, help="of its neighbours that are trained; unset: all")
    parser.add_argument("--journal", type=Path, required=True, help="JSONL of trainings that have ended")
    given = parser.parse_args()
    job, journal = load_job(given.job), Journal(given.journal)
    family = job.make_family()
    chosen = family.space.validate(find_architecture(Path(given.network), family, job.make_budget()))
    tried = [(given.network, chosen, seed) for seed in range(given.seeds)]
    tried += [(name, each, 0) for name, each in islice(one_apart(family, job, chosen), given.most)]
    metric, rows = job.objective.metric, []
    for name, architecture, seed in tried:
        protocol = job.make_evaluation().protocol
        what = {"neighbours": family.space.key_of(architecture), "seed": seed, "protocol": protocol}

        def make(what: dict[str, Any] = what, of: Architecture = architecture, seed: int = seed) -> dict[str, Any]:
            return {**what, "metrics": trained(job, of, seed)}

        found = journal.once(fingerprint(what), make)["metrics"]
        print(f"{name}, seed {seed}: {found[metric]:.4g}", file=sys.stderr, flush=True)
        rows.append([name, seed, found["macs"] / 1e6, found[metric], found[metric] / rows[0][3] if rows else 1.0])
    rows.sort(key=lambda row: row[3])
    report(["network", "seed", "MMACs", metric, "times the first"], rows, {"benchmark": "neighbours", "rows": rows})


if __name__ == "__main__":
    main()
