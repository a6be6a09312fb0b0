"""Throughput of sleeping trials with 1, 2 and 4 workers behind ``nnictl create``, against the ideal.

Ideal is the time of one worker divided by their number, counted from the start of the first trial to the end of the
last: NNI's own start is left out. ``python benchmarks/throughput.py --seconds 20 --trials 8``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from killed_search import Search
from reporting import report


def busy_seconds(workers: int, seconds: float, trials: int) -> float:
    """From the first trial's start to the last one's end, by NNI's clock."""
    import time

    search = Search("tuner", Path(tempfile.mkdtemp()), trials, workers, seconds)
    search.prepare()
    search.start(resume=False)
    try:
        while not search.done():
            time.sleep(1)
        jobs = search.running.trials()
    finally:
        search.stop()
    return float(max(job["endTime"] for job in jobs) - min(job["startTime"] for job in jobs)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    rows: list[tuple[int, float, str]] = []
    alone = 0.0
    for workers in arguments.workers:
        took = busy_seconds(workers, arguments.seconds, arguments.trials)
        alone = alone or took * workers
        rows.append((workers, took, f"{alone / workers / took:.0%}"))
    report(
        ["workers", "seconds", "of ideal"],
        rows,
        {"trials": arguments.trials, "sleep_s": arguments.seconds, "seconds": {str(row[0]): row[1] for row in rows}},
    )


if __name__ == "__main__":
    main()
