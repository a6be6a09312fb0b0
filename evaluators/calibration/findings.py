"""`Calibration`: how well each cheap protocol ranks networks, and which one is recommended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nni_diffnas.searching.formats import format_seconds

from .ranking import Agreement, Measured, agreement, ceiling, noise, recommend

__all__ = ["Calibration", "compare_proxies"]


@dataclass(frozen=True)
class Calibration:
    """What a calibration found.

    Args:
        measured: everything, network by network.
        agreements: of each proxy with the reference.
        ceiling: tau of a score free of noise, bounded by the reference's own; NaN with one seed.
        wanted: tau that the recommendation has to reach.
    """

    measured: Measured
    agreements: Mapping[str, Agreement]
    ceiling: float
    wanted: float

    @property
    def recommended(self) -> str | None:
        """Name of the cheapest protocol that reaches the wanted tau."""
        return recommend(self.agreements, self.measured.proxies, self.wanted)

    @property
    def best(self) -> str | None:
        """Name of the protocol with the highest tau."""
        usable = [name for name in self.agreements if self.measured.proxies[name].settings]
        return max(usable, key=lambda name: self.agreements[name].tau, default=None)

    def rows(self) -> list[dict[str, Any]]:
        """One row a proxy, the cheapest first: its agreement, cost relative to the reference, and noise over spread."""
        rows = []
        for name, proxy in sorted(self.measured.proxies.items(), key=lambda item: item[1].seconds):
            if name in self.agreements:
                share = proxy.seconds / self.measured.reference_seconds
                spread = noise(proxy.values).ratio if len(proxy.seeds) > 1 else math.nan
                rows.append({"proxy": name, **asdict(self.agreements[name]), "cost": share, "noise": spread})
        return rows

    def describe(self) -> str:
        """Write the table and the recommendation for the terminal."""
        measured = self.measured
        lines = [f"{'proxy':56} {'tau':>5}  95 % interval  top-1 regret   cost  noise/spread"]
        for row in self.rows():
            lines.append(
                f"{row['proxy']:56} {row['tau']:5.2f}  [{row['low']:5.2f}, {row['high']:4.2f}]  "
                f"{row['regret']:7.3g} {row['relative_regret']:4.0%}  {row['cost']:5.1%}  {row['noise']:5.2f}"
            )
        spread = noise(measured.reference)
        lines += [
            f"{len(measured.macs)} networks, {len(measured.seeds)} seeds of the reference, which takes "
            f"{format_seconds(measured.reference_seconds)} each; its noise is {spread.common_seeds:.3g}, the spread of "
            f"the networks {spread.networks:.3g}; a score free of noise would reach a tau of {self.ceiling:.2f}.",
            "Regret: of the network that the score puts first, in units of the distance and relative to one drawn at "
            "random. Cost: relative to the reference.",
        ]
        if self.recommended:
            settings = measured.proxies[self.recommended].settings
            lines.append(
                f"Recommended, as the cheapest protocol with a tau of {self.wanted:g} or more: {self.recommended}. "
                f"{_advice(settings)}"
            )
        elif self.best:
            lines.append(
                f"No protocol reaches a tau of {self.wanted:g}; the best is {self.best} with "
                f"{self.agreements[self.best].tau:.2f}: train longer than the job says."
            )
        return "\n".join(lines)


def _advice(settings: Mapping[str, float | str]) -> str:
    """What to change in a job so that it scores by these settings of a `Proxy`."""
    fields = {"metric": "objective.metric", "score_images": "evaluator.score_images"}
    fields |= {"sampler_steps": "evaluator.sampler_steps"}
    changes = [f"{field} to {settings[name]}" for name, field in fields.items() if name in settings]
    return f"Set {', '.join(changes)}, and train for {settings['factor']:g} times as long as the job says."


def compare_proxies(measured: Measured, wanted: float) -> Calibration:
    """Agreement of every proxy with the reference."""
    agreements = {name: agreement(proxy, measured) for name, proxy in measured.proxies.items()}
    known = {name: found for name, found in agreements.items() if math.isfinite(found.tau)}
    return Calibration(measured, known, ceiling(measured.reference), wanted)
