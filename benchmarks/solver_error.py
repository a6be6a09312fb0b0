"""What the sampler of a score adds to it: error of few steps, by spacing, and what chance in the noise adds.

    python benchmarks/solver_error.py --folder FOLDER

CIFAR-10 averaged 2x2 to 16x16; networks of `choices.py`, each trained with a few seeds, sampled by DPM-Solver++ with
few steps of either spacing. Columns, each the mean over the training seeds:

- error: root mean square, of 255, of images from the same noise by 250 steps of the timestep;
- contrast: standard deviation of the images' pixels as a part of the data's;
- the rapid FID and its mean part |m1 - m2|^2, with the spread over training seeds, one noise;
- the spread of the rapid FID over noises, one training: drawn one by one, or in antithetic pairs.

Every training's measurements are in the journal, so that a killed study goes on; ``--only-report`` reads it alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, get_args

import numpy as np
import torch
from choices import BY_HAND, EVERYTHING, FRESH, scaled
from reporting import report
from small_images import averaged
from torch import Tensor

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.sampling.solvers import Spacing, initial_noise, sample, to_uint8
from nni_diffnas.evaluators.scores.distances import Statistics, frechet_distance, statistics
from nni_diffnas.evaluators.training.compute import in_batches, threads
from nni_diffnas.evaluators.training.denoising import call_network
from nni_diffnas.search_spaces.unet.network import UNet
from nni_diffnas.search_spaces.unet.plan import plan_of

JOURNAL = Path(__file__).parent / "journals" / "solver_error.jsonl"
REFERENCE, COMPARED = 250, 256
"""Steps of what is taken for exact, and images that are compared with it."""


class Measurement:
    """One trained network under several samplers."""

    def __init__(self, evaluation: DiffusionEvaluation, model: torch.nn.Module) -> None:
        self.evaluation, self.model = evaluation, model.eval()
        self.recipe = evaluation.settings.training
        self.reference = Statistics.load(evaluation.scoring.prepare() / "statistics.npz")
        self.deviation = float(evaluation.images.pixels[evaluation.images.training].std())

    def sampled(self, noise: Tensor, steps: int, spacing: Spacing) -> Tensor:
        """Images in [-1, 1]."""

        def denoise(noised: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
            return call_network(self.model, noised, times, labels)

        alpha_bar, part = self.recipe.noise_schedule().alpha_bar(), self.recipe.parameterisation()

        def made(start: int, stop: int) -> Tensor:
            return sample(denoise, noise[start:stop], alpha_bar, part, steps, spacing=spacing)

        return torch.cat(list(in_batches(len(noise), 250, made)))

    def distance(self, images: Tensor) -> tuple[float, float]:
        """The rapid FID and its mean part."""
        own = statistics(self.evaluation.scoring.features(to_uint8(images).numpy()))
        return frechet_distance(own, self.reference), float(np.square(own.mean - self.reference.mean).sum())

    def measure(self, samples: int, noises: int) -> dict[str, Any]:
        """Everything of one training."""
        shape = self.evaluation.images.shape
        noise = initial_noise(samples, shape, 0)
        exact = self.sampled(noise[:COMPARED], REFERENCE, "trailing")
        found: dict[str, Any] = {}
        for steps in (10, 20):
            for spacing in get_args(Spacing):
                images = self.sampled(noise, steps, spacing)
                error = 127.5 * float((images[:COMPARED] - exact).square().mean().sqrt())
                rfid, mean_part = self.distance(images)
                contrast = float(to_uint8(images).float().std()) / self.deviation
                found[f"{spacing} {steps}"] = {
                    "error": error, "contrast": contrast, "rfid": rfid, "mean_part": mean_part,
                }  # fmt: skip
        for antithetic in (False, True):
            drawn = (initial_noise(samples, shape, 1 + seed, antithetic=antithetic) for seed in range(noises))
            distances = [self.distance(self.sampled(each, 10, "log-snr"))[0] for each in drawn]
            found["pairs" if antithetic else "one by one"] = distances
        return found


def trained(name: str, seed: int, source: Path, images: int, samples: int, noises: int) -> dict[str, Any]:
    """Train a network and measure it."""
    training = {"images": images, "learning_rate": 4e-3}
    evaluation = DiffusionEvaluation({"source": str(source)}, training=training, score_images=samples, curve_points=0)
    evaluation.prepare()
    torch.manual_seed(seed)
    model = UNet(scaled(EVERYTHING[name], plan_of(BY_HAND).price[0]))
    with threads(1):
        evaluation.fit(model, TrialContext({}, Path(), seed, lambda metrics: None))
        return Measurement(evaluation, model).measure(samples, noises)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("choices"), help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--networks", nargs="+", default=["by hand", "convnext 3, pool, level, same"])
    parser.add_argument("--images", type=int, default=30_000, help="of a training")
    parser.add_argument("--samples", type=int, default=2000, help="of a distance")
    parser.add_argument("--seeds", type=int, default=4, help="of the training")
    parser.add_argument("--noises", type=int, default=4, help="of each training's spread")
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    journal, found = Journal(given.journal), dict[str, list[dict[str, Any]]]()
    source = None if given.only_report else averaged(given.folder, given.data)
    for seed in range(FRESH, FRESH + given.seeds):
        for name in given.networks:
            key = fingerprint(name, seed, given.images, given.samples, given.noises)

            def make(name: str = name, seed: int = seed) -> dict[str, Any]:
                assert source is not None
                made = trained(name, seed, source, given.images, given.samples, given.noises)
                print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
                return {"network": name, "seed": seed, **made}

            if source is not None or key in journal.records:
                found.setdefault(name, []).append(journal.once(key, make))
    rows, noise_rows = [], []
    for name, records in found.items():
        for sampler in (key for key in records[0] if isinstance(records[0][key], dict)):
            values = {what: [record[sampler][what] for record in records] for what in records[0][sampler]}
            spread = stdev(values["rfid"]) if len(records) > 1 else float("nan")
            rows.append([name, sampler, len(records), *(fmean(values[what]) for what in values), spread])
        spreads = [fmean(stdev(record[how]) for record in records) for how in ("one by one", "pairs")]
        noise_rows.append([name, *spreads])
    columns = ["network", "spacing, steps", "seeds", "error", "contrast", "rFID", "mean part", "spread of rFID"]
    body = {"benchmark": "solver_error", "images": given.images, "rows": rows}
    report(columns, rows, {**body, "spread over noises (one by one, pairs)": noise_rows})


if __name__ == "__main__":
    main()
