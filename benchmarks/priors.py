"""What could be thought of a UNet before it is trained, against what a training said: rank correlations.

    python benchmarks/priors.py

Over the networks of ``journals/choices.jsonl`` (see ``choices.py``), all of about the same MACs, each trained once at
one learning rate: parameters; channels, summed over the levels; residual layers; and the flow of the plan, the sum over
its residual layers of log(1 + product of 0.5 k sqrt(C) over the convolutions in a row). They differ from one network in
a few choices, and are no random draw of the space.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from choices import BY_HAND, EVERYTHING, JOURNAL
from reporting import report
from scipy.stats import spearmanr

from nni_diffnas.search_spaces.unet.plan import Plan, plan_of
from nni_diffnas.search_spaces.unet.residuals import ConvNeXt


def gain(channels: int, kernel: int) -> float:
    """Sum of the absolute weights that a result reads, as torch initialises them."""
    return 0.5 * kernel * math.sqrt(channels)


def flow(plan: Plan) -> float:
    """How much an untrained network of absolute weights adds to what its shortcuts hand on."""
    total = 0.0
    for layer in (layer for block in plan.blocks for layer in block.residuals):
        if isinstance(layer, ConvNeXt):
            inside = layer.outputs * layer.expansion
            total += math.log1p(gain(1, layer.kernel) * gain(layer.outputs, 1) * gain(inside, 1))
        else:
            total += math.log1p(gain(layer.inputs, 3) * gain(layer.inner, 3))
    return total


PRIORS: dict[str, Callable[[Plan, Any], float]] = {
    "parameters": lambda plan, record: plan.price[1],
    "channels": lambda plan, record: sum(record["widths"]),
    "residual layers": lambda plan, record: sum(len(block.residuals) for block in plan.blocks),
    "flow of the plan": lambda plan, record: flow(plan),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--learning-rate", type=float, default=0.004)
    given = parser.parse_args()
    records = [json.loads(line) for line in given.journal.read_text().splitlines()]
    records = [r for r in records if r.get("network") in EVERYTHING and r["learning_rate"] == given.learning_rate]
    first = {r["network"]: r for r in reversed(records)}
    losses = [r["loss"] for r in first.values()]
    plans = [plan_of(replace(BY_HAND, widths=tuple(r["widths"]), **EVERYTHING[r["network"]])) for r in first.values()]
    rows = []
    for name, prior in PRIORS.items():
        found = spearmanr([prior(plan, r) for plan, r in zip(plans, first.values(), strict=True)], losses)
        rows.append([name, -float(found.statistic), float(found.pvalue)])
    body = {"benchmark": "priors", "networks": len(losses), "spearman": {row[0]: row[1] for row in rows}}
    report(["prior", "Spearman with -loss", "p"], rows, body)


if __name__ == "__main__":
    main()
