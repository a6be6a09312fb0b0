"""Draws what a search paid: distance against MACs of the default, by hand, recommended, and found.

    python benchmarks/pays_picture.py --output docs/images/pays.svg

From the trainings with fresh seeds in `journals/pays.jsonl`, as `pays.py judge` compares them: means with their 95 %
intervals (Student's t).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean, stdev

import matplotlib
from matplotlib import pyplot as plt
from pays import COUNTS, FRESH, JOURNAL, Pays
from reporting import report
from scipy.stats import t

matplotlib.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "pays", "font.family": "sans-serif", "font.size": 11}
)

# As a search of the study runs: its journal is read, nothing is trained.
STUDY = argparse.Namespace(
    images_of="cifar10",
    size=16,
    budget="macs",
    folder=Path(),
    journal=JOURNAL,
    images=30_000,
    learning_rate=4e-3,
    samples=2000,
    trials=24,
    only_report=True,
)
MOST_SEEDS = 100
SHOWN = {
    "default": ("the default", "#b4530a", (10, -4), "left"),
    "by hand: shallower and narrower": ("by hand: narrower", "#7a5ba6", (10, -2), "left"),
    "by hand: shallower and thinner inside": ("by hand: thinner", "#7a5ba6", (-10, -2), "right"),
    "recommended: ConvNeXt": ("recommended", "#2f7d5b", (-10, -2), "right"),
    f"{COUNTS[0]} {COUNTS[1]}": ("found", "#1f5a96", (10, -6), "left"),
}
"""By the beginning of a network's name: label, colour, where the label stands in points, its alignment."""


def measured(pays: Pays) -> dict[str, tuple[float, list[float]]]:
    """MACs in millions, and distances, of the networks that were judged by several seeds."""
    found = {}
    for name, architecture in pays.networks().items():
        keys = (pays.task(architecture, FRESH + index, "judge")[0] for index in range(MOST_SEEDS))
        known = [pays.journal.records[key] for key in keys if key in pays.journal.records]
        scores = [record["metrics"]["rfid"] for record in known if "failure" not in record]
        if len(scores) > 2:
            found[name] = (pays.family.cost(architecture).macs / 1e6, scores)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/images/pays.svg"))
    given = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7.2, 3.5))
    rows = []
    for name, (macs, scores) in measured(Pays(STUDY)).items():
        shown = next((style for start, style in SHOWN.items() if name.startswith(start)), None)
        if shown is None:
            continue
        label, color, offset, alignment = shown
        mean, half = fmean(scores), float(t.ppf(0.975, len(scores) - 1)) * stdev(scores) / len(scores) ** 0.5
        axes.errorbar(macs, mean, half, fmt="o", color=color, capsize=3, markersize=8 if label == "found" else 6)
        weight = "bold" if label == "found" else "normal"
        axes.annotate(
            label, (macs, mean), offset, textcoords="offset points", ha=alignment, color=color, fontweight=weight
        )
        rows.append([label, macs, len(scores), mean, mean - half, mean + half])
    axes.set(xlim=(0, 32), xlabel="million MACs of one pass", ylabel="distance (rFID), lower is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eceff1")
    axes.set_axisbelow(True)
    figure.tight_layout()
    figure.savefig(given.output, metadata={"Date": None})
    report(["network", "MMACs", "seeds", "rFID", "low", "high"], rows, {"benchmark": "pays_picture", "rows": rows})


if __name__ == "__main__":
    main()
