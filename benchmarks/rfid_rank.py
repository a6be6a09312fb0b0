"""Ranks networks by cheap signals against a long training, on images where networks of one cost differ.

    python benchmarks/rfid_rank.py --folder FOLDER

CIFAR-10 averaged 2x2 to 16x16. 24 UNets: 16 within 3 % of half of the default's MACs, drawn by `sample_within` with
seed 0, and 8 evenly spread over a tenfold range around it; they are written into the journal before any is trained.
Each is trained for a tenth and a quarter of the reference (a quarter is one trial), two seeds each, and, with seeds of
their own, twice for the reference: four times a trial, scored by 5,000 samples. Whatever a training tells is a signal:
losses and prediction gap, each noise level apart, distances, a ridge regression of them, an extrapolated loss; before
training NASWOT, the gradient, MACs and parameters. Costs are CPU seconds over those of one reference.

Every finished training is in the journal, so that a killed benchmark goes on; ``--only-report`` reads it alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rank_signals import with_derived
from reporting import report
from small_images import averaged

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.family import Family, sample_within
from nni_diffnas.api.space import Architecture
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import REFERENCE_SEED, Journal, Run, Sampling, measure
from nni_diffnas.evaluators.calibration.ranking import Agreement, Measured, agreement, ceiling, noise, read
from nni_diffnas.plugins import find_plugin

JOURNALS = Path(__file__).parent / "journals"
SPACE = {"preset": "pixels16"}
TOLERANCE = 0.03
TRIAL, TENTH, REFERENCE = 1.0, 0.4, 4.0
"""Lengths of the trainings, relative to a trial's."""


def drawn(family: Family, count: int, spread: int) -> list[Architecture]:
    """``count`` networks of half of the default's MACs, then ``spread`` over a tenfold range around it."""
    rng, found = np.random.default_rng(0), dict[str, Architecture]()
    half = family.cost(family.default).macs / 2
    around = half * np.logspace(-0.5, 0.5, spread)
    for target in [half] * count + around.tolist():
        budget = Budget({"macs": Window((1 - TOLERANCE) * target, (1 + TOLERANCE) * target)})
        chosen = sample_within(family, budget, rng, accept=lambda each: family.space.key_of(each) not in found)
        found[family.space.key_of(chosen)] = chosen
    return list(found.values())


def listed(family: Family, path: Path, count: int, spread: int) -> list[Architecture]:
    """The networks of the benchmark, from their file where there is one; the space may have grown since."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        networks = drawn(family, count, spread)
        rows = [{**family.cost(each).as_metrics(), "architecture": dict(each)} for each in networks]
        path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    return [family.space.validate(row["architecture"]) for row in json.loads(path.read_text(encoding="utf-8"))]


def trainings(network: Architecture, seed: int, samples: int) -> list[Run]:
    """A tenth and a quarter of the reference, and the reference, which shares no seed with them."""
    brief = (Sampling(10, (samples // 5, 2 * samples // 5)),)
    runs = [Run(network, seed, factor, brief, curve=3) for factor in (TENTH, TRIAL)]
    return [*runs, Run(network, REFERENCE_SEED + seed, REFERENCE, (Sampling(10, (samples,)),), curve=3)]


def without_worst(measured: Measured) -> Measured:
    """The same without the quarter of the networks whose reference is worst: a signal must tell the good ones apart."""
    means = measured.reference.mean(axis=1)
    return measured.of(means <= np.nanquantile(means, 0.75))


def rows_of(measured: Measured) -> list[list[Any]]:
    """One row a signal, the best first: tau, its interval, tau without the worst quarter, regret, cost, noise."""
    good, rows = without_worst(measured), []
    for name, proxy in measured.proxies.items():
        whole: Agreement = agreement(proxy, measured)
        rest = agreement(good.proxies[name], good, bootstraps=2)
        ratio = noise(proxy.values).ratio if len(proxy.seeds) > 1 else math.nan
        share = proxy.seconds / measured.reference_seconds
        if math.isfinite(whole.tau):
            rows.append([name, whole.tau, whole.low, whole.high, rest.tau, whole.relative_regret, share, ratio])
    return sorted(rows, key=lambda row: -row[1])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, help="keeps the results; unset: benchmarks/journals/rfid_rank.jsonl")
    parser.add_argument("--space", type=json.loads, default=SPACE, help="JSON: preset and options")
    parser.add_argument("--images", type=int, default=30_000, help="of a trial's training")
    parser.add_argument("--learning-rate", type=float, help="unset: the recipe's")
    parser.add_argument("--networks", type=int, default=16, help="of one cost")
    parser.add_argument("--spread", type=int, default=8, help="over the range")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=5000, help="of the reference")
    parser.add_argument("--gap", type=float, default=8.0, help="training of the reference denoiser, in trials; 0: none")
    parser.add_argument("--quick", action="store_true", help="a few tiny trainings, in the folder's own journal")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    if given.quick:
        given.images, given.networks, given.spread, given.samples, given.gap, given.seeds = 128, 3, 1, 20, 1.0, 1
        given.journal = given.journal or given.folder / "rfid_rank.jsonl"
    path = given.journal or JOURNALS / "rfid_rank.jsonl"

    family = find_plugin("spaces", "unet")(**given.space)
    networks = listed(family, path.with_name(f"{path.stem}_networks.json"), given.networks, given.spread)
    journal = Journal(path)
    # The band first, and all networks before the second seed: what is finished early is worth most.
    runs = [run for seed in range(given.seeds) for each in networks for run in trainings(each, seed, given.samples)]
    if not given.only_report:
        training = {"images": given.images}
        training |= {} if given.learning_rate is None else {"learning_rate": given.learning_rate}
        evaluation = DiffusionEvaluation(
            {"source": str(averaged(given.folder, given.data))}, training=training, curve_images=0,
            loss_images=8 if given.quick else 128, gap_training=given.gap,
        )  # fmt: skip
        evaluation.prepare()
        for number, result in enumerate(measure(family, evaluation, runs, journal), 1):
            said = result.get("failure") or f"{result['scores'][-1]['rfid']:.2f}"
            print(f"{number}/{len(runs)}: training x {result['factor']:g}: {said}", file=sys.stderr, flush=True)

    records = list(journal.records.values())
    measured = with_derived(read(records), records, TRIAL, REFERENCE)
    half = family.cost(family.default).macs / 2
    parts = {
        "one cost": measured.of(np.abs(measured.macs / half - 1.0) <= TOLERANCE),
        "tenfold range": measured,
    }
    columns = ["signal", "tau", "low", "high", "tau, worst quarter off", "regret", "cost", "noise / spread"]
    for name, part in parts.items():
        spread, rows = noise(part.reference), rows_of(part)
        print(f"\n{name}: {len(part.macs)} networks, {len(part.seeds)} seeds of the reference")
        body = {
            "benchmark": "rfid_rank", "networks": name, "count": len(part.macs), "ceiling": ceiling(part.reference),
            "reference_noise": spread.common_seeds, "reference_spread": spread.networks,
            "reference_seconds": part.reference_seconds, "images": given.images, "space": given.space,
        }  # fmt: skip
        report(columns, rows, {**body, "rows": rows})


if __name__ == "__main__":
    main()
