"""What a CUDA GPU makes of it, in under ten minutes: speed of the CIFAR-10 IDDPM network, and both recipes for a while.

``python benchmarks/gpu.py --root ../shared/data`` prints the rate of bf16 matrix multiplication, images a second and
model FLOP utilisation (multiply-accumulates of the network, twice, three times for training; relative to that rate) in
training and sampling, and the FID-768 of each recipe after three minutes on 20,000 images.

``--tiny`` runs the same on a CPU with a small network, few images and seconds: a test of the script, no measurement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators.diffusion import DiffusionEvaluation
from nni_diffnas.evaluators.training.compute import autocast, choose_device, computing, place
from nni_diffnas.evaluators.training.denoising import Training
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces.unet.family import UNetFamily

SHARDS = ("cifar10_train_0.npz", "cifar10_train_1.npz")
TINY = {"width_factors": [0.25], "depths": [1], "attention": [False], "middle": ["none"], "default_depth": 1}


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int, warm: int) -> float:
    """Mean wall-clock seconds of ``work``, after some runs that are not counted."""
    began = 0.0
    for index in range(warm + repeats):
        if index == warm:
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
        work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


def matrix_rate(device: torch.device, size: int) -> float:
    """Floating-point operations a second of a square matrix product, in bf16."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / seconds_of(lambda: left @ right, device, 30, 10)


def training_rate(
    family: UNetFamily,
    device: torch.device,
    batch: int,
    repeats: int,
    *,
    compiled: bool = False,
    recorded: bool = False,
) -> float:
    """Images a second of whole training steps."""
    model = family.build(family.default)
    place(model, device)
    size = family.options.sample_size
    pixels = torch.randint(0, 256, (4 * batch, family.options.in_channels, size, size), dtype=torch.uint8).to(device)
    name = "iddpm" if family.options.learned_sigma else "rapid"
    recipe = Recipe(recipe=name, steps=10**6, batch_size=batch, compile=compiled)
    training = Training(model, pixels, None, recipe, 0)

    def step() -> None:
        training.gradient(training.batches.draw())
        training.update(0.5)

    if recorded:
        step()
        training.settle(0.0)
    rate = batch / seconds_of(step, device, repeats, 3)
    if training.micro_batch < batch:
        print(f"memory sufficed for {training.micro_batch} images at once, not {batch}", flush=True)
    return rate


def sampling_rate(family: UNetFamily, device: torch.device, batch: int, repeats: int) -> float:
    """Images a second that go through the network once, without gradients."""
    model = family.build(family.default).eval()
    place(model, device)
    size = family.options.sample_size
    images = torch.randn(batch, family.options.in_channels, size, size, device=device)
    times = torch.full((batch,), 500, device=device)

    def step() -> None:
        with torch.inference_mode(), autocast(device):
            model(images, times)

    return batch / seconds_of(step, device, repeats, 3)


def joined(root: Path, folder: Path, count: int | None) -> Path:
    """One file with the images of both shards."""
    parts = [np.load(root / name, allow_pickle=False) for name in SHARDS]
    arrays = {key: np.concatenate([part[key] for part in parts])[:count] for key in ("images", "labels")}
    np.savez(folder / "cifar10.npz", **arrays)
    return folder / "cifar10.npz"


def recipe_score(
    name: str, source: Path, weights: Path, space: dict[str, Any], seconds: float, score: dict[str, Any], folder: Path
) -> dict[str, float]:
    """All metrics after a training of so many seconds."""
    family = UNetFamily(**space, learned_sigma=name == "iddpm")
    evaluation = DiffusionEvaluation(
        {"source": str(source)},
        training={"recipe": name, "seconds": seconds, "batch_size": 128, "dropout": 0.0},
        extractor="inception-768", extractor_weights=str(weights), curve_points=0, **score,
    )  # fmt: skip
    evaluation.prepare()
    evaluation.check(family)
    torch.manual_seed(0)
    return evaluation.evaluate(family.build(family.default), TrialContext({}, folder))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the CIFAR-10 shards")
    parser.add_argument("--seconds", type=float, default=180.0, help="of training with each recipe; 0: none")
    parser.add_argument("--batch", type=int, default=512, help="images a step, for the speed")
    parser.add_argument("--tiny", action="store_true", help="a test on a CPU")
    arguments = parser.parse_args()
    began = time.perf_counter()
    tiny = arguments.tiny
    if not tiny and not torch.cuda.is_available():
        parser.exit(1, "benchmarks/gpu.py: torch sees no CUDA GPU; --tiny tests the script without one.\n")
    device = choose_device("cpu" if tiny else "cuda")
    space: dict[str, Any] = {"preset": "cifar10", **(TINY if tiny else {})}
    family = UNetFamily(**space)
    macs = family.cost(family.default).macs
    batch, repeats = (4, 2) if tiny else (arguments.batch, 20)
    peak = matrix_rate(device, 256 if tiny else 8192)
    rows: list[list[Any]] = [["bf16 matrix product", f"{peak / 1e12:.4g} TFLOP/s", "", ""]]
    body: dict[str, Any] = {"benchmark": "gpu", "macs": macs, "batch": batch, "matrix_flops": peak, "tiny": tiny}

    def add(name: str, rate: float, passes: int) -> None:
        share = 2.0 * passes * macs * rate / peak
        rows.append([name, f"{rate:.5g} images/s", f"{share:.1%}", ""])
        print(*rows[-1], file=sys.stderr, flush=True)
        body[name] = {"images_per_second": rate, "utilisation": share}

    torch.backends.cudnn.benchmark = True  # as in long trainings
    add(f"training, batch {batch}", training_rate(family, device, batch, repeats), 3)
    if not tiny:
        add(f"training, batch {batch}, compiled", training_rate(family, device, batch, repeats, compiled=True), 3)
    add(f"sampling, batch {batch}", sampling_rate(family, device, batch, repeats), 1)
    torch.backends.cudnn.benchmark = False
    small = UNetFamily(preset="pixels16")
    for recorded in (False, True):
        rate = training_rate(small, device, min(batch, 64), repeats, recorded=recorded)
        what = f"training a small network, batch {min(batch, 64)}, {'recorded' if recorded else 'step by step'}"
        rows.append([what, f"{rate:.5g} images/s", "", ""])
        body[what] = {"images_per_second": rate}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = joined(arguments.root, folder, 60 if tiny else None) if arguments.seconds else Path()
        score = {"score_images": 32, "sampler_steps": 2} if tiny else {"score_images": 2000, "sampler_steps": 10}
        for recipe in ("rapid", "iddpm") if arguments.seconds else ():
            (folder / recipe).mkdir()
            weights, seconds = arguments.root / "inception_768.npz", 1.0 if tiny else arguments.seconds
            metrics = recipe_score(recipe, source, weights, space, seconds, score, folder / recipe)
            rate = metrics["images_per_second"]
            what = f"{recipe}, {seconds:.0f} s, batch 128"
            rows.append([what, f"{rate:.5g} images/s", "", f"FID-768 {metrics['rfid']:.4g}"])
            body[recipe] = {"fid_768": metrics["rfid"], "images": metrics["trained_images"], "seconds": seconds}
    body["took_seconds"] = round(time.perf_counter() - began, 1)
    report(["what", "rate", "of the matrix rate", "score"], rows, {**body, "computing": computing(device)})


if __name__ == "__main__":
    main()
