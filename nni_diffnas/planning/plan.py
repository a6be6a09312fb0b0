"""Plans a search from what a user says in a sentence: these images, that budget, so much time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..api.cost import Budget, Cost, Window
from ..api.errors import DataError, JobError
from ..api.family import Family, nearest_to_budget
from ..api.trial import Suggestion
from ..job import Job, data_source
from ..plugins import find_plugin
from ..searching.first import first_suggestions
from ..searching.halving import Halving
from ..searching.options import SearchOptions
from .sizes import Sizes, sizes_for
from .timing import Machine, measure_pace

__all__ = ["STRATEGY", "SearchPlan", "budget_windows", "plan_search"]

STRATEGY = "DiffusionGuided"
"""Where the user names none."""

FEWEST_IMAGES = 100
"""Of fewer images too few are left to rank networks by, and to judge the winner."""

LONGEST = 1e9
"""Seconds, thirty years: whoever asks for more has mistaken the unit."""

_MANY_IMAGES = 10_000
_SMALL_SIDE, _SMALL_RATE = 16, 4e-3
"""Up to this side, in pixels, and at this learning rate it was measured that searches find something: the main job, and
docs/studies/2026-11-pays.md."""

_HALVING = 3


@dataclass(frozen=True)
class SearchPlan:
    """A search, ready to be written down or run.

    Args:
        job: as a job file says it, paths made absolute.
        strategy: its name.
        options: of the strategy, as ``classArgs``.
        sizes: trials, their length, trials at a time.
        gpus: that torch sees on this machine.
        data: what the images are, in lines.
        default_macs: of the default network, for one image.
    """

    job: dict[str, Any]
    strategy: str
    options: dict[str, Any]
    sizes: Sizes
    gpus: int
    data: tuple[str, ...]
    default_macs: int

    @property
    def validated(self) -> Job:
        """The job."""
        return Job.model_validate(self.job)


def plan_search(
    images: str,
    budget: float | str,
    seconds: float,
    *,
    strategy: str = STRATEGY,
    size: int | None = None,
    channels: int | None = None,
    preset: str | None = None,
    trials: int | None = None,
    images_per_trial: int | None = None,
    seed: int = 0,
) -> SearchPlan:
    """Plan a search for the best network for these images, within this budget, in this time.

    Preset, sample size and channels follow from the images; length and number of the trials follow from the time, by
    the rule of `planning.sizes`, once three networks have been timed side by side on this machine.

    Args:
        images: a folder, an archive, an ``.npz``, or the name of a data set, see `DataSettings`.
        budget: a part of the default network's MACs, above 0 and up to 1, or a latency such as ``8ms``.
        seconds: for the whole search.
        strategy: name of the plug-in.
        size: cut and resize the images to size x size pixels.
        channels: 1 turns colour to grey, 3 grey to colour.
        preset: of the UNet space; by default the one for images of this size.
        trials: their number, instead of the rule's.
        images_per_trial: their length, instead of the rule's; with both the time does not matter, and nothing is timed.
        seed: of the search.

    Raises:
        DiffNASError: bad input: no images, too few, a budget that is none or that no network meets, too short a time.
    """
    _budget(budget)
    for name, value in (("trials", trials), ("images_per_trial", images_per_trial)):
        if value is not None and value < 1:
            raise JobError(f"{name} is {value}: give at least 1.")
    if not 0 <= seed < 2**31:
        raise JobError(f"seed is {seed}: give a number from 0 to {2**31 - 1}.")
    if not 0 < seconds <= LONGEST:
        raise JobError(f"The time is {seconds / 3600:g} hours: give more than none, and at most {LONGEST / 3600:,.0f}.")
    _options(strategy, 0)
    shown = {"source": data_source(images), "size": size, "channels": channels}
    data = {name: value for name, value in shown.items() if value is not None}
    known = find_plugin("evaluators", "diffusion")({**data, "held_out": 0.0}).images
    if len(known.pixels) < FEWEST_IMAGES:
        raise DataError(
            f"{images!r} holds {len(known.pixels)} images: give at least {FEWEST_IMAGES}, so that some can be held out "
            f"to rank networks and to judge the winner."
        )
    unet = find_plugin("spaces", "unet")
    space = unet.options_for(*known.shape, preset)
    family: Family = unet(**space)
    whole, machine = family.cost(family.default), Machine.here()
    job: dict[str, Any] = {
        "space": {"type": "unet", **space},
        "data": {**data, "held_out": 0.25 if len(known.pixels) < _MANY_IMAGES else 0.1},
        "evaluator": _evaluator(known, images_per_trial or 1, machine.threads),
        "objective": {"metric": "held_out_loss", "direction": "minimize"},
        "budget": {name: {"max": window.max} for name, window in budget_windows(budget, whole).items()},
        "seed": seed,
    }
    described = Job.model_validate(job)
    _check_budget(described, family, budget)
    evaluation = described.make_evaluation()
    evaluation.prepare()
    if trials and images_per_trial:
        sizes = Sizes(trials, images_per_trial, min(trials, machine.workers))
    else:
        pace, side = measure_pace(described, machine), known.shape[-1]
        sizes = sizes_for(pace, seconds, side, _first(described), Halving(_HALVING), trials, images_per_trial)
    job["evaluator"]["training"]["images"] = sizes.images
    told = tuple(evaluation.describe_data())
    return SearchPlan(job, strategy, _options(strategy, sizes.trials), sizes, machine.gpus, told, whole.macs)


def _evaluator(known: Any, images: int, threads: int) -> dict[str, Any]:
    """The ``evaluator`` section for an `ImageSet`; on their way trials are scored by the loss that halving compares."""
    training: dict[str, Any] = {"images": images}
    if known.shape[-1] <= _SMALL_SIDE:
        training["learning_rate"] = _SMALL_RATE
    section = {"type": "diffusion", "training": training, "loss_images": 512, "curve_images": 0}
    if known.classes < 2:
        section["extractor"] = "random"
    return section | ({"threads": threads} if threads > 1 else {})


def _first(job: Job) -> list[Suggestion]:
    """What a search trains first."""
    family = job.make_family()
    return first_suggestions(family.space, family, SearchOptions(budget=job.make_budget()))


def _options(strategy: str, trials: int) -> dict[str, Any]:
    """What the strategy is told: let losers end early, and suit so many trials.

    Raises:
        JobError: the strategy is not for images.
        PluginError: there is none of that name.
    """
    if strategy == "BlockwiseLocalSearch":
        raise JobError(f"{strategy} shrinks a trained pipeline: use 'nni-diffnas shrink', or another strategy.")
    find_plugin("strategies", strategy)
    own: dict[str, dict[str, Any]] = {
        "DiffusionGuided": {"unguided": 4},
        "RegularizedEvolution": {"population": max(4, trials // 4), "sample": max(2, trials // 16)},
    }
    return {**own.get(strategy, {}), "halving": _HALVING}


def budget_windows(given: float | str, whole: Cost) -> dict[str, Window]:
    """The windows that a budget means.

    Args:
        given: a part of the default network's MACs, or milliseconds, see `plan_search`.
        whole: cost of the default network.

    Raises:
        JobError: it is neither.
    """
    quantity, most = _budget(given)
    return {quantity: Window(max=most if quantity == "latency_ms" else int(most * whole.macs))}


def _budget(given: float | str) -> tuple[str, float]:
    """Quantity and its largest value: a part of the default's MACs, or milliseconds.

    Raises:
        JobError: it is neither.
    """
    found = re.fullmatch(r"\s*(\d*\.?\d+)\s*(ms)?\s*", str(given))
    if found is None or float(found[1]) <= 0 or (not found[2] and float(found[1]) > 1):
        raise JobError(
            f"The budget is {given!r}: give a part of the default network's MACs, above 0 and up to 1 (0.5 for half), "
            f"or a latency in milliseconds (8ms)."
        )
    return "latency_ms" if found[2] else "macs", float(found[1])


def _check_budget(job: Job, family: Family, given: float | str) -> None:
    """Refuse a budget below the cheapest network of a space, the one with the fewest MACs.

    Raises:
        JobError: as said.
    """
    start, nothing = family.space.validate(family.default), Budget({"macs": Window(max=1)})
    cheapest = nearest_to_budget(family, nothing, np.random.default_rng(0), start)
    found = job.make_family().cost(cheapest)
    if job.make_budget().admits(found):
        return
    needs = f"{found.macs / family.cost(start).macs:.2g} of the default's MACs"
    if found.latency_ms is not None:
        needs = f"{found.latency_ms:.2g} ms"
    raise JobError(f"The budget is {given!r}, and the cheapest network for these images needs {needs}: give more.")
