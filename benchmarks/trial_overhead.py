"""Time from process start to the first optimiser step of a trial, in pairs with importing torch and NNI alone.

``python benchmarks/trial_overhead.py --pairs 5`` prints one JSON line: medians in seconds, their ratio, that of
the seconds on a CPU (which others on the machine disturb less), and the heavy modules that the trial had imported
beyond these by its first step. The bar is a ratio of 1.4. It fails where one of these modules is no part of a training;
``--pairs 0`` looks at nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Both processes end at once: shutting down the interpreter takes up to a second, and belongs to neither.
BASE = "import os, torch, nni; os._exit(0)"
# The command itself, stopped at its first optimiser step. It imports nni first: inside NNI every trial does.
TRIAL = """
import os, sys, torch, nni
from importlib import metadata
before, listed, listing = set(sys.modules), [], metadata.packages_distributions
metadata.packages_distributions = lambda: [listed.append(LISTING), listing()][1]
from nni_diffnas.evaluators.training.optimizer import Optimizer

step = Optimizer.step
def first_step(self, rate, clip=None):
    step(self, rate, clip)
    print(*listed, *(name for name in HEAVY if name in set(sys.modules) - before), sep=", ", flush=True)
    os._exit(0)
Optimizer.step = first_step

from nni_diffnas.cli import main
main()
sys.exit("the trial ended without an optimiser step")
"""
LISTING = "a list of all installed distributions"
"""No module, but as dear as one: see `nni_diffnas.process.lazy.listing_deferred`."""

# What all trials share is made before any: its training has first steps, too.
PREPARE = """
import sys
from pathlib import Path
from nni_diffnas.job import load_job

load_job(Path(sys.argv[1])).make_evaluation().prepare()
"""
HEAVY = (
    "torch._dynamo", "sympy", "scipy", "sklearn", "diffusers", "torch_fidelity", "torchvision", "nni.nas", "lightning",
    "pytorch_lightning", "gpytorch", "botorch", "openai", "PIL",
)  # fmt: skip
NEEDED = ("diffusers", "PIL")
"""Of these, what a training cannot do without: the blocks of the network, and what their package imports itself."""

JOB = Path(__file__).resolve().parents[1] / "examples" / "digits" / "job.yml"


def spent() -> float:
    """Seconds on a CPU of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(code: str, *arguments: str) -> tuple[float, float, str]:
    """Life of a fresh Python process that runs ``code``, in seconds, those on a CPU, and what it printed."""
    began, used = time.perf_counter(), spent()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        check=True, stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir(),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return time.perf_counter() - began, spent() - used, done.stdout.strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="measured pairs, after one that warms caches")
    pairs = parser.parse_args().pairs
    code = TRIAL.replace("HEAVY", repr(HEAVY)).replace("LISTING", repr(LISTING))
    seconds(PREPARE, str(JOB))
    with tempfile.TemporaryDirectory() as output:
        results = [
            (*(seconds(BASE) if pairs else (0.0, 0.0, "")), *seconds(code, "trial", str(JOB), "--output", output))
            for _ in range(pairs + 1)
        ]
    imported = [name for name in results[-1][-1].split(", ") if name]
    if unneeded := [name for name in imported if name not in NEEDED]:
        sys.exit(f"A trial imports {', '.join(unneeded)} by its first step: import them where they are used, or not.")
    if not pairs:
        return
    results = results[1:]
    base, trial = (statistics.median(result[index] for result in results) for index in (0, 3))
    ratios, on_cpu = ([result[index + 3] / result[index] for result in results] for index in (0, 1))
    line = {
        "benchmark": "trial_overhead",
        "import_seconds": round(base, 3),
        "trial_seconds": round(trial, 3),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "cpu_ratio": round(statistics.median(on_cpu), 3),
        "pairs": pairs,
        "imported": imported,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
