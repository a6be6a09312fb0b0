"""Does the loop of `GPTProposer` turn a model's skill into results? Stand-ins of known skill on NAS-Bench-201.

``python benchmarks/gpt_controls.py`` prints the tables of docs/studies/2026-11-gpt-controls.md. Every proposal travels
as text through the chat-completions protocol over loopback; the stand-ins see nothing but the prompt. No figure here is
one of GPT-4.
"""

from __future__ import annotations

import argparse
import logging
import math
import random
import re
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]
warnings.filterwarnings("ignore", message=".*is found to be not a nn.Module.*")

from chat_server import ChatServer
from stand_ins import MODELS

from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import GPTProposer, RandomSearch, RegularizedEvolution
from nni_diffnas.strategies.gpt.template import DEFAULT_TEMPLATE

DATA = ROOT.parent / "shared" / "data" / "nasbench201.npz"
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("edge.0to1", "edge.0to2", "edge.1to2", "edge.0to3", "edge.1to3", "edge.2to3")
BUDGET = Budget({"macs": Window(40e6, 80e6)})
JOURNAL = Path(__file__).parent / "journals" / "gpt_controls.jsonl"
BY_HAND = "hand-made first"
"""Not a part of the prompt: what a person would try is trained before all else, and stands in the memory."""

PARTS = {
    "everything": DEFAULT_TEMPLATE,
    BY_HAND: DEFAULT_TEMPLATE,
    "no memory": re.sub(r"# Memory\n\$memory\n\n", "", DEFAULT_TEMPLATE),
    "no cost table": re.sub(r"# Cost\n\$costs\n\n", "", DEFAULT_TEMPLATE),
    "no window": re.sub(r"# Budget\n\$window\n\n", "", DEFAULT_TEMPLATE),
    "no lessons": re.sub(r"# Lessons so far\n\$lessons\n\n", "", DEFAULT_TEMPLATE),
}


class CellFamily(Family):
    """The cells of NAS-Bench-201 with their measured cost and accuracy (CIFAR-10, validation, 200 epochs)."""

    def __init__(self, file: Path) -> None:
        table = np.load(file, allow_pickle=False)
        cells = [tuple(re.findall(r"\|?([a-z_0-9]+)~\d", str(text))) for text in table["arch"]]
        cifar10 = [str(name) for name in table["datasets"]].index("cifar10")
        macs, params = (np.reshape(table[n], (len(cells), -1))[:, cifar10] for n in ("mflops", "mparams"))
        self._costs = {c: Cost(round(m * 1e6), round(p * 1e6)) for c, m, p in zip(cells, macs, params, strict=True)}
        self._accuracy = dict(zip(cells, table["valid_200"][:, cifar10].tolist(), strict=True))
        self._space = Space(dict.fromkeys(EDGES, OPERATIONS))

    @property
    def space(self) -> Space:
        """Six edges of five operations."""
        return self._space

    @property
    def default(self) -> Architecture:
        """Everything a 1x1 convolution."""
        return dict.fromkeys(EDGES, "nor_conv_1x1")

    def build(self, architecture: Mapping[str, Value]) -> Any:
        """Tables have no networks."""
        raise SpaceError("A cell of the table cannot be built.")

    def scaled(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """What a person would try: a residual block, two 3x3 convolutions and a skip."""
        block = {"edge.0to1": "nor_conv_3x3", "edge.1to3": "nor_conv_3x3", "edge.0to3": "skip_connect"}
        cell: Architecture = {**dict.fromkeys(EDGES, "none"), **block}
        return {"residual block": cell} if budget.admits(self.cost(cell)) else {}

    def _cell(self, architecture: Mapping[str, Value]) -> tuple[str, ...]:
        return tuple(str(architecture[edge]) for edge in EDGES)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """As measured."""
        return self._costs[self._cell(architecture)]

    def accuracy(self, architecture: Mapping[str, Value]) -> float:
        """As measured, in per cent."""
        return self._accuracy[self._cell(architecture)]

    @property
    def best(self) -> float:
        """Best accuracy within the budget."""
        return max(a for cell, a in self._accuracy.items() if BUDGET.admits(self._costs[cell]))


@dataclass(frozen=True)
class Result:
    """One search: its best accuracy, and what the model had to do for it."""

    best: float
    repairs: int
    requests: int
    proposals: int


def result(family: CellFamily, strategy: AskTellStrategy, evaluations: int, workers: int) -> Result:
    """Run one search."""
    search = Search(
        strategy, family.space, family, "table", task="image classification on CIFAR-10 with cells of NAS-Bench-201"
    )
    while len(search.trials) < evaluations:
        for trial in search.ask(min(workers, evaluations - len(search.trials))):
            search.tell(trial.id, {"accuracy": family.accuracy(trial.architecture)})
    rows = strategy.language_model.ledger.rows if isinstance(strategy, GPTProposer) else []
    return Result(
        best=max(trial.metrics["accuracy"] for trial in search.trials),
        repairs=sum(row.step > 0 for row in rows),
        requests=len(rows),
        proposals=sum(trial.origin.kind == "proposal" for trial in search.trials),
    )


def run(family: CellFamily, name: str, part: str, seed: int, given: argparse.Namespace) -> Result:
    """Run one control, or one stand-in with one part of the prompt switched off."""
    options: dict[str, Any] = {
        "objective": "accuracy",
        "direction": "maximize",
        "budget": BUDGET,
        "seed": seed,
        "train_first": "default and by hand" if part == BY_HAND else "none",
    }
    if name == "RandomSearch":
        return result(family, RandomSearch(**options), given.evaluations, given.workers)
    if name == "climbing without a prompt":
        return Result(climb(family, given.evaluations, given.workers, seed), 0, 0, 0)
    if name == "RegularizedEvolution":
        return result(family, RegularizedEvolution(**options), given.evaluations, given.workers)
    with ChatServer(MODELS[name](seed), name=MODELS[name].name) as server:
        strategy = GPTProposer(
            model=name,
            base_url=server.url,
            template=given.templates / f"{part}.txt",
            memory_tokens=given.memory_tokens,
            repairs=20,  # so that nearly every trial is the model's own, however blind it is
            **options,
        )
        return result(family, strategy, given.evaluations, given.workers)


def kept(family: CellFamily, name: str, part: str, seed: int, given: argparse.Namespace, journal: Journal) -> Result:
    """`run`, or what the journal holds of it."""
    setting = f"{given.evaluations} evaluations/{given.workers} workers/{given.memory_tokens} tokens"
    key = f"{name}/{part}/{setting}/seed {seed}"
    record = journal.once(key, lambda: asdict(run(family, name, part, seed, given)))
    return Result(**{field.name: record[field.name] for field in fields(Result)})


def climb(family: CellFamily, evaluations: int, workers: int, seed: int) -> float:
    """What `MutatingModel` does, with no prompt in between and all of the memory in view; its best accuracy."""
    rng, known = random.Random(seed), dict[tuple[str, ...], float]()
    allowed = [cell for cell, cost in family._costs.items() if BUDGET.admits(cost)]
    inside = set(allowed)

    def propose(coming: list[tuple[str, ...]]) -> tuple[str, ...]:
        for parent in sorted(known, key=lambda cell: -known[cell]):
            changed = [(*parent[:i], o, *parent[i + 1 :]) for i in range(len(EDGES)) for o in OPERATIONS]
            fresh = [cell for cell in changed if cell in inside and cell not in known and cell not in coming]
            if fresh:
                return rng.choice(fresh)
        return rng.choice([cell for cell in allowed if cell not in known and cell not in coming])

    while len(known) < evaluations:
        coming: list[tuple[str, ...]] = []
        for _ in range(min(workers, evaluations - len(known))):
            coming.append(propose(coming))
        known |= {cell: family._accuracy[cell] for cell in coming}
    return max(known.values())


def difference(a: list[Result], b: list[Result], what: str) -> tuple[float, float]:
    """Mean and standard error of the paired differences of two lists of searches with the same seeds."""
    values = np.array([getattr(x, what) - getattr(y, what) for x, y in zip(a, b, strict=True)], dtype=float)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def main() -> int:
    """Run everything and print the tables; exit code 1 where a bar is missed, which takes two seeds to judge."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--workers", type=int, default=5, help="free workers that one question serves")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--memory-tokens", type=int, default=2000, help="length of the memory in the prompt")
    parser.add_argument("--only", default="", help="one stand-in, three prompts")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    given = parser.parse_args()
    if given.only not in ("", *MODELS):
        parser.error(f"--only is {given.only!r}: choose one of {', '.join(MODELS)}")
    logging.disable(logging.INFO)
    if not DATA.is_file():
        print(f"{DATA.name} is missing: put it into {DATA.parent}", file=sys.stderr)
        return 2
    family, journal, began = CellFamily(DATA), Journal(given.journal), time.monotonic()
    found: dict[tuple[str, str], list[Result]] = {}
    cases = [("RandomSearch", ""), ("RegularizedEvolution", ""), ("climbing without a prompt", "")]
    cases += [(name, part) for name in MODELS for part in PARTS]
    if given.only:
        cases = [*cases[:3], ("RegularizedEvolution", BY_HAND)]
        cases += [(given.only, part) for part in ("everything", "no memory", BY_HAND)]
    with tempfile.TemporaryDirectory() as folder:
        given.templates = Path(folder)
        for part, template in PARTS.items():
            (given.templates / f"{part}.txt").write_text(template, encoding="utf-8")
        inside = np.mean([BUDGET.admits(cost) for cost in family._costs.values()])
        print(
            f"{given.evaluations} evaluations, {given.workers} workers, {given.seeds} seeds; budget "
            f"{BUDGET.windows['macs']} MACs holds {inside:.1%} of the cells, the best of them has {family.best:.2f} %\n"
        )
        print(
            "| proposer | prompt | best validation accuracy, % | repairs a search | requests | proposed by the model |"
        )
        print("|---|---|---|---|---|---|")
        for name, part in cases:
            results = [kept(family, name, part, seed, given, journal) for seed in range(given.seeds)]
            found[name, part] = results
            best = np.array([result.best for result in results])
            error = best.std(ddof=1) / math.sqrt(len(best)) if len(best) > 1 else math.nan
            means = [np.mean([getattr(r, n) for r in results]) for n in ("repairs", "requests", "proposals")]
            told = "| | |" if not part else f"{means[0]:.1f} | {means[1]:.1f} | {means[2]:.1f}"
            print(f"| {name} | {part or '-'} | {best.mean():.3f} +- {error:.3f} | {told} |", flush=True)
    bars = []
    if given.only:
        for other in (("RandomSearch", ""), ("RegularizedEvolution", ""), (given.only, "no memory")):
            gain, error = difference(found[given.only, "everything"], found[other], "best")
            print(f"{given.only} minus {' '.join(other).strip()}: {gain:+.3f} +- {error:.3f}")
        gain, error = difference(found[given.only, BY_HAND], found["RegularizedEvolution", BY_HAND], "best")
        print(f"the same, {BY_HAND}, minus RegularizedEvolution, {BY_HAND}: {gain:+.3f} +- {error:.3f}")
        return 0
    if given.seeds < 2:
        print(f"\nOne seed has no standard error: no bar is judged.\n\n{time.monotonic() - began:.0f} s")
        return 0
    everything = {name: found[name, "everything"] for name in MODELS}
    gain, error = difference(everything["mutate"], found["RegularizedEvolution", ""], "best")
    bars.append((gain > -2 * error, f"mutate minus RegularizedEvolution: {gain:+.3f} +- {error:.3f} (no worse)"))
    gain, error = difference(everything["random"], found["RandomSearch", ""], "best")
    bars.append((abs(gain) < 2 * error, f"random minus RandomSearch: {gain:+.3f} +- {error:.3f} (equal within noise)"))
    gain, error = difference(everything["obey"], found["obey", "no cost table"], "repairs")
    bars.append(
        (gain < -2 * error, f"repairs of obey with minus without the cost table: {gain:+.1f} +- {error:.1f} (fewer)")
    )
    print()
    for met, text in bars:
        print(f"- {'met' if met else 'MISSED'}: {text}")
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0 if all(met for met, _ in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
