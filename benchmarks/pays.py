"""Does a search pay? Its winner against what a hand would do at the same budget, and against the full default.

    python benchmarks/pays.py search --strategy DiffusionGuided --seed 0 --folder FOLDER
    python benchmarks/pays.py judge --folder FOLDER

CIFAR-10 averaged 2x2 to 16x16, preset ``pixels16``, at most half of the default's MACs. A search trains 24 networks, by
held-out loss and with halving, the default and those by hand among them. `judge` trains the winner of each search, the
networks by hand, the new kind of network scaled to the budget without a search (``--new``), and the full default with
fresh seeds, and compares their distances from images that no search has seen. The guided search of seed 0 counts; the
others show how much of it is luck.

Every training goes to the journal at once. A search is the same for the same seed, so one that was killed, on another
machine too, is replayed from the journal and goes on. ``--only-report`` reads the journal alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from cifar16 import averaged
from reporting import report

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import BY_HAND, REFERENCE, Objective, Trial, standing
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.plugins import find_plugin
from nni_diffnas.results.intervals import contrast
from nni_diffnas.searching.search import Search
from nni_diffnas.trial.parameters import split_parameters
from nni_diffnas.trial.run import build_seeded

JOURNAL = Path(__file__).parent / "journals" / "pays.jsonl"
STRATEGIES = ("RandomSearch", "RegularizedEvolution", "DiffusionGuided")
COUNTS = ("DiffusionGuided", 0)
"""The search whose winner is judged with most seeds, fixed beforehand."""

OBJECTIVE = Objective("held_out_loss", "minimize")
FRESH = 10_000
"""First seed of the judgement, far from those of searches."""


class Pays:
    """Space, budget and journal of one command."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.journal = given, Journal(given.journal)
        self.family = find_plugin("spaces", "unet")(preset="pixels16")
        self.budget = Budget({"macs": Window(max=self.family.cost(self.family.default).macs / 2)})
        self.source = Path("cifar10_16.npz") if given.only_report else averaged(given.folder, given.data)

    def evaluation(self, images: int) -> DiffusionEvaluation:
        """How a network is trained and scored."""
        training = {"images": images, "learning_rate": self.given.learning_rate}
        options = {"training": training, "score_images": self.given.samples, "curve_images": 0, "loss_images": 512}
        return DiffusionEvaluation({"source": str(self.source)}, **options)

    def trained(
        self, architecture: Architecture, seed: int, evaluation: DiffusionEvaluation, stage: str, **settings: Any
    ) -> dict[str, Any] | None:
        """Metrics of one training, made now unless only a report is wanted."""
        recipe, space = evaluation.settings.training, self.family.space
        what = (space.key_of(architecture), sorted(settings.items()), seed, recipe.budget, recipe.fingerprint)
        key = fingerprint(stage, *what, evaluation.settings.score_images, evaluation.settings.loss_images)
        if key not in self.journal.records and self.given.only_report:
            return None

        def make() -> dict[str, Any]:
            evaluation.prepare()
            with tempfile.TemporaryDirectory() as folder:
                context = TrialContext(architecture, Path(folder), seed, settings=settings, family=self.family)
                metrics = evaluation.evaluate(build_seeded(self.family, architecture, seed), context)
            cost = self.family.cost(architecture).as_metrics()
            return {"stage": stage, "architecture": architecture, "seed": seed, "metrics": {**metrics, **cost}}

        metrics: dict[str, Any] = self.journal.once(key, make)["metrics"]
        return metrics

    def searched(self, name: str, seed: int) -> list[Trial] | None:
        """The trials of one search, or ``None`` where it is not over and only a report is wanted."""
        strategy = find_plugin("strategies", name)(objective=OBJECTIVE, budget=self.budget, seed=seed, halving=3)
        search = Search(strategy, self.family.space, self.family, experiment=f"{name}-{seed}")
        evaluation = self.evaluation(self.given.images)
        while len(search.own) < self.given.trials and (asked := search.ask(1)):
            architecture, settings = split_parameters(search.parameters(asked[0]))
            architecture = self.family.space.validate(architecture)
            metrics = self.trained(architecture, seed, evaluation, "search", **settings)
            if metrics is None:
                return None
            ended = search.tell(asked[0].id, {**metrics, **standing(settings)})
            said = f"{ended.origin.kind}: {metrics.get(OBJECTIVE.metric, 'stopped')}"
            print(f"{name} {seed}, {len(search.own)}: {said}", file=sys.stderr, flush=True)
        return search.own


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Candidates that have trained to their end, the best first."""
    scored = [trial for trial in trials if OBJECTIVE.score(trial.metrics) is not None]
    return sorted((trial for trial in scored if trial.origin.kind != REFERENCE), key=_loss)


def found(trials: Sequence[Trial]) -> Trial:
    """The best of those that are not by hand."""
    return next(trial for trial in ranked(trials) if trial.origin.kind != BY_HAND)


def trained(trial: Trial) -> float:
    """Part of a whole training that a trial took: one that was stopped, up to the rung that stopped it."""
    if OBJECTIVE.score(trial.metrics) is not None or trial.origin.kind == REFERENCE:
        return 1.0
    rungs = [int(rung) for name in trial.metrics for metric, at, rung in [name.partition("@")] if at]
    return max(rungs, default=0) / 100


def _loss(trial: Trial) -> float:
    return float(trial.metrics[OBJECTIVE.metric])


def search(pays: Pays, given: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Best losses of each search, and what it has trained."""
    rows = []
    for name in [given.strategy] if given.strategy else STRATEGIES:
        for seed in [given.seed] if given.seed is not None else range(3):
            trials = pays.searched(name, seed)
            if trials is None:
                continue
            hand = next(_loss(trial) for trial in ranked(trials) if trial.origin.kind == BY_HAND)
            after = [_loss(found(trials[:count])) for count in (12, len(trials))]
            best = after[-1]
            rows.append([name, seed, len(trials), *after, hand, best / hand, sum(map(trained, trials))])
    return ["strategy", "seed", "trials", "best of 12", "best", "by hand", "best / by hand", "trainings"], rows


def judge(pays: Pays, given: argparse.Namespace) -> tuple[list[str], list[list[Any]]]:
    """Distances from images that no search has seen, with fresh seeds."""
    family, networks = pays.family, dict[str, Architecture]()
    networks |= {f"by hand: {name}": each for name, each in family.scaled(pays.budget).items()}
    networks["default"] = family.space.validate(family.default)
    if given.new is not None:
        networks["new by hand"] = family.space.validate(given.new)
    for name in STRATEGIES:
        for seed in range(3):
            trials = pays.searched(name, seed) if given.only_report or given.searches else None
            if trials is not None and len(trials) == given.trials:
                networks[f"{name} {seed}"] = found(trials).architecture
    most = ("by hand: shallower and narrower", "new by hand", "default", f"{COUNTS[0]} {COUNTS[1]}")
    rows = []
    for factor, many in ((1, given.seeds), (4, 4)):
        evaluation = pays.evaluation(factor * given.images).held_out()
        scores: dict[str, list[float]] = {}
        for index in range(many):
            for name, architecture in networks.items():
                if index < 4 or name in most:
                    metrics = pays.trained(architecture, FRESH + index, evaluation, "judge")
                    scores.setdefault(name, []).extend([] if metrics is None else [metrics["rfid"]])
        told = {name: values for name, values in scores.items() if len(values) > 1}
        hands = {name: fmean(values) for name, values in told.items() if name.startswith("by hand")}
        for name, values in told.items():
            row = [name, factor, family.cost(networks[name]).macs / 1e6, len(values), fmean(values), stdev(values)]
            ratio = contrast(values, told[min(hands, key=hands.__getitem__)]).ratio if hands else None
            rows.append([*row, *((ratio.value, ratio.low, ratio.high) if ratio else ("", "", ""))])
    return ["network", "length", "MMACs", "seeds", "rFID", "spread", "/ best by hand", "low", "high"], rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=("search", "judge"))
    parser.add_argument("--folder", type=Path, default=Path("pays"), help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--strategy", choices=STRATEGIES, help="of the search; unset: all")
    parser.add_argument("--seed", type=int, help="of the search; unset: 0, 1 and 2")
    parser.add_argument("--trials", type=int, default=24, help="of a search")
    parser.add_argument("--images", type=int, default=30_000, help="of a trial's training")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--samples", type=int, default=2000, help="of a distance")
    parser.add_argument("--seeds", type=int, default=12, help="of the networks that count")
    parser.add_argument("--new", type=json.loads, help="JSON: the new kind of network at the budget, by hand")
    parser.add_argument("--searches", action="store_true", help="judge makes the searches that are missing")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    columns, rows = {"search": search, "judge": judge}[given.stage](Pays(given), given)
    report(columns, rows, {"benchmark": "pays", "stage": given.stage, "images": given.images, "rows": rows})


if __name__ == "__main__":
    main()
