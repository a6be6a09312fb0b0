"""Which choices of a UNet matter: one after the other, at equal MACs, against the network that a person would try.

    python benchmarks/choices.py STAGE --folder FOLDER

CIFAR-10 averaged 2x2 to 16x16. By hand is the stock network with one block a level and widths 16, 24, 24. Every rival
differs from it in what its name says, its widths scaled together until its MACs are within 3 % of those by hand. Each
stage is kept in the journal as it grows, so that a killed study goes on:

- ``layouts``: milliseconds with channels first and last in memory.
- ``rates``: three learning rates for each kind of block, by held-out loss, one seed: is one rate fair to all?
- ``screen``: every rival, by held-out loss, three seeds.
- ``finalists``: by hand and the rivals of ``--finalists``, by distance, twelve fresh seeds at the length of a trial
  and four at four times it; each rival at equal MACs and, with ``--equal-time``, as large as a training
  step of equal CPU time allows (measured once).

The held-out loss is that of the averaged weights, weighted as in training, the same noise for all, at 20 noise levels;
the distance is a rapid FID of 2,000 samples. Milliseconds are the median of interleaved rounds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch
from reporting import report
from scipy.stats import t
from small_images import averaged
from workers import finish

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.training.compute import autocast, place, threads
from nni_diffnas.evaluators.training.denoising import Training, call_network
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces.unet.network import UNet
from nni_diffnas.search_spaces.unet.plan import UNetConfig, plan_of

JOURNAL = Path(__file__).parent / "journals" / "choices.jsonl"
LEVELS, HELD_OUT = 20, 1000
TOLERANCE = 0.03
SAMPLED = "10 steps by log-SNR"
FRESH = 100
"""First seed of the finalists, which chose nothing."""

BY_HAND = UNetConfig(
    sample_size=16,
    in_channels=3,
    out_channels=3,
    widths=(16, 24, 24),
    depths=(1, 1, 1),
    attention=("none", "softmax", "softmax"),
    heads=2,
    time_embedding_dim=64,
    norm_groups=8,
)

CONVNEXT: Mapping[str, Any] = {"blocks": ("convnext",) * 3, "kernels": (5, 5, 3), "expansion": 3}

RIVALS: Mapping[str, Mapping[str, Any]] = {
    "by hand": {},
    "block: gated": {"blocks": ("gated",) * 3},
    "block: convnext 5, x3": CONVNEXT,
    "block: convnext 3, x3": {**CONVNEXT, "kernels": (3, 3, 3)},
    "block: convnext 7, x3": {**CONVNEXT, "kernels": (7, 7, 3)},
    "block: convnext 5, x2": {**CONVNEXT, "expansion": 2},
    "block: convnext 5, x4": {**CONVNEXT, "expansion": 4},
    "resample: pool": {"resample": "pool"},
    "resample: shuffle": {"resample": "shuffle"},
    "skips: level": {"skips": "level"},
    "skips: added": {"skips": "added"},
    "skips: level, up_depth: same": {"skips": "level", "up_depth": "same"},
    "skips: added, up_depth: same": {"skips": "added", "up_depth": "same"},
    "wide": {"widths": (32, 16, 16)},
    "attention: none": {"attention": ("none",) * 3},
    "attention: linear at 8": {"attention": ("none", "linear", "softmax")},
    "attention: linear at 16": {"attention": ("linear", "softmax", "softmax")},
    "attention: softmax at 16": {"attention": ("softmax",) * 3},
}
"""Name to what differs from by hand; ``up_depth: one`` equals ``same`` at one block a level. ``wide`` is stock, with
most of the width at 16x16 pixels.
"""

FEW_SKIPS: Mapping[str, Any] = {"skips": "level", "up_depth": "same"}
POOL: Mapping[str, Any] = {"resample": "pool", **FEW_SKIPS}
SHUFFLE: Mapping[str, Any] = {"resample": "shuffle", **FEW_SKIPS}
LINEAR: Mapping[str, Any] = {"attention": ("linear", "softmax", "softmax")}
SOFTMAX: Mapping[str, Any] = {"attention": ("softmax",) * 3}
GATED: Mapping[str, Any] = {"blocks": ("gated",) * 3}
CONVNEXT_3: Mapping[str, Any] = {**CONVNEXT, "kernels": (3, 3, 3)}
CONVNEXT_7: Mapping[str, Any] = {**CONVNEXT, "kernels": (7, 7, 3)}
THIN: Mapping[str, Any] = {"inner_width": 0.5}
FOUND: Mapping[str, Any] = {**CONVNEXT_3, "expansion": 2, **POOL, "middle": "none"}

TOGETHER: Mapping[str, Mapping[str, Any]] = {
    "gated, pool": {**GATED, "resample": "pool"},
    "gated, pool, level, same": {**GATED, **POOL},
    "gated, pool, level, same, linear": {**GATED, **POOL, **LINEAR},
    "convnext 3, pool, level, same": {**CONVNEXT_3, **POOL},
    "convnext 5, pool": {**CONVNEXT, "resample": "pool"},
    "convnext 5, pool, level": {**CONVNEXT, "resample": "pool", "skips": "level"},
    "convnext 5, pool, level, same": {**CONVNEXT, **POOL},
    "convnext 7, pool, level, same": {**CONVNEXT_7, **POOL},
    "pool, level, same": POOL,
    "shuffle, level, same": SHUFFLE,
    "shuffle, level, same, linear": {**SHUFFLE, **LINEAR},
    "shuffle, level, same, softmax": {**SHUFFLE, **SOFTMAX},
    "shuffle, level, same, softmax, thin": {**SHUFFLE, **SOFTMAX, **THIN},
    "shuffle, level, same, softmax, thin, no middle": {**SHUFFLE, **SOFTMAX, **THIN, "middle": "none"},
    "wide: shuffle, level, same, thin": {"widths": (40, 24, 24), **SHUFFLE, **THIN},
    "wide: convnext 3, x2, shuffle, level, same": {"widths": (48, 32, 32), **CONVNEXT_3, "expansion": 2, **SHUFFLE},
    "wide: convnext 3, x2, pool, level, same, no middle": {"widths": (48, 48, 32), **FOUND},
    "convnext 3, pool, level, same, linear": {**CONVNEXT_3, **POOL, **LINEAR},
}
"""Combinations of what may matter; ``wide`` in proportions of their own, most of the width at 16x16 pixels, the last of
which the first search of ``pays.py`` has found.
"""


EVERYTHING = {**RIVALS, **TOGETHER}
RATES = (2e-3, 4e-3, 8e-3)


@dataclass(frozen=True)
class Protocol:
    """How long and how fast a network is trained, and whether it is sampled from."""

    images: int
    learning_rate: float
    sampled: bool = False

    @property
    def recipe(self) -> Recipe:
        """Of the training."""
        return Recipe(images=self.images, learning_rate=self.learning_rate)


def scaled(changes: Mapping[str, Any], macs: int) -> UNetConfig:
    """By hand with these changes, its widths scaled together to ``macs``.

    Widths are multiples of four; of those within the tolerance, those whose proportions are nearest to those by hand,
    or to the ``widths`` of the changes.
    """
    base = replace(BY_HAND, **changes)
    wanted = np.log(base.widths)

    def bent(widths: Sequence[int]) -> float:
        return float(np.std(np.log(widths) - wanted))

    for widths in sorted(itertools.product(range(8, 69, 4), repeat=3), key=bent):
        config = replace(base, widths=widths)
        if abs(plan_of(config).price[0] / macs - 1.0) <= TOLERANCE:
            return config
    raise ValueError(f"No widths bring {changes} within {TOLERANCE:.0%} of {macs} MACs.")


def held_out_losses(evaluation: DiffusionEvaluation, model: torch.nn.Module) -> tuple[float, list[float]]:
    """Error of v on held-out images, the noise common to all networks: weighted as in training, and at each level."""
    chosen, recipe = evaluation.images.held_out[:HELD_OUT], evaluation.settings.training
    clean = torch.from_numpy(np.ascontiguousarray(evaluation.images.pixels[chosen])).float() / 127.5 - 1.0
    alpha_bar, rng = recipe.noise_schedule().alpha_bar(), torch.Generator().manual_seed(1)
    times = torch.linspace(0, len(alpha_bar), 2 * LEVELS + 1)[1::2].long()
    losses, device = [], next(model.parameters()).device
    model.eval()
    with torch.no_grad(), autocast(device):
        for step in times:
            a, b = alpha_bar[step].sqrt().float(), (1.0 - alpha_bar[step]).sqrt().float()
            drawn = torch.randn(clean.shape, generator=rng)
            noised = (a * clean + b * drawn).to(device)
            predicted = call_network(model, noised, step.expand(len(clean)).to(device), None).float().cpu()
            losses.append((predicted - (a * drawn - b * clean)).square().mean().item())
    weights = recipe.weights(alpha_bar / (1.0 - alpha_bar))[times]
    return float((weights * torch.tensor(losses)).mean()), losses


def measured(name: str, config: UNetConfig, seed: int, protocol: Protocol, source: Path) -> dict[str, Any]:
    """One training of the network of that name, and what it is worth."""
    training = protocol.recipe.model_dump(exclude_unset=True)
    evaluation = DiffusionEvaluation({"source": str(source)}, training=training, score_images=2000, curve_points=0)
    evaluation.prepare()
    torch.manual_seed(seed)
    model = UNet(config)
    with threads(1):
        trained = evaluation.fit(model, TrialContext({}, Path(), seed, lambda metrics: None))
        loss, levels = held_out_losses(evaluation, model)
        body = {"network": name, "widths": config.widths, "seed": seed, **asdict(protocol)}
        body |= {"loss": loss, "levels": [float(f"{level:.5g}") for level in levels]}
        body |= {"train_loss": trained.loss, "seconds": round(trained.seconds, 1)}
        if protocol.sampled:
            pixels = evaluation.generate(model, evaluation.settings.score_images, seed)
            body |= {name: value for name, value in evaluation.scoring.score(pixels).items() if name != "rfid_se"}
            body["tint"] = [
                float(v) for v in pixels.mean(axis=(0, 2, 3)) - evaluation.images.pixels.mean(axis=(0, 2, 3))
            ]
    print(f"{name}, seed {seed}: {loss:.5f} {body.get('rfid', '')}", file=sys.stderr, flush=True)
    return body


def milliseconds(
    networks: Mapping[str, torch.nn.Module], source: Path, rounds: int = 7
) -> dict[str, tuple[float, float]]:
    """CPU milliseconds forward and of a training step, 64 images on one thread: medians of interleaved rounds."""
    pixels = torch.from_numpy(np.load(source)["images"][:2000].transpose(0, 3, 1, 2).copy())
    trainings = {name: Training(network, pixels, None, Recipe(images=64_000), 0) for name, network in networks.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    with threads(1):
        for index, (name, training) in itertools.product(range(rounds + 1), trainings.items()):
            batch = training.draw(0.0)
            began = time.process_time()
            with torch.no_grad():
                call_network(training.model, batch.clean, batch.times, None)
            forward = time.process_time()
            training.gradient(batch)
            training.update(0.5)
            if index:  # the first is slower
                taken[name].append((1e3 * (forward - began), 1e3 * (time.process_time() - forward)))
    return {name: (median(f for f, _ in rows), median(s for _, s in rows)) for name, rows in taken.items()}


EQUAL_TIME = ", equal time"
"""Ends the name of a rival whose training step takes as long as that by hand."""


def equal_time(changes: Mapping[str, Any], source: Path) -> tuple[UNetConfig, float]:
    """By hand with these changes, as large as a training step no longer than by hand allows; and the ratio of the two.

    Time jumps where widths cross what convolutions are blocked by, so that not every ratio exists: 5 % more is taken
    for no longer.
    """
    macs = plan_of(BY_HAND).price[0]
    sizes = {f"{share:.3f}": scaled(changes, round(share * macs)) for share in np.arange(0.5, 1.26, 0.025)}
    networks = {"by hand": UNet(BY_HAND), **{name: UNet(config) for name, config in sizes.items()}}
    for network in networks.values():
        place(network, torch.device("cpu"))
    taken = {name: step for name, (_, step) in milliseconds(networks, source, rounds=15).items()}
    largest = [name for name in sizes if taken[name] <= 1.05 * taken["by hand"]][-1]
    return sizes[largest], taken[largest] / taken["by hand"]


class Study:
    """Trainings by network, seed and protocol; each is made once, whichever stage asks for it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.journal = Journal(arguments.journal)
        self.configs = {name: scaled(changes, plan_of(BY_HAND).price[0]) for name, changes in EVERYTHING.items()}
        self.trains, self.workers = not arguments.only_report, arguments.workers
        self.source = averaged(arguments.folder, arguments.data) if self.trains else Path()

    def make_equal_time(self, name: str) -> str:
        """Add a rival at equal CPU time, whose size is measured once; its name."""
        added = f"{name}{EQUAL_TIME}"

        def measure() -> dict[str, Any]:
            config, ratio = equal_time(EVERYTHING[name], self.source)
            return {"network": added, "widths": config.widths, "step": ratio}

        key = fingerprint("equal time", sorted(EVERYTHING[name].items()))
        if self.trains or key in self.journal.records:
            widths = tuple(self.journal.once(key, measure)["widths"])
            self.configs[added] = replace(BY_HAND, **{**EVERYTHING[name], "widths": widths})
        return added

    def key(self, name: str, seed: int, protocol: Protocol) -> str:
        """Of a training in the journal."""
        what = (sorted(asdict(self.configs[name]).items()), seed, protocol.recipe.budget, protocol.recipe.fingerprint)
        sampled = fingerprint(*what, SAMPLED)
        # The loss of a training that was sampled from, too, is the same.
        return sampled if protocol.sampled or sampled in self.journal.records else fingerprint(*what, False)

    def train(self, names: Sequence[str], seeds: Sequence[int], protocol: Protocol) -> None:
        """Make the trainings that are missing, seed by seed, so that an early report compares all."""
        tasks = {
            self.key(name, seed, protocol): partial(measured, name, self.configs[name], seed, protocol, self.source)
            for seed, name in itertools.product(seeds, names)
        }
        if self.trains:
            finish(self.journal, tasks, self.workers)

    def network(self, name: str) -> UNet:
        """An untrained network as trials place it in memory."""
        network = UNet(self.configs[name])
        place(network, torch.device("cpu"))
        return network

    def values(self, name: str, seeds: Sequence[int], protocol: Protocol, what: str) -> list[float]:
        """One metric of the trainings that are there."""
        keys = [self.key(name, seed, protocol) for seed in seeds]
        return [self.journal.records[key][what] for key in keys if key in self.journal.records]


def against(own: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Ratio of the means and the half width of its 95 % interval, unpaired (Welch), on the logarithm."""
    if min(len(own), len(other)) < 2:
        return math.nan, math.nan
    errors = [stdev(np.log(values)) ** 2 / len(values) for values in (own, other)]
    freedom = sum(errors) ** 2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, (own, other), strict=True))
    return math.exp(fmean(np.log(own)) - fmean(np.log(other))), float(t.ppf(0.975, freedom)) * math.sqrt(sum(errors))


def rates(study: Study, arguments: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Held-out loss at each learning rate."""
    rows, names = [], ("by hand", "block: gated", "block: convnext 5, x3", "convnext 5, pool, level, same")
    protocols = [Protocol(arguments.images, rate) for rate in RATES]
    for protocol in protocols:
        study.train(names, [0], protocol)
    for name in names:
        found = [study.values(name, [0], protocol, "loss") for protocol in protocols]
        rows.append([name, *(values[0] if values else math.nan for values in found)])
    return ["network", *(f"loss at {rate:g}" for rate in RATES)], rows


def layouts(study: Study, arguments: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Milliseconds of a training step with channels first and last in memory."""
    names = ("by hand", "block: gated", "block: convnext 5, x3", "convnext 7, pool, level, same")
    first = {name: UNet(study.configs[name]) for name in names}
    last = {f"{name} last": UNet(study.configs[name]).to(memory_format=torch.channels_last) for name in names}
    taken = {name: step for name, (_, step) in milliseconds({**first, **last}, study.source).items()}
    rows = [[name, taken[name], taken[f"{name} last"], taken[f"{name} last"] / taken[name]] for name in names]
    return ["network", "ms, channels first", "ms, channels last", "ratio"], rows


def screen(study: Study, arguments: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Held-out loss of every rival; with ``--confirm``, of those, on fresh seeds."""
    protocol = Protocol(arguments.images, arguments.learning_rate)
    names = ["by hand", *arguments.confirm] if arguments.confirm else list(study.configs)[: arguments.networks]
    seeds = range(FRESH, FRESH + 4) if arguments.confirm else range(arguments.seeds)
    study.train(names, seeds, protocol)
    hand = study.values("by hand", seeds, protocol, "loss")
    times = milliseconds({name: study.network(name) for name in names}, study.source) if study.trains else {}
    rows = []
    for name in names:
        own, (macs, params) = study.values(name, seeds, protocol, "loss"), plan_of(study.configs[name]).price
        ratio, half = against(own, hand)
        spread = stdev(own) if len(own) > 1 else math.nan
        mean = fmean(own) if own else math.nan
        widths = ", ".join(map(str, study.configs[name].widths[:2]))
        clock = times.get(name, (math.nan, math.nan))
        rows.append([name, widths, macs / 1e6, params / 1e3, *clock, len(own), mean, spread, ratio, half])
    columns = ["network", "widths", "MMACs", "k params", "ms forward", "ms step", "seeds", "loss", "spread"]
    return [*columns, "loss / by hand", "+-"], rows


def finalists(study: Study, arguments: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Distance of by hand and its best rivals, on fresh seeds, at the length of a trial and at four times it."""
    asked, rows = ["by hand", *arguments.finalists, *map(study.make_equal_time, arguments.equal_time)], []
    names = [name for name in asked if name in study.configs]
    for factor, count in ((1, 12), (4, 4)):
        protocol = Protocol(factor * arguments.images, arguments.learning_rate, sampled=True)
        seeds = range(FRESH, FRESH + count)
        study.train(names, seeds, protocol)
        hand = study.values("by hand", seeds, protocol, "rfid")
        for name in names:
            own = study.values(name, seeds, protocol, "rfid")
            loss = study.values(name, seeds, protocol, "loss")
            mean, spread = (fmean(own), stdev(own)) if len(own) > 1 else (math.nan, math.nan)
            rows.append([name, factor, len(own), mean, spread, *against(own, hand), fmean(loss) if loss else math.nan])
    return ["network", "length", "seeds", "rFID", "spread", "rFID / by hand", "log +-", "loss"], rows


STAGES = {"rates": rates, "layouts": layouts, "screen": screen, "finalists": finalists}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--folder", type=Path, default=Path("choices"), help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--images", type=int, default=30_000, help="of a trial's training")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=1, help="processes that train at once")
    parser.add_argument("--networks", type=int, default=len(EVERYTHING), help="of the screen, by hand included")
    parser.add_argument("--seeds", type=int, default=3, help="of the screen")
    parser.add_argument("--confirm", nargs="+", default=[], choices=list(EVERYTHING), help="these, on four fresh seeds")
    parser.add_argument("--finalists", nargs="+", default=[], choices=list(EVERYTHING))
    parser.add_argument("--equal-time", nargs="+", default=[], choices=list(EVERYTHING), help="finalists, too")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    columns, rows = STAGES[given.stage](Study(given), given)
    body = {"benchmark": "choices", "stage": given.stage, "images": given.images, "rate": given.learning_rate}
    report(columns, rows, {**body, "rows": rows})


if __name__ == "__main__":
    main()
