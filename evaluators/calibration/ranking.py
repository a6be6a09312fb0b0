"""How well cheap scores rank networks: rank correlation with a reference, its ceiling, regret, noise, cost.

Every score here is turned so that less is better, as of a distance.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Agreement", "Measured", "Noise", "Proxy", "agreement", "ceiling", "noise", "read", "recommend"]

Matrix = NDArray[np.float64]
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Proxy:
    """A cheap score.

    Args:
        name: of the score, for tables.
        values: float64 ``[networks, seeds]``, NaN where it was not measured.
        seeds: of the columns; none of a score that has no seed.
        seconds: that it takes, mean over networks.
        settings: of a protocol that a job can ask for: ``factor`` of the training, ``metric``, and ``score_images`` and
            ``sampler_steps`` where it takes samples; empty for other scores.
    """

    name: str
    values: Matrix
    seeds: tuple[int, ...]
    seconds: float
    settings: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """All that is known of the networks of a calibration.

    Args:
        architectures: one a row of the matrices.
        macs: of one forward pass, int64 ``[networks]``.
        reference: distances after the long training, ``[networks, seeds]``, NaN where one is missing.
        seeds: of its columns.
        reference_seconds: that one of them takes, mean over networks.
        proxies: by name.
    """

    architectures: tuple[Mapping[str, Any], ...]
    macs: NDArray[np.int64]
    reference: Matrix
    seeds: tuple[int, ...]
    reference_seconds: float
    proxies: Mapping[str, Proxy]

    def of(self, rows: Sequence[int] | NDArray[np.bool_]) -> Measured:
        """The same of some of the networks."""
        chosen = np.arange(len(self.macs))[np.asarray(rows)]
        proxies = {name: replace(proxy, values=proxy.values[chosen]) for name, proxy in self.proxies.items()}
        architectures = tuple(self.architectures[row] for row in chosen)
        seconds = self.reference_seconds
        return Measured(architectures, self.macs[chosen], self.reference[chosen], self.seeds, seconds, proxies)


def read(records: Iterable[Mapping[str, Any]]) -> Measured:
    """Sort the results of `measurements.measure`: those of the longest training are the reference, the others proxies.

    Networks without a reference are left out.
    """
    done = [record for record in records if "failure" not in record]
    longest = max((record["factor"] for record in done), default=0.0)
    names: dict[str, int] = {}
    rows: list[Mapping[str, Any]] = []
    reference: dict[tuple[int, int], float] = {}
    spent: list[float] = []
    scores: dict[str, dict[tuple[int, int], tuple[float, float]]] = defaultdict(dict)
    offered: dict[str, Mapping[str, float | str]] = {}
    for record in sorted(done, key=lambda record: -float(record["factor"])):
        name, seed = repr(sorted(record["architecture"].items())), int(record["seed"])
        if name not in names:
            if record["factor"] < longest:
                continue
            names[name] = len(rows)
            rows.append(record)
        at = names[name], seed
        if record["factor"] == longest:
            best = max(record["scores"], key=lambda score: (score["images"], score["steps"]))
            reference[at] = best["rfid"]
            spent.append(record["train_seconds"] + best["seconds"])
        for label, value, seconds, settings in _proxies(record, longest):
            scores[label][at] = value, seconds
            offered[label] = settings
    # A seed of which most networks are still missing would leave few networks to compare.
    have = Counter(seed for _, seed in reference)
    seeds = tuple(seed for seed in sorted(have) if 2 * have[seed] > len(rows))
    proxies = {}
    for label, found in scores.items():
        own = tuple(sorted({seed for _, seed in found}))
        values = _matrix({at: value for at, (value, _) in found.items()}, len(rows), own)
        seconds = float(np.mean([seconds for _, seconds in found.values()]))
        proxies[label] = Proxy(label, values, own, seconds, offered[label])
    for label in ("params", "macs"):
        values = np.array([[-float(row[label])] for row in rows]).reshape(-1, 1)
        proxies[label] = Proxy(label, values, (), 0.0)
    return Measured(
        tuple(row["architecture"] for row in rows),
        np.array([row["macs"] for row in rows], dtype=np.int64),
        _matrix(reference, len(rows), seeds),
        seeds,
        float(np.mean(spent)) if spent else math.nan,
        proxies,
    )


def _proxies(
    record: Mapping[str, Any], longest: float
) -> Iterable[tuple[str, float, float, Mapping[str, float | str]]]:
    """Name, value, seconds and settings of each score that one result offers."""
    factor, seconds = record["factor"], record["train_seconds"]
    signals = record.get("signals", {})
    if factor == longest:
        best = max(record["scores"], key=lambda score: (score["images"], score["steps"]))
        for point in record["curve"]:
            share = point["images"] / record["images"]
            for name in ("rfid", *signals):
                if name in point:
                    yield f"{name} on the way, at {share:.2f} of the reference", point[name], seconds * share, {}
        yield "one seed of the reference", best["rfid"], seconds + best["seconds"], {}
        return
    untrained = record["untrained"]
    for name in ("gradient_norm", "naswot"):
        yield name, -untrained[name], untrained["seconds"], {}
    yield f"loss, training x {factor:g}", record["loss"], seconds, {}
    for name, found in signals.items():
        settings: Mapping[str, float | str] = {"factor": factor, "metric": name}
        yield f"{name}, training x {factor:g}", found["value"], seconds + found["seconds"], settings
    for score in record["scores"]:
        for name in ("rfid", "rfid_inf", "kid"):
            if name in score:
                settings = {"factor": factor, "metric": name}
                settings |= {"score_images": score["images"], "sampler_steps": score["steps"]}
                label = f"{name}, training x {factor:g}, {score['images']} images of {score['steps']} steps"
                yield label, score[name], seconds + score["seconds"], settings


def _matrix(values: Mapping[tuple[int, int], float], rows: int, seeds: tuple[int, ...]) -> Matrix:
    matrix = np.full((rows, len(seeds)), np.nan)
    for (row, seed), value in values.items():
        if seed in seeds:
            matrix[row, seeds.index(seed)] = value
    return matrix


@dataclass(frozen=True)
class Agreement:
    """How well a score of one seed ranks as the reference does.

    Args:
        tau: Kendall's tau-b, mean over the score's seeds; NaN with fewer than three networks.
        low: lower end of its 95 % interval, a bootstrap over networks.
        high: upper end.
        regret: mean of the reference of the network that the score puts first, less the best network's; 0 is perfect.
        relative_regret: the same over that of a network drawn at random.
        networks: that have both.
    """

    tau: float
    low: float
    high: float
    regret: float
    relative_regret: float
    networks: int


def agreement(proxy: Proxy, measured: Measured, bootstraps: int = BOOTSTRAPS) -> Agreement:
    """Compare a proxy with the mean over seeds of the reference; a seed that both share is left out of that mean."""
    pairs: list[tuple[Matrix, Matrix]] = []
    for column, seed in enumerate(proxy.seeds or (-1,)):
        others = [index for index, other in enumerate(measured.seeds) if other != seed]
        if others:
            pairs.append((proxy.values[:, column], _row_means(measured.reference[:, others])))
    known = [np.isfinite(x + y) for x, y in pairs]
    pairs = [
        (np.where(both, x, np.nan), np.where(both, y, np.nan))
        for (x, y), both in zip(pairs, known, strict=True)
        if both.sum() >= 3
    ]
    if not pairs:
        return Agreement(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    signs = [(_signs(x), _signs(y)) for x, y in pairs]
    everyone = np.arange(len(measured.macs))
    rng = np.random.default_rng(0)
    drawn = [
        _mean_tau(signs, rng.integers(len(everyone), size=len(everyone)))
        for _ in range(bootstraps if len(everyone) > 2 else 0)
    ]
    drawn = [tau for tau in drawn if math.isfinite(tau)] or [math.nan]
    regrets, blind = [], []
    for x, y in pairs:
        regrets.append(y[np.nanargmin(x)] - np.nanmin(y))
        blind.append(np.nanmean(y) - np.nanmin(y))
    low, high = np.quantile(drawn, (0.025, 0.975))
    regret = float(np.mean(regrets))
    return Agreement(
        _mean_tau(signs, everyone), float(low), float(high), regret, regret / max(float(np.mean(blind)), 1e-12),
        int(max(both.sum() for both in known)),
    )  # fmt: skip


def _row_means(values: Matrix) -> Matrix:
    """Means over the seeds; NaN where one is missing, since a network's mean must not hang on which seeds it has."""
    means: Matrix = values.mean(axis=1)
    return means


def _signs(values: Matrix) -> Matrix:
    """Sign of each pair's difference, 0 where one is not known."""
    return np.nan_to_num(np.sign(values[:, None] - values[None, :]))


def _mean_tau(signs: Sequence[tuple[Matrix, Matrix]], rows: NDArray[np.int64]) -> float:
    """Mean of tau-b = sum(a b) / sqrt(sum(a^2) sum(b^2)) over the pairs of signs; a network drawn twice is a tie."""
    taus = []
    for a, b in signs:
        x, y = a[np.ix_(rows, rows)], b[np.ix_(rows, rows)]
        scale = math.sqrt(float((x * x).sum() * (y * y).sum()))
        taus.append(float((x * y).sum()) / scale if scale else math.nan)
    return float(np.mean(taus))


def ceiling(reference: Matrix) -> float:
    """The tau that a noise-free score would reach: the reference's own seeds bound it.

    tau_1, the mean tau of two seeds, becomes a correlation by r = sin(pi tau / 2) (Greiner 1909, for normal values),
    that of the mean of n seeds by Spearman and Brown, r_n = n r / (1 + (n - 1) r); a score free of noise correlates
    with that mean by sqrt(r_n), which becomes a tau again. NaN with fewer than two seeds.

    Args:
        reference: ``[networks, seeds]``.
    """
    complete = reference[np.isfinite(reference).all(axis=1)]
    count = complete.shape[1]
    if count < 2 or len(complete) < 3:
        return math.nan
    everyone = np.arange(len(complete))
    signs = [_signs(complete[:, seed]) for seed in range(count)]
    tau = np.mean([_mean_tau([(signs[a], signs[b])], everyone) for a in range(count) for b in range(a)])
    single = math.sin(math.pi / 2 * max(float(tau), 0.0))
    return 2.0 / math.pi * math.asin(math.sqrt(count * single / (1.0 + (count - 1.0) * single)))


@dataclass(frozen=True)
class Noise:
    """Spread of a score over seeds and over networks.

    Args:
        seeds: standard deviation of a network's score over seeds.
        common_seeds: the same where each seed is the same for all networks: less what it does to all of them alike.
        networks: standard deviation of the networks' true scores (the noise of their means taken off).
    """

    seeds: float
    common_seeds: float
    networks: float

    @property
    def ratio(self) -> float:
        """Noise over spread, as a ranking with common seeds feels it."""
        return self.common_seeds / self.networks if self.networks else math.inf


def noise(values: Matrix) -> Noise:
    """Variance components of ``[networks, seeds]``: one- and two-way analysis of variance.

    Args:
        values: rows with NaN are left out; NaN results with fewer than two rows or columns.
    """
    complete = values[np.isfinite(values).all(axis=1)]
    rows, columns = complete.shape
    if rows < 2 or columns < 2:
        return Noise(math.nan, math.nan, math.nan)
    means = complete.mean(axis=1, keepdims=True)
    within = complete - means
    left = within - within.mean(axis=0, keepdims=True)
    seeds = float((within**2).sum() / (rows * (columns - 1)))
    common = float((left**2).sum() / ((rows - 1) * (columns - 1)))
    between = max(float(means.var(ddof=1)) - common / columns, 0.0)
    return Noise(math.sqrt(seeds), math.sqrt(common), math.sqrt(between))


def recommend(agreements: Mapping[str, Agreement], proxies: Mapping[str, Proxy], wanted: float) -> str | None:
    """Name of the cheapest protocol whose tau reaches ``wanted``; ``None`` where none does."""
    good = [name for name, found in agreements.items() if proxies[name].settings and found.tau >= wanted]
    return min(good, key=lambda name: proxies[name].seconds, default=None)
