"""The picture of a calibration: what each score costs, how well it ranks, and the recommended one by network."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .findings import Calibration

__all__ = ["draw"]

COLOURS = {"rfid": "tab:blue", "rfid_inf": "tab:cyan", "kid": "tab:green", "loss": "tab:orange"}


def draw(found: Calibration, path: Path) -> None:
    """Write a PNG: tau over cost with its intervals, and the best protocol's score over the reference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = found.measured
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    rows = found.rows()
    cheapest = min((row["cost"] for row in rows if row["cost"] > 0), default=0.01) / 3
    for row in rows:
        kind = row["proxy"].replace(",", " ").split()[0]
        colour = COLOURS.get(kind, "tab:gray")
        x = max(row["cost"], cheapest)
        marked = row["proxy"] == found.recommended
        error = [[max(row["tau"] - row["low"], 0)], [max(row["high"] - row["tau"], 0)]]
        left.errorbar(x, row["tau"], error, fmt="*" if marked else "o", color=colour, elinewidth=0.6,
                      markersize=14 if marked else 5, alpha=0.8)  # fmt: skip
        if kind not in COLOURS:
            side = -1 if x > 0.3 else 1
            left.annotate(row["proxy"], (x, row["tau"]), fontsize=7, xytext=(5 * side, 4), textcoords="offset points",
                          ha="right" if side < 0 else "left")  # fmt: skip
    for kind, colour in COLOURS.items():
        left.plot([], [], "o", color=colour, label=kind)
    left.axhline(found.wanted, color="black", linestyle=":", linewidth=1, label="wanted")
    if math.isfinite(found.ceiling):
        left.axhline(found.ceiling, color="tab:red", linestyle="--", linewidth=1, label="ceiling of the reference")
    left.set_xscale("log" if rows else "linear")
    left.set(xlabel="cost, relative to the reference", ylabel="Kendall's tau with the reference", ylim=(-1.05, 1.05),
             title="How well scores rank")  # fmt: skip
    left.legend(fontsize=7, loc="lower left")

    name = found.recommended or found.best
    if name is not None:
        values = np.nanmean(measured.proxies[name].values, axis=1)
        reference = np.nanmean(measured.reference, axis=1)
        points = right.scatter(values, reference, c=measured.macs / 1e6, cmap="viridis")
        figure.colorbar(points, ax=right, label="million MACs")
        right.set(xlabel=name, ylabel="reference (distance after the long training)",
                  title="Recommended" if found.recommended else "Best, but below what is wanted")  # fmt: skip
    figure.savefig(path, dpi=110)
