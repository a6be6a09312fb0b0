"""How many workers one search can keep busy: the real `Search` and its memory, with simulated trials.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --strategies DiffusionGuided --workers 1 16 --trials 48

Trials take a simulated time and cost no computing. What is real is all that the process of a search does: it records
each result, chooses the next network, prices and checks it, and writes both into the search memory. It does so for one
worker at a time; whoever ends in the meantime waits, as behind NNI's tuner door. NNI itself is not in it: neither the
start of a trial's process, nor the network. CIFAR-10's preset at half of the default's MACs, as in `examples/cifar10`.

Real times are CPU seconds, so that they mean the same on a busy machine; waiting for a disk is not counted. The share
of idle time ends with the last suggestion: the end of a search, where workers find nothing left to do, is left out.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from reporting import report

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.trial import Objective
from nni_diffnas.memory import SearchMemory
from nni_diffnas.plugins import find_plugin
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.search import Search

SPREAD = 0.3
"""Standard deviation of the logarithm of a trial's time."""


class TimedMemory(SearchMemory):
    """A search memory that counts its writes and the CPU seconds that they take."""

    writes, seconds, _within = 0, 0.0, 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """As of every memory; the outermost ones are counted."""
        self._within += 1
        started = time.process_time()
        try:
            with super().transaction():
                yield
        finally:
            self._within -= 1
            if not self._within:
                self.seconds += time.process_time() - started
                self.writes += 1


class Load(NamedTuple):
    """What a search of some trials on some workers did.

    Args:
        trials: that were suggested.
        asking: CPU seconds of all suggestions, with their writes.
        writes: transactions of the memory.
        writing: CPU seconds that they took.
        controlling: CPU seconds of everything between a trial's end and the next one's start.
        idle: share of the workers' time until the last suggestion.
    """

    trials: int
    asking: float
    writes: int
    writing: float
    controlling: float
    idle: float


def simulated(strategy: str, workers: int, trials: int, seconds: float, file: Path) -> Load:
    """Run one search on simulated workers, by a clock of its own.

    Args:
        strategy: name of the plug-in.
        workers: that train at once.
        trials: of the search.
        seconds: median of a trial's time.
        file: of the memory.
    """
    family, rng = UNetFamily("cifar10"), np.random.default_rng(0)
    weights = rng.normal(size=family.space.shape)
    budget = Budget({"macs": Window(max=family.cost(family.default).macs / 2)})
    asking = controlling = now = trained = 0.0
    free = [(0.0, worker, "") for worker in range(workers)]  # when, who, which trial it has ended
    with TimedMemory(file) as memory:
        made = find_plugin("strategies", strategy)(
            objective=Objective("held_out_loss", "minimize"), budget=budget, memory=memory
        )
        search = Search(made, family.space, family, "simulated/1", experiment="simulated")
        while len(search.own) < trials:
            ended, worker, trial_id = heapq.heappop(free)
            started = time.process_time()
            if trial_id:
                architecture = search.history.trials[trial_id].architecture
                noise = 0.1 * rng.normal()
                loss = float((family.space.encode([architecture])[0] * weights).sum() + noise)
                with search.recording():
                    search.tell(trial_id, {"held_out_loss": loss})
            chosen = time.process_time()
            (trial,) = search.ask(1)
            done = time.process_time()
            asking, controlling = asking + done - chosen, controlling + done - started
            now = max(now, ended) + done - started  # one thing at a time
            took = seconds * float(np.exp(SPREAD * rng.normal()))
            trained += took
            heapq.heappush(free, (now + took, worker, trial.id))
    busy = trained - sum(max(0.0, end - now) for end, _, _ in free)  # without what goes on beyond the last suggestion
    return Load(trials, asking, memory.writes, memory.seconds, controlling, 1 - busy / (workers * now))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["RandomSearch", "RegularizedEvolution"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--trials", type=int, default=0, help="of a search; 0: four for each worker, 64 at least")
    parser.add_argument("--seconds", type=float, default=60.0, help="median of a trial's simulated time")
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    rows = []
    for strategy in given.strategies:
        for workers in given.workers:
            with tempfile.TemporaryDirectory() as folder:
                trials = given.trials or max(64, 4 * workers)
                load = simulated(strategy, workers, trials, given.seconds, Path(folder) / "memory.sqlite")
            fed = given.seconds / (load.controlling / load.trials)
            speeds = [load.trials / load.asking, load.writes / load.writing]
            rows.append([strategy, workers, load.trials, *speeds, f"{load.idle:.2%}", fed])
    columns = [
        "strategy",
        "workers",
        "trials",
        "suggestions / s",
        "memory writes / s",
        "idle share",
        "feeds workers",
    ]
    report(columns, rows, {"benchmark": "scaling", "trial_seconds": given.seconds, "columns": columns, "rows": rows})


if __name__ == "__main__":
    main()
