"""Runs every benchmark, two at a time: ``--quick`` a small version of each, to see that they run and what they print.

    python benchmarks/all.py --quick

What needs a file that ``--data`` does not hold is left out, by name (README.md tells of the files). The last lines say
what ran, how long it took, and what failed; the output of each benchmark is in ``--folder``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TABLE, TASKS, MNIST = "nasbench201.npz", "nasbench201_tasks.npz", "mnist.npz"
SHARDS = ("cifar10_train_0.npz", "cifar10_train_1.npz")
CIFAR = (*SHARDS, "inception_768.npz")


class Benchmark(NamedTuple):
    """One script; ``{data}`` and ``{folder}`` in its arguments are filled in, ``needs`` are files of ``--data``."""

    script: str
    quick: str
    full: str = ""
    needs: tuple[str, ...] = ()


# The longest first: two run at a time.
BENCHMARKS = (
    Benchmark(
        "blockwise", "--quick --seeds 1 --only local, --folder {folder}/blockwise", "--folder {folder}/blockwise"
    ),
    Benchmark(
        "retraining",
        "--case quick --teacher-images 640 --samples 70 --seeds 1 --ways output --folder {folder}/retraining "
        "--journal {folder}/retraining.jsonl",
        "--folder {folder}/retraining",
    ),
    Benchmark(
        "choosing",
        "--case quick --teacher-images 640 --samples 70 --seeds 1 --folder {folder}/choosing "
        "--journal {folder}/choosing.jsonl",
        "--folder {folder}/choosing",
    ),
    Benchmark(
        "inheriting",
        "--case quick --teacher-images 640 --seeds 1 --students 2 --folder {folder}/retraining",
        "--folder {folder}/retraining",
    ),
    Benchmark(
        "convergence", "--steps 40 --seeds 1 --log {folder}/convergence.jsonl", "--log {folder}/convergence.jsonl"
    ),
    Benchmark(
        "rfid_rank",
        "--folder {folder}/rank --data {data} --quick",
        "--folder {folder}/rank --data {data}",
        needs=CIFAR[:2],
    ),
    Benchmark(
        "recipes",
        "--folder {folder}/rank --data {data} --journal {folder}/recipes.jsonl --images 128 --samples 70 --seeds 1 "
        "--changes uniform",
        "--folder {folder}/rank --data {data}",
        needs=CIFAR[:2],
    ),
    Benchmark(
        "neighbours",
        "examples/patches/job.yml --seeds 1 --most 1 --journal {folder}/neighbours.jsonl",
        "examples/patches/job.yml --journal {folder}/neighbours.jsonl",
    ),
    Benchmark(
        "seed_noise", "--folder {folder}/seed_noise --images 640 --networks 2 --seeds 2", "--folder {folder}/seed_noise"
    ),
    Benchmark(
        "choices",
        "screen --images 128 --networks 2 --seeds 1 --folder {folder}/choices --data {data} "
        "--journal {folder}/choices/choices.jsonl",
        "screen --folder {folder}/choices --data {data}",
        needs=SHARDS,
    ),
    Benchmark(
        "solver_error",
        "--images 128 --samples 70 --seeds 1 --noises 2 --folder {folder}/choices --data {data} "
        "--journal {folder}/choices/solver_error.jsonl",
        "--folder {folder}/choices --data {data}",
        needs=SHARDS,
    ),
    Benchmark(
        "pays",
        "search --strategy RandomSearch --seed 0 --trials 6 --images 128 --samples 16 --folder {folder}/pays "
        "--data {data} --journal {folder}/pays/pays.jsonl",
        "search --folder {folder}/pays --data {data}",
        needs=SHARDS,
    ),
    Benchmark("gpt_controls", "--evaluations 8 --seeds 1 --journal {folder}/controls.jsonl", needs=(TABLE,)),
    Benchmark(
        "tabular",
        "--table {data}/nasbench201.npz --strategies guided,evolution,random --seeds 1 --evaluations 14",
        "--table {data}/nasbench201.npz",
        needs=(TABLE,),
    ),
    Benchmark(
        "fidelities",
        "--table {data}/nasbench201.npz --strategies guided,by-hand-params,random --seeds 1 --equivalents 4",
        "--table {data}/nasbench201.npz",
        needs=(TABLE,),
    ),
    Benchmark("scaling", "--strategies RandomSearch --workers 1 4 --trials 12"),
    Benchmark("throughput", "--seconds 5 --trials 4 --workers 1 2"),
    Benchmark("memory", "--trials 8000"),
    Benchmark("gpu", "--tiny --root {data}", "--root {data}", needs=CIFAR),
    Benchmark(
        "transfer_tasks",
        "--table {data}/nasbench201_tasks.npz --folds 2 --steps 20",
        "--table {data}/nasbench201_tasks.npz",
        needs=(TASKS,),
    ),
    Benchmark(
        "transfer_mnist",
        "--mnist {data}/mnist.npz --folder {folder}/transfer_mnist --tasks 3 --images 64 --seeds 1",
        "--mnist {data}/mnist.npz --folder {folder}/transfer_mnist",
        needs=(MNIST,),
    ),
    Benchmark("kinds", "--strategies guided,random --seeds 1 --trials 10 --halving 3", "--halving 3"),
    Benchmark("candidates", "--seeds 1", ""),
    Benchmark("priors", "", ""),
    Benchmark("rungs", "--draws 20", ""),
    Benchmark(
        "unet_regret",
        "--table benchmarks/data/unets_cifar10_16.npz --strategies guided,evolution --seeds 1 --evaluations 8",
        "--table benchmarks/data/unets_cifar10_16.npz",
    ),
    Benchmark("generator", "--networks 50 --training-steps 20"),
    Benchmark("draws", "--networks 20"),
    Benchmark("suggest_scale", "--trials 10,100 --repeats 1"),
    Benchmark("trial_overhead", "--pairs 1"),
    Benchmark("latency_table", "--networks 4 --rounds 1 --repeats 3"),
    Benchmark(
        "arms",
        "--table {data}/nasbench201.npz --seeds 2 --evaluations 30 --folder {folder}/arms",
        "--table {data}/nasbench201.npz --folder {folder}/arms",
        needs=(TABLE,),
    ),
)


def run(benchmark: Benchmark, quick: bool, data: Path, folder: Path) -> tuple[str, float, str]:
    """Name, seconds and outcome of one benchmark."""
    missing = [name for name in benchmark.needs if not (data / name).is_file()]
    if missing:
        return benchmark.script, 0.0, f"left out: there is no {data / missing[0]}"
    arguments = (benchmark.quick if quick else benchmark.full).format(data=data, folder=folder).split()
    began = time.monotonic()
    with (folder / f"{benchmark.script}.txt").open("w") as output:
        command = [sys.executable, str(HERE / f"{benchmark.script}.py"), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=HERE.parent
        ).returncode
    outcome = "ok" if code == 0 else f"FAILED with {code}"
    print(f"{benchmark.script}: {outcome} after {time.monotonic() - began:.0f} s", flush=True)
    return benchmark.script, time.monotonic() - began, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small version of each")
    parser.add_argument("--only", help="names of scripts, with commas between")
    parser.add_argument(
        "--data",
        type=Path,
        default=HERE.parent.parent / "shared" / "data",
        help="folder of the files that README.md names",
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/all"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [b for b in BENCHMARKS if not arguments.only or b.script in arguments.only.split(",")]
    began = time.monotonic()
    with ThreadPoolExecutor(arguments.workers) as pool:
        results = list(pool.map(lambda b: run(b, arguments.quick, arguments.data.resolve(), folder), chosen))
    for name, seconds, outcome in results:
        print(f"{name:16} {seconds:6.0f} s  {outcome}")
    print(f"{'together':16} {time.monotonic() - began:6.0f} s  output in {folder}")
    sys.exit(any("FAILED" in outcome for _, _, outcome in results))


if __name__ == "__main__":
    main()
