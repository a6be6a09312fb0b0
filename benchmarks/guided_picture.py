"""Generated architectures before and after guidance, as a picture.

    python benchmarks/guided_picture.py --output docs/images/guided.png [--table FILE]

Above: UNets of the digits preset, without guidance and guided to half of the default's MACs (+-5 %). Below, with a
table: its cells, without guidance and guided by a GP after 50 random observations, with what the table says of each.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch, Rectangle

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.search_spaces import TableFamily, UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.table import Table, load_table

COLUMNS = 8


def draw_unet(axes: Any, architecture: Mapping[str, Any]) -> None:
    """One column of blocks a level, down and up again: height is width, number is depth, dark has attention."""
    levels = [0, 1, 1, 0]
    at = 0.0
    for position, level in enumerate(levels):
        width, attention = architecture[f"level{level}.width"], architecture[f"level{level}.attention"]
        for _ in range(architecture[f"level{level}.depth"]):
            color = "#225588" if attention else "#99bbdd"
            axes.add_patch(Rectangle((at, -width / 2), 0.8, width, color=color))
            at += 1
        at += 0.4
        if position == 1 and architecture["middle"] != "none":
            color = "#aa3333" if architecture["middle"] == "attention" else "#ddaaaa"
            axes.add_patch(Rectangle((at, -width / 2), 0.8, width, color=color))
            at += 1.4
    axes.set(xlim=(-0.5, 15), ylim=(-36, 36))


def draw_rows(axes: Any, table: Table, architecture: Mapping[str, Any], colors: Mapping[Any, Any]) -> None:
    """One coloured bar a label."""
    labels = list(architecture)
    for i, label in enumerate(labels):
        axes.add_patch(Rectangle((0, -i), 1, 0.9, color=colors[architecture[label]]))
        axes.text(-0.1, -i + 0.45, label.rsplit("/", 1)[-1], ha="right", va="center", fontsize=6)
    axes.set(xlim=(-0.8, 1.3), ylim=(-len(labels) + 0.8, 1.1))


def unets(family: UNetFamily, budget: Budget) -> list[dict[str, Any]]:
    search = Search(
        DiffusionGuided(objective="rfid", unguided=COLUMNS, train_first="none", budget=budget, seed=1),
        family.space,
        family,
    )
    return [trial.architecture for trial in search.ask(COLUMNS)]


def cells(table: Table, observations: int) -> list[dict[str, Any]]:
    objective = Objective("score", "maximize" if table.maximize else "minimize")
    search = Search(
        DiffusionGuided(objective=objective, unguided=COLUMNS, train_first="none", seed=1),
        table.space,
        TableFamily.of(table),
    )
    rows = np.random.default_rng(1).choice(len(table.choices), observations, replace=False)
    origin = Origin("RandomSearch", "random")
    column = table.column(table.objective)
    search.restore(
        [
            Trial(f"t{row}", "e", table.architecture(row), origin, "succeeded", {"score": float(column[row])})
            for row in rows.tolist()
        ],
        {},
    )
    return [trial.architecture for trial in search.ask(COLUMNS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--dataset")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    family = UNetFamily("digits")
    half = family.cost(family.default).macs / 2
    window = Budget({"macs": Window(0.95 * half, 1.05 * half)})
    rows: list[tuple[str, list[dict[str, Any]]]] = [
        ("UNets,\nno guidance", unets(family, Budget())),
        (f"guided to\n{half / 1e6:.1f} +- 5 %\nMMACs", unets(family, window)),
    ]
    table = load_table(arguments.table, arguments.dataset) if arguments.table else None
    if table is not None:
        rows += [("cells,\nno guidance", cells(table, 0)), ("guided after\n50 observations", cells(table, 50))]
    figure, grid = plt.subplots(len(rows), COLUMNS, figsize=(1.5 * COLUMNS, 1.5 * len(rows) + 0.5), squeeze=False)
    values = list(dict.fromkeys(v for values in table.space.choices.values() for v in values)) if table else []
    colors = dict(zip(values, plt.get_cmap("Set2").colors, strict=False))
    for i, (name, drawn) in enumerate(rows):
        for j, architecture in enumerate(drawn):
            axes = grid[i, j]
            axes.set(xticks=[], yticks=[])
            for side in axes.spines.values():
                side.set_visible(False)
            if i < 2:
                draw_unet(axes, architecture)
                axes.set_title(f"{family.cost(architecture).macs / 1e6:.1f} MMACs", fontsize=8)
            elif table is not None:
                draw_rows(axes, table, architecture, colors)
                row = table.row(architecture)
                text = "-" if row is None else f"{table.column(table.objective)[row]:.1f}"
                axes.set_title(f"{table.objective} {text}", fontsize=8)
        grid[i, 0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center", labelpad=18)
    if values:
        figure.legend([Patch(color=colors[v]) for v in values], [str(v) for v in values], loc="lower center", ncols=6)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(arguments.output, dpi=90)


if __name__ == "__main__":
    main()
