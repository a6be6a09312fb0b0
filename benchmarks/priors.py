"""What could be thought of a UNet before it is trained, against what a training said: rank correlations and effects.

    python benchmarks/priors.py

Over the random networks of ``journals/unet_table.jsonl`` (see ``unet_table.py``), each trained once. Ranked by: MACs;
parameters; what the levels carry (`nni_diffnas.api.family.Family.promise`); channels, summed over the levels; residual
layers; and the flow of the plan, the sum over its residual layers of log(1 + product of 0.5 k sqrt(C) over the
convolutions in a row). At equal MACs: the partial rank correlation.

Then what each value of a choice changes: a ridge regression of the logarithm of the loss on all values and on log MACs,
judged by ten-fold cross-validation.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from reporting import report
from scipy.stats import rankdata, spearmanr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from unet_table import JOURNAL

from nni_diffnas.api.space import Architecture
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.search_spaces.unet.block_kinds import ConvNeXt
from nni_diffnas.search_spaces.unet.plan import Plan


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


PRIORS: dict[str, Callable[[UNetFamily, Architecture], float]] = {
    "MACs": lambda family, chosen: family.cost(chosen).macs,
    "parameters": lambda family, chosen: family.cost(chosen).params,
    "carried": lambda family, chosen: family.promise(chosen),
    "channels": lambda family, chosen: sum(family.config(chosen).widths),
    "residual layers": lambda family, chosen: sum(len(block.residuals) for block in family.plan(chosen).blocks),
    "flow of the plan": lambda family, chosen: flow(family.plan(chosen)),
}


def at_equal(values: ArrayLike, losses: ArrayLike, macs: ArrayLike) -> float:
    """Partial rank correlation of values and losses."""
    left, right = (
        ranks - np.polyval(np.polyfit(rankdata(macs), ranks, 1), rankdata(macs))
        for ranks in (rankdata(values), rankdata(losses))
    )
    return float(np.corrcoef(left, right)[0, 1])


def effects(family: UNetFamily, networks: Sequence[Architecture], losses: ArrayLike) -> tuple[list[list[Any]], float]:
    """Rows of label, value, networks that have it and per cent of the loss; variance explained."""
    columns, names = [], []
    for label, values in family.space.choices.items():
        for value in values:
            has = np.array([chosen.get(label) == value for chosen in networks], dtype=np.float64)
            if has.any():
                columns.append(has)
                names.append((label, value, int(has.sum())))
    macs = np.log([family.cost(chosen).macs for chosen in networks])
    inputs, targets = np.column_stack([*columns, macs - macs.mean()]), np.log(np.asarray(losses))
    fitted = RidgeCV(alphas=np.logspace(-2, 2, 20)).fit(inputs, targets)
    folds = KFold(10, shuffle=True, random_state=0)
    predicted = cross_val_predict(Ridge(alpha=fitted.alpha_), inputs, targets, cv=folds)
    explained = 1.0 - float(np.square(predicted - targets).mean() / targets.var())
    rows = [[*name, 100 * float(by)] for name, by in zip(names, fitted.coef_, strict=False)]
    return sorted(rows, key=lambda row: -abs(row[3])), explained


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--effects", type=int, default=12, help="so many of the largest")
    given = parser.parse_args()
    family = UNetFamily("pixels16")
    records = [json.loads(line) for line in given.journal.read_text(encoding="utf-8").splitlines()]
    networks = [family.space.validate(record["architecture"]) for record in records]
    losses = np.array([record["metrics"]["held_out_loss"] for record in records])
    macs = [family.cost(chosen).macs for chosen in networks]
    rows = []
    for name, prior in PRIORS.items():
        values = [prior(family, chosen) for chosen in networks]
        alike = -at_equal(values, losses, macs) if name != "MACs" else None
        rows.append([name, -float(spearmanr(values, losses).statistic), alike])
    report(
        ["prior", "Spearman with -loss", "at equal MACs"],
        rows,
        {"benchmark": "priors", "networks": len(networks), "rows": rows},
    )
    found, explained = effects(family, networks, losses)
    found = found[: given.effects]
    print(
        f"\nEffects on the loss; the regression explains {explained:.0%} of the variance of networks it has not seen."
    )
    report(["label", "value", "networks", "%"], found, {"benchmark": "effects", "explained": explained, "rows": found})


if __name__ == "__main__":
    main()
