"""Does a search pay? Its winner against what a hand would do at the same budget, and against the full default.

    python benchmarks/pays.py search --strategy DiffusionGuided --seed 0 --folder FOLDER
    python benchmarks/pays.py judge --folder FOLDER

CIFAR-10 averaged 2x2 to 16x16 (or, with ``--size 32``, as it is; ``--images-of`` takes others), preset ``pixels16``, at
most half of the default's MACs, or of its milliseconds on this CPU (``--budget latency_ms``). A search trains 24
networks, by held-out loss and with halving, the default, those by hand and the recommended ones among them. `judge`
trains the winner of each search, the networks by hand, the recommended ones, and the full default with fresh seeds, and
compares their distances from images that no search has seen, and their losses; `times` measures how long each computes.
The guided search of seed 0 counts; the others show how much of it is luck.

Every training goes to the journal at once, with the device that it ran on: comparisons want one journal a device. A
search is the same for the same seed, so one that was killed is replayed from the journal and goes on. ``--only-report``
reads the journal alone.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from choices import milliseconds
from reporting import report
from small_images import NAMES, averaged
from workers import finish

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import BY_HAND, REFERENCE, Objective, standing
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.training.compute import choose_device, computing, place
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.latency import LatencyTable, TimedFamily
from nni_diffnas.plugins import find_plugin
from nni_diffnas.results.intervals import Interval, contrast
from nni_diffnas.searching.search import Search
from nni_diffnas.trial.parameters import split_parameters
from nni_diffnas.trial.run import build_seeded

JOURNAL = Path(__file__).parent / "journals" / "pays.jsonl"
STRATEGIES = ("RandomSearch", "RegularizedEvolution", "DiffusionGuided")
COUNTS = ("DiffusionGuided", 0)
"""The search whose winner is judged with most seeds, fixed beforehand."""

SAMPLED = "10 steps by log-SNR"
OBJECTIVE = Objective("held_out_loss", "minimize")
FRESH = 10_000
"""First seed of the judgement, far from those of searches."""


Task = Callable[[], dict[str, Any]]


class Found(NamedTuple):
    """A trial of a search; without metrics where it failed."""

    origin: str
    architecture: Architecture
    metrics: Mapping[str, float]


class Pays:
    """Space, budget and journal of one command."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.journal = given, Journal(given.journal)
        shape = {"sample_size": given.size, "in_channels": 1 if given.images_of == "mnist" else 3}
        self.family: Family = find_plugin("spaces", "unet")(preset="pixels16", **shape)
        if given.budget == "latency_ms":
            self.family = TimedFamily(self.family, LatencyTable(given.folder / "latency.json"))
        default = self.family.cost(self.family.default).as_metrics()[given.budget]
        self.budget = Budget({given.budget: Window(max=default / 2)})
        self.source = Path()
        if not given.only_report:
            self.source = averaged(given.folder, given.data, given.size, given.images_of)

    def task(
        self, architecture: Architecture, seed: int, stage: str, factor: int = 1, **settings: Any
    ) -> tuple[str, Task]:
        """Key and making of a training, ``factor`` times as long as a trial's; ``judge`` scores by held-out images."""
        given = self.given
        recipe = Recipe(images=factor * given.images, learning_rate=given.learning_rate)
        what = (self.family.space.key_of(architecture), sorted(settings.items()), seed, recipe.budget)
        what = what if given.images_of == "cifar10" else (*what, given.images_of)
        key = fingerprint(stage, *what, recipe.fingerprint, given.size, given.samples, SAMPLED)
        return key, partial(made, given, self.source, self.family, architecture, seed, stage, factor, settings)

    def carry_out(self, name: str, seed: int) -> None:
        """Make one search, or what is left of it; each of its trials is written down beside its training."""
        strategy = find_plugin("strategies", name)(objective=OBJECTIVE, budget=self.budget, seed=seed, halving=3)
        search = Search(strategy, self.family.space, self.family, experiment=f"{name}-{seed}")
        while len(search.own) < self.given.trials and (asked := search.ask(1)):
            architecture, settings = split_parameters(search.parameters(asked[0]))
            architecture = self.family.space.validate(architecture)
            key, make = self.task(architecture, seed, "search", **settings)
            record = self.journal.once(key, make)
            if "failure" in record:
                ended, said = search.tell_failed(asked[0].id, record["failure"]), record["failure"]
            else:
                ended = search.tell(asked[0].id, {**record["metrics"], **standing(settings)})
                said = record["metrics"].get(OBJECTIVE.metric, "stopped")
            number, origin = len(search.own), ended.origin.kind
            told = {"stage": "trial", "search": self.named(name, seed), "number": number, "origin": origin}
            told["training"] = key
            self.journal.once(fingerprint("trial", *told["search"], number, key), lambda told=told: told)
            print(f"{name} {seed}, {number}: {origin}: {said}", file=sys.stderr, flush=True)

    def named(self, name: str, seed: int) -> list[Any]:
        """What tells a search from the others of a journal."""
        further = [value for value in (self.given.images_of, self.given.budget) if value not in ("cifar10", "macs")]
        return [name, seed, *further]

    def networks(self) -> dict[str, Architecture]:
        """Those by hand, the default, the recommended ones, and the winners of the searches that have ended."""
        family, found = self.family, dict[str, Architecture]()
        found |= {f"by hand: {name}": each for name, each in family.scaled(self.budget).items()}
        found["default"] = family.space.validate(family.default)
        found |= {f"recommended: {name}": each for name, each in family.recommended(self.budget).items()}
        for name in STRATEGIES:
            for seed in range(3):
                trials = self.trials(name, seed)
                if len(trials) == self.given.trials and (winner := winner_of(trials)):
                    found[f"{name} {seed}"] = winner.architecture
        return found

    def trials(self, name: str, seed: int) -> list[Found]:
        """What the journal has of a search, in order; the last search where there were several, of two versions."""
        records, found = self.journal.records, dict[int, Found]()
        for record in records.values():
            if record["stage"] == "trial" and record["search"] == self.named(name, seed):
                training = records[record["training"]]
                trial = Found(record["origin"], training["architecture"], training.get("metrics", {}))
                found = {number: each for number, each in found.items() if number < record["number"]}
                found[record["number"]] = trial
        return list(found.values())


@cache
def evaluation_of(rate: float, samples: int, images: int, source: Path, held_out: bool) -> DiffusionEvaluation:
    """How networks are trained and scored; one for each process, which prepares it once."""
    training = {"images": images, "learning_rate": rate}
    options: dict[str, Any] = {"training": training, "score_images": samples, "curve_images": 0, "loss_images": 512}
    if source.name.startswith("twemoji"):  # which has no labels
        options["extractor"] = "random"
    evaluation = DiffusionEvaluation({"source": str(source)}, **options)
    return evaluation.held_out() if held_out else evaluation


def made(
    given: argparse.Namespace, source: Path, family: Family, architecture: Architecture, seed: int, stage: str,
    factor: int, settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Metrics of one training, or why it failed."""
    known = {"stage": stage, "architecture": architecture, "seed": seed}
    known |= {"factor": factor, "device": computing(choose_device("auto"))["device"]}
    evaluation = evaluation_of(given.learning_rate, given.samples, factor * given.images, source, stage == "judge")
    evaluation.prepare()
    with tempfile.TemporaryDirectory() as folder:
        context = TrialContext(architecture, Path(folder), seed, settings=settings, family=family)
        try:
            metrics = evaluation.evaluate(build_seeded(family, architecture, seed), context)
        except TrialFailure as failure:
            return {**known, "failure": str(failure)}
    return {**known, "metrics": {**metrics, **family.cost(architecture).as_metrics()}}


def carried_out(given: argparse.Namespace, name: str, seed: int) -> None:
    """One search, in a process of its own."""
    Pays(given).carry_out(name, seed)


def ranked(trials: Sequence[Found]) -> list[Found]:
    """Candidates that have trained to their end, the best first."""
    scored = [trial for trial in trials if OBJECTIVE.metric in trial.metrics and trial.origin != REFERENCE]
    return sorted(scored, key=loss_of)


def winner_of(trials: Sequence[Found]) -> Found | None:
    """The best of those that are not by hand; ``None`` where all were stopped."""
    return next((trial for trial in ranked(trials) if trial.origin != BY_HAND), None)


def trained(trial: Found) -> float:
    """Part of a whole training that a trial took: one that was stopped, up to the rung that stopped it."""
    if OBJECTIVE.metric in trial.metrics:
        return 1.0
    rungs = [int(rung) for name in trial.metrics for metric, at, rung in [name.partition("@")] if at]
    return max(rungs, default=0) / 100


def loss_of(trial: Found | None) -> float:
    """What a search selects by."""
    return math.nan if trial is None else trial.metrics[OBJECTIVE.metric]


def search(pays: Pays, given: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Best losses of each search, and what it has trained."""
    rows, names = [], [given.strategy] if given.strategy else STRATEGIES
    asked = [(name, seed) for name in names for seed in ([given.seed] if given.seed is not None else range(3))]
    if not given.only_report:
        if given.workers > 1:
            with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
                list(pool.map(partial(carried_out, given), *zip(*asked, strict=True)))
            pays = Pays(given)  # reads what they have written down
        else:
            for name, seed in asked:
                pays.carry_out(name, seed)
    for name, seed in asked:
        if trials := pays.trials(name, seed):
            hand = next(loss_of(trial) for trial in ranked(trials) if trial.origin == BY_HAND)
            best, *_, half = (loss_of(winner_of(trials[:count])) for count in (len(trials), 12))
            rows.append([name, seed, len(trials), half, best, hand, best / hand, sum(map(trained, trials))])
    return ["strategy", "seed", "trials", "best of 12", "best", "by hand", "best / by hand", "trainings"], rows


def judge(pays: Pays, given: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Distances from images that no search has seen, with fresh seeds."""
    family, networks = pays.family, pays.networks()
    most = {"default", f"{COUNTS[0]} {COUNTS[1]}"}
    most |= {name for name in networks if name.startswith(("recommended", "by hand: shallower"))}
    keys = dict[tuple[int, str], list[str]]()
    tasks = dict[str, Task]()
    for factor, many in ((1, given.seeds), (4, 4 * (given.longest >= 4))):
        for index in range(many):
            for name, architecture in networks.items():
                if name in most or (index < 4 and not given.few):
                    key, tasks[key] = pays.task(architecture, FRESH + index, "judge", factor)
                    keys.setdefault((factor, name), []).append(key)
    if not given.only_report:
        finish(pays.journal, tasks, given.workers)
    records, rows = pays.journal.records, []
    for factor in (1, 4):
        told = dict[str, list[Mapping[str, float]]]()
        for name in networks:
            known = [records[key] for key in keys.get((factor, name), ()) if key in records]
            measured = [record["metrics"] for record in known if "failure" not in record]
            if len(measured) > 1:
                told[name] = measured
        rivals = [name for name in told if name == "default" or name.startswith(("by hand", "recommended"))]
        for name in told:
            macs, row = family.cost(networks[name]).macs / 1e6, list[Any]()
            for metric in ("rfid", OBJECTIVE.metric):
                values = {each: [metrics[metric] for metrics in told[each]] for each in {name, *rivals}}
                ratios = {rival: contrast(values[name], values[rival]).ratio for rival in rivals if rival != name}
                row += [fmean(values[name]), stdev(values[name]), ratios]
            rows.append([name, factor, macs, len(told[name]), *row])
    columns = ["network", "length", "MMACs", "seeds", "rFID", "spread", "times that of"]
    return [*columns, "held-out loss", "spread", "times that of"], rows


def times(pays: Pays, given: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Milliseconds on one CPU core, forward and of a training step, of the networks that are judged."""
    networks = {name: build_seeded(pays.family, each, 0) for name, each in pays.networks().items()}
    for network in networks.values():
        place(network, torch.device("cpu"))
    taken = milliseconds(networks, pays.source, rounds=31)
    hand = next(taken[name] for name in networks if name.startswith("by hand: shallower"))
    rows = [[name, *own, *(mine / its for mine, its in zip(own, hand, strict=True))] for name, own in taken.items()]
    return ["network", "ms forward", "ms step", "forward / by hand", "step / by hand"], rows


def in_words(ratios: Mapping[str, Interval | None]) -> str:
    """Ratios with their intervals."""
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    return ", ".join(f"{name} {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" for name, ratio in known.items())


STAGES = {"search": search, "judge": judge, "times": times}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=tuple(STAGES))
    parser.add_argument("--folder", type=Path, default=Path("pays"), help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--strategy", choices=STRATEGIES, help="of the search; unset: all")
    parser.add_argument("--seed", type=int, help="of the search; unset: 0, 1 and 2")
    parser.add_argument("--size", type=int, choices=(16, 32), default=16, help="of the images, pixels")
    parser.add_argument("--images-of", choices=NAMES, default="cifar10", help="data set")
    parser.add_argument("--budget", choices=("macs", "latency_ms"), default="macs", help="half of the default's")
    parser.add_argument("--workers", type=int, default=1, help="processes that train at once")
    parser.add_argument("--trials", type=int, default=24, help="of a search")
    parser.add_argument("--images", type=int, default=30_000, help="of a trial's training")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--samples", type=int, default=2000, help="of a distance")
    parser.add_argument("--seeds", type=int, default=12, help="of the networks that count")
    parser.add_argument("--few", action="store_true", help="judge only the networks that count")
    parser.add_argument("--longest", type=int, choices=(1, 4), default=4, help="judgement, times a trial")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    columns, rows = STAGES[given.stage](Pays(given), given)
    shown = [[in_words(cell) if isinstance(cell, dict) else cell for cell in row] for row in rows]
    report(columns, shown, {"benchmark": "pays", "stage": given.stage, "images": given.images, "rows": shown})


if __name__ == "__main__":
    main()
