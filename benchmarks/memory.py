"""One search memory under load: several writing processes, then the questions that a search asks of it.

``python benchmarks/memory.py --processes 8 --trials 100000``
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from memories import SPACE, write_trials
from reporting import report

from nni_diffnas.memory import SearchMemory


def worst_of(question: Callable[[], Any], times: int = 20) -> float:
    """Longest time that an answer took, in milliseconds."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        question()
        found.append(time.perf_counter() - began)
    return 1e3 * max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--trials", type=int, default=100_000)
    arguments = parser.parse_args()
    each = arguments.trials // arguments.processes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.sqlite"
        began = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
            waits = pool.starmap(
                write_trials, [(path, process, each) for process in range(arguments.processes)], chunksize=1
            )
        seconds = time.perf_counter() - began
        with SearchMemory(path) as memory:
            trials = memory.trials(status="succeeded")
            kept, key = len(trials), SPACE.key_of(trials[0].architecture)
            questions = {
                "one architecture": lambda: memory.find(SPACE.key, key),
                "trials of one experiment": lambda: memory.trials("experiment0"),
            }
            worst = {name: worst_of(question) for name, question in questions.items()}
        size = path.stat().st_size / 1e6
    written = each * arguments.processes
    rows: list[tuple[str, str]] = [
        ("trials written", f"{written} by {arguments.processes} processes in {seconds:.1f} s"),
        ("lost", str(written - kept)),
        ("longest wait for one", f"{max(waits):.2f} s"),
        *((f"{name}, worst of 20", f"{value:.1f} ms") for name, value in worst.items()),
        ("file", f"{size:.0f} MB"),
    ]
    body = {
        "trials": written,
        "lost": written - kept,
        "seconds": seconds,
        "longest_wait_s": max(waits),
        "worst_ms": worst,
    }
    report(["what", "figure"], rows, body)


if __name__ == "__main__":
    main()
