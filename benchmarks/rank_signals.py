"""Signals of `rfid_rank.py` that are worked out of several measurements of a training.

| signal | from | how |
|---|---|---|
| one noise level | held-out loss, prediction gap | e_k alone |
| ridge | log e_k of all levels | ridge regression of the log distance of finished trials, each network left out |
| extrapolated | held-out loss L half-way and at the end | L (L / L_half)^log2(n) after n times the training |
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nni_diffnas.api.space import Architecture
from nni_diffnas.evaluators.calibration.ranking import Measured, Proxy

__all__ = ["with_derived"]

Record = Mapping[str, Any]
# Strengths of the ridge, chosen by generalised cross-validation on the networks that are not left out.
STRENGTHS = np.logspace(-2, 3, 11)
SIGNALS = ("held_out_loss", "prediction_gap")


def name_of(architecture: Architecture) -> str:
    """What tells architectures apart."""
    return repr(sorted(architecture.items()))


def with_derived(measured: Measured, records: Iterable[Record], trial: float, longest: float) -> Measured:
    """``measured`` with these signals among its proxies.

    Args:
        measured: what was read from the records.
        records: of the trainings.
        trial: factor of a whole trial, whose distances the ridge is fitted to.
        longest: factor of the reference.
    """
    rows = {name_of(architecture): row for row, architecture in enumerate(measured.architectures)}
    runs: dict[float, dict[tuple[int, int], Record]] = defaultdict(dict)
    for record in records:
        if "failure" not in record and name_of(record["architecture"]) in rows:
            runs[record["factor"]][rows[name_of(record["architecture"])], record["seed"]] = record
    derived: dict[str, Proxy] = {}
    for factor, found in sorted(runs.items()):
        for name, values in _of_length(found, factor, longest, runs[trial]):
            if values:
                derived[name] = _proxy(name, values, found, len(rows))
    return replace(measured, proxies={**measured.proxies, **derived})


def _of_length(
    runs: Mapping[tuple[int, int], Record], factor: float, longest: float, trials: Mapping[tuple[int, int], Record]
) -> Iterator[tuple[str, dict[tuple[int, int], float]]]:
    """Name and values of each signal of trainings of one length."""
    known = [name for name in SIGNALS if all(name in record["signals"] for record in runs.values())]
    if factor == longest:
        for name in known:
            yield f"{name} of the reference", {at: record["signals"][name]["value"] for at, record in runs.items()}
        return
    after = f"training x {factor:g}"
    for name in known:
        for level in next(iter(runs.values()))["signals"][name]["levels"]:
            errors = {at: record["signals"][name]["levels"][level] for at, record in runs.items()}
            yield f"{name} at timestep {level}, {after}", errors
        yield f"ridge of {name}, {after}", _left_out(runs, trials, lambda record, n=name: _levels(record, [n]))
    if len(known) > 1:
        yield f"ridge of both, {after}", _left_out(runs, trials, lambda record: _levels(record, known))
    yield (
        f"ridge of losses and rfid, {after}",
        _left_out(runs, trials, lambda record: [*_levels(record, known[:1]), math.log(_distance(record))]),
    )
    yield (
        f"held_out_loss extrapolated, {after}",
        {at: value for at, record in runs.items() if (value := _extrapolated(record, longest / factor)) is not None},
    )


def _levels(record: Record, names: Sequence[str]) -> list[float]:
    return [math.log(error) for name in names for error in record["signals"][name]["levels"].values()]


def _distance(record: Record) -> float:
    return float(record["scores"][0]["rfid"])


def _left_out(
    runs: Mapping[tuple[int, int], Record],
    trials: Mapping[tuple[int, int], Record],
    features: Callable[[Record], list[float]],
) -> dict[tuple[int, int], float]:
    """Log distance of each network's trial, predicted from the trials of the same seed of all other networks."""
    found: dict[tuple[int, int], float] = {}
    for seed in {seed for _, seed in runs}:
        at = [key for key in runs if key[1] == seed and key in trials]
        if len(at) < 4:
            continue
        given = np.array([features(runs[key]) for key in at])
        wanted = np.log([_distance(trials[key]) for key in at])
        for index, key in enumerate(at):
            others = np.arange(len(at)) != index
            ridge = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS)).fit(given[others], wanted[others])
            found[key] = float(ridge.predict(given[index : index + 1])[0])
    return found


def _extrapolated(record: Record, longer: float) -> float | None:
    """Held-out loss after ``longer`` times the training; ``None`` where none was measured half-way."""
    half = [
        point["held_out_loss"]
        for point in record["curve"]
        if "held_out_loss" in point and 0.45 < point["images"] / record["images"] < 0.55
    ]
    if not half:
        return None
    end = float(record["signals"]["held_out_loss"]["value"])
    return end * (end / half[0]) ** math.log2(longer)


def _proxy(
    name: str, values: Mapping[tuple[int, int], float], runs: Mapping[tuple[int, int], Record], rows: int
) -> Proxy:
    seeds = tuple(sorted({seed for _, seed in values}))
    matrix: NDArray[np.float64] = np.full((rows, len(seeds)), np.nan)
    for (row, seed), value in values.items():
        matrix[row, seeds.index(seed)] = value
    return Proxy(name, matrix, seeds, float(np.mean([_seconds(name, runs[at]) for at in values])))


def _seconds(name: str, record: Record) -> float:
    """Of the training and of what the signal takes."""
    used = [signal for signal in record["signals"] if signal in name or ("both" in name or "losses" in name)]
    samples = record["scores"][0]["seconds"] if "rfid" in name else 0.0
    return float(record["train_seconds"] + sum(record["signals"][signal]["seconds"] for signal in used) + samples)
