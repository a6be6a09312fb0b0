"""Comparing the paths of a trained supernet: shared prefixes, successive halving, and a budget on the compute.

Successive halving: Jamieson and Talwalkar, "Non-stochastic Best Arm Identification" (2016), algorithm 1; what is kept
here is not the lowest loss but the smallest distance to the front of cost and loss, so that cheap paths survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nni_diffnas.api.blocks import Block
from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.api.pareto import pareto_front

from .forward_hooks import block_loss
from .settings import SupernetSettings
from .supernet import TrainedSupernet

__all__ = ["Choosing", "Scored", "compare_paths", "front_of", "prefix_macs"]

Path = tuple[int, ...]
FEWEST = 12
"""Paths that a round goes on with, at least: a front wants points to choose from."""


@dataclass(frozen=True)
class Scored:
    """A path and its loss over ``images`` held images."""

    path: Path
    loss: float
    images: int


@dataclass(frozen=True)
class Choosing:
    """What the comparison found and what it took.

    Args:
        scored: survivors, compared on all images.
        teacher: the path of the teacher's shape, among them.
        compared: paths that were compared at all.
        macs: multiply-accumulates that the comparison took.
    """

    scored: tuple[Scored, ...]
    teacher: Scored
    compared: int
    macs: float


def prefix_macs(block: Block, paths: Sequence[Path]) -> float:
    """MACs of running sorted paths on one image, a prefix that neighbours share running once."""
    total, before = 0.0, None
    for path in paths:
        total += block.rest.macs
        shared = 0
        if before is not None:
            while shared < len(path) and path[shared] == before[shared]:
                shared += 1
        total += sum(block.layers[i].costs[path[i]].macs for i in range(shared, len(path)))
        before = path
    return total


def compare_paths(
    supernet: Any, block: Block, trained: TrainedSupernet, settings: SupernetSettings, seed: int
) -> Choosing:
    """Compare the block's paths within ``choosing_share`` of the compute that trained the supernet.

    Every path is run on ``first_images``; the better half goes on to as many images again as it has seen, until all
    held images are used or the compute does not pay for that half. Two paths are never dropped: that of the teacher's
    shape, which losses are judged by, and the cheapest, so that every budget that a network of the space meets can be
    met by a choice. Where the compute does not allow all paths, a random sample is compared.

    Raises:
        TrialFailure: the budget does not even allow the teacher-shaped path and one other.
    """
    rng = np.random.default_rng(seed)
    budget, spent = settings.choosing_share * trained.macs, 0.0
    available = len(trained.call)
    sizes = [min(settings.first_images, available)]
    while sizes[-1] < available:
        sizes.append(min(2 * sizes[-1], available))
    candidates = _candidates(block, settings.candidates, rng)
    kept = dict.fromkeys((block.teacher, _cheapest_path(block)))
    losses: dict[Path, float] = {}
    compared, done = 0, 0
    supernet.eval()
    for index, size in enumerate(sizes):
        # Each round may take half of what is left: the first looks at as many paths as that pays for.
        new, share = size - done, (budget - spent) / (1 if size == available else 2)
        ranked = candidates if not losses else _by_distance(block, {path: losses[path] for path in candidates})
        if index:
            ranked = ranked[: max(FEWEST, len(ranked) // 2)]
        ranked = [*kept, *(path for path in ranked if path not in kept)]
        fits = _affordable(block, ranked, share / new)
        if index and fits < len(ranked):
            break  # a front of few points that are known well is worth less than one of many
        if fits < min(2, len(ranked)):
            raise TrialFailure(
                f"Comparing paths of block {block.name} on {new} images takes more than "
                f"{settings.choosing_share:.0%} of the compute that trained it: raise supernet.steps "
                f"({settings.steps}) or lower supernet.first_images."
            )
        candidates = sorted(ranked[:fits])
        compared = compared or len(candidates)
        spent += prefix_macs(block, candidates) * new
        _add_losses(supernet, trained, candidates, losses, done, size)
        done = size
    scored = tuple(Scored(path, losses[path], done) for path in candidates)
    return Choosing(scored, next(s for s in scored if s.path == block.teacher), compared, spent)


def _candidates(block: Block, limit: int, rng: np.random.Generator) -> list[Path]:
    """All paths where they are few enough, else a random sample without repetition; in random order."""
    counts = [len(layer.options) for layer in block.layers]
    if block.size <= limit:
        listed = list(product(*(range(count) for count in counts)))
        return [listed[int(i)] for i in rng.permutation(len(listed))]
    # The cheapest path and the uniform ones are worth a look whatever the draw says.
    drawn = {block.teacher: None, _cheapest_path(block): None}
    while len(drawn) < limit:
        drawn[tuple(int(rng.integers(count)) for count in counts)] = None
    return list(drawn)


def _cheapest_path(block: Block) -> Path:
    return tuple(min(range(len(layer.costs)), key=lambda option: layer.costs[option].macs) for layer in block.layers)


def _affordable(block: Block, ranked: Sequence[Path], macs: float) -> int:
    """How many of the first paths can be run on one image within ``macs``."""
    low, high = 0, len(ranked)
    while low < high:
        middle = (low + high + 1) // 2
        if prefix_macs(block, sorted(ranked[:middle])) <= macs:
            low = middle
        else:
            high = middle - 1
    return low


@torch.no_grad()
def _add_losses(
    supernet: Any, trained: TrainedSupernet, paths: Sequence[Path], losses: dict[Path, float], start: int, stop: int
) -> None:
    """Bring the mean losses of sorted paths from ``start`` images up to ``stop``."""
    sums = {path: losses.get(path, 0.0) * start for path in paths}
    for first in range(start, stop, 256):
        rows = torch.arange(first, min(first + 256, stop), device=trained.call.outputs[0].device)
        call = trained.call.rows(rows)
        supernet.remember()
        for path in paths:
            supernet.choose(path)
            sums[path] += float(block_loss(call.run(supernet), call, trained.variances)) * len(rows)
        supernet.forget()
    losses.update({path: total / stop for path, total in sums.items()})


def _points(block: Block, paths: Sequence[Path], losses: Sequence[float]) -> NDArray[np.float64]:
    """Costs and loss, one row a path; less is better everywhere."""
    rows = []
    for path, loss in zip(paths, losses, strict=True):
        cost = block.cost(path)
        rows.append([float(cost.macs), float(cost.params), cost.latency_ms or 0.0, loss])
    return np.asarray(rows)


def _by_distance(block: Block, losses: dict[Path, float]) -> list[Path]:
    """Paths by the ratio of their loss to the least loss at no higher cost; 1 for those on the front."""
    paths = list(losses)
    points = _points(block, paths, [losses[path] for path in paths])
    ratios = []
    for row in points:
        no_dearer = (points[:, :3] <= row[:3]).all(axis=1)
        ratios.append(row[3] / max(points[no_dearer, 3].min(), 1e-12))
    order = np.lexsort((points[:, 0], ratios))
    return [paths[int(i)] for i in order]


def front_of(block: Block, choosing: Choosing, limit: int) -> list[Scored]:
    """Paths that no other one beats in every cost and in loss, cheapest first, thinned evenly to ``limit``; the
    teacher-shaped path is always among them, since losses are judged against its own.
    """
    scored = list(choosing.scored)
    points = _points(block, [s.path for s in scored], [s.loss for s in scored])
    kept = sorted(pareto_front(points), key=lambda index: (points[index, 0], points[index, 3]))
    if len(kept) > limit - 1:
        kept = [kept[int(i)] for i in np.linspace(0, len(kept) - 1, limit - 1).round()]
    front = [scored[index] for index in dict.fromkeys(kept)]
    if all(s.path != choosing.teacher.path for s in front):
        front.append(choosing.teacher)
    return front
