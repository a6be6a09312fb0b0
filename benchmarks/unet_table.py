"""A table of trained UNets, for strategies to be compared on a large space with conditions.

    python benchmarks/unet_table.py --folder FOLDER --output unets.npz

CIFAR-10 averaged 2x2 to 16x16, preset ``pixels16``: 150 networks of at most half of the default's MACs, drawn by
`sample_within` before any search and listed in a file, each trained once on 15,000 images: held-out loss, distance,
MACs, parameters. The table is of the form that README.md describes; a choice that does not exist for a network has its
first value there. ``benchmarks/data/unets_cifar10_16.npz`` holds the 139 that an H200 came to train in bf16.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pays import Pays
from reporting import report
from workers import finish

from nni_diffnas.api.family import sample_within
from nni_diffnas.api.space import Architecture

JOURNAL = Path(__file__).parent / "journals" / "unet_table.jsonl"
METRICS = ("held_out_loss", "rfid", "macs", "params")


def listed(pays: Pays, path: Path, count: int) -> list[Architecture]:
    """``count`` different networks within the budget, from their file where there is one; the space may have grown."""
    if not path.exists():
        rng, found = np.random.default_rng(0), dict[str, Architecture]()
        key = pays.family.space.key_of
        while len(found) < count:
            each = sample_within(pays.family, pays.budget, rng, accept=lambda a: key(a) not in found)
            found[key(each)] = each
        rows = [{**pays.family.cost(each).as_metrics(), "architecture": dict(each)} for each in found.values()]
        path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    return [pays.family.space.validate(row["architecture"]) for row in json.loads(path.read_text(encoding="utf-8"))]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("pays"), help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--output", type=Path, help="the table, npz")
    parser.add_argument("--networks", type=int, default=150)
    parser.add_argument("--images", type=int, default=15_000, help="of a training")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--samples", type=int, default=2000, help="of a distance")
    parser.add_argument("--workers", type=int, default=1, help="processes that train at once")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    given.size = 16
    pays = Pays(given)
    networks = listed(pays, given.journal.with_name(f"{given.journal.stem}_networks.json"), given.networks)
    tasks = [pays.task(each, seed, "table") for seed, each in enumerate(networks)]
    if not given.only_report:
        finish(pays.journal, dict(tasks), given.workers)
    records = [pays.journal.records.get(key, {}) for key, _ in tasks]
    kept = [(each, record["metrics"]) for each, record in zip(networks, records, strict=True) if "metrics" in record]
    values = np.array([[metrics[name] for name in METRICS] for _, metrics in kept]).reshape(len(kept), len(METRICS))
    if given.output is not None:
        choices = pays.family.space.choices
        indices = [[choices[label].index(each.get(label, choices[label][0])) for label in choices] for each, _ in kept]
        named = {"labels": list(choices), "metrics": list(METRICS), "objective": METRICS[0], "maximize": False}
        np.savez_compressed(given.output, choices=np.array(indices), values=values, **named)
    rows = [
        [name, *np.quantile(column, [0.0, 0.1, 0.5, 0.9, 1.0])] for name, column in zip(METRICS, values.T, strict=True)
    ]
    columns = ["metric", "least", "10 %", "median", "90 %", "most"]
    report(columns, rows, {"benchmark": "unet_table", "networks": len(kept), "images": given.images, "rows": rows})


if __name__ == "__main__":
    main()
