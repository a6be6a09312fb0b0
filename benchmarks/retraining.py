"""How should a student be retrained? One student of one teacher, by several ways that take the same compute.

    python benchmarks/retraining.py --case digits

The teacher is trained once and kept in ``--folder``. The student has the same kernels and width in every block, the
largest within half of the teacher's cost, so that nothing hangs on a search. Every way takes the same part of the
teacher's training, counted in multiply-accumulates of student and teacher: one that needs less for an image sees more.
The importance of channels, 512 images of the teacher's training, comes on top.
Compared are the loss on held-out images, the squared distance of the predictions to the teacher's on them, and the
distance of samples, by seeds of the retraining. Every finished training is kept in the journal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reporting import report
from students import COLUMNS, opened, options, retrained, shown, uniform

from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators.calibration.measurements import Journal

JOURNAL = Path(__file__).parent / "journals" / "retraining.jsonl"
OUTPUT: Mapping[str, Any] = {"beta": "constant1", "soft_target": 1.0, "bank": 0}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "output": OUTPUT,
    "own, half": {**OUTPUT, "beta": "half", "features": "own"},
    "own, cosine": {**OUTPUT, "beta": "cosine", "features": "own"},
    "own, hard": {**OUTPUT, "beta": "hard", "features": "own"},
    "teacher's, half": {**OUTPUT, "beta": "half", "features": "teacher"},
    "teacher's, cosine": {**OUTPUT, "beta": "cosine", "features": "teacher"},
    "bank of 1024, 2 passes": {**OUTPUT, "bank": 1024, "bank_passes": 2},
    "bank of 1024, 4 passes": {**OUTPUT, "bank": 1024, "bank_passes": 4},
    "bank of 4096, 4 passes": {**OUTPUT, "bank": 4096, "bank_passes": 4},
    "channels by norm": {**OUTPUT, "importance": "norm"},
    "noise alone": {**OUTPUT, "soft_target": 0.0},
    "as in the paper": {"recipe": "paper"},
    "from scratch": {**OUTPUT, "soft_target": 0.0, "inherit": "nothing"},
    "output, batch of 32": {**OUTPUT, "training": {"batch_size": 32}},
    "output, batch of 64": {**OUTPUT, "training": {"batch_size": 64}},
    "output, twice the rate": {**OUTPUT, "training": {"learning_rate": 4e-3}},
    "output, half the rate": {**OUTPUT, "training": {"learning_rate": 1e-3}},
}
"""Options of the evaluation, by the name of the way."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, JOURNAL)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=list(WAYS))
    given = parser.parse_args(arguments)
    studied, journal = opened(given), Journal(given.journal)
    architecture = uniform(studied.family)
    cost, of = studied.family.cost(architecture), studied.family.teacher_cost
    rows: list[list[Any]] = [["teacher", 1, *[shown([studied.metrics[name]]) for name in COLUMNS]]]
    for way in given.ways:
        found = []
        for seed in range(given.seeds):
            about = (studied.metrics["train_macs"], sorted(architecture.items()), given.share, given.samples)
            key = fingerprint("retraining", given.case, *about, way, seed)

            def make(way: str = way, seed: int = seed) -> dict[str, Any]:
                metrics = retrained(studied, WAYS[way], seed, architecture)
                kept = {name: metrics[name] for name in (*COLUMNS, "trained_images", "seconds")}
                return {"case": given.case, "share": given.share, "way": way, "seed": seed, "metrics": kept}

            found.append(journal.once(key, make)["metrics"])
            print(f"{way}, seed {seed}: {found[-1]}", file=sys.stderr, flush=True)
        means = [shown([metrics[name] for metrics in found]) for name in COLUMNS]
        rows.append([way, len(found), *means])
    share = {"macs": cost.macs / of.macs, "params": cost.params / of.params}
    body = {"benchmark": "retraining", "case": given.case, "share": given.share, "student": share, "rows": rows}
    report(["way", "seeds", *COLUMNS.values()], rows, body)


if __name__ == "__main__":
    main()
