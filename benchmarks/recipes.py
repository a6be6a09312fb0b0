"""What one change of the recipe does to a short training, and to its spread from seed to seed.

    python benchmarks/recipes.py --folder FOLDER --seeds 3

CIFAR-10 averaged 2x2 to 16x16; the network that a person would try at half of the default's MACs, and one half and one
twice as wide for the learning rates. One change at a time, equal images, common seeds, each against the plain
recipe, by two measures:

- the loss on held-out images, which two seeds agree on. Where the weighting differs it is that of the plain recipe;
- the rapid FID: its mean part |m1 - m2|^2, what is left of it after the samples have been given the channel means of
  the data, its spread over seeds; and how far off the network is, in the mean, where a sampler starts.

Every finished training is in the journal, so that a killed study goes on; ``--only-report`` reads it alone.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reporting import report
from scipy.stats import t
from small_images import averaged

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal
from nni_diffnas.evaluators.scores.distances import Statistics, frechet_distance, statistics
from nni_diffnas.evaluators.scores.held_out_loss import mean_loss
from nni_diffnas.evaluators.training.batches import Batch
from nni_diffnas.evaluators.training.compute import threads
from nni_diffnas.evaluators.training.denoising import DenoisingLoss
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.plugins import find_plugin

JOURNAL = Path(__file__).parent / "journals" / "recipes.jsonl"
SPACE = {"preset": "pixels16", "width_multiple": 4, "width_factors": [0.375, 0.5, 0.75, 1.0, 1.5, 2.0]}
WIDTHS = {"half": 0.5, "by-hand": 1.0, "double": 2.0}
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    **{f"rate-{rate:g}": {"learning_rate": rate} for rate in RATES},
    "uniform": {"weighting": "uniform"},
    "average-0.05": {"ema_width": 0.05},
    "average-0.2": {"ema_width": 0.2},
    "batch-32": {"batch_size": 32},
    "batch-32-rate-1.4e-3": {"batch_size": 32, "learning_rate": 1.4e-3},
    "warmup-0.02": {"warmup": 0.02},
    "independent-times": {"drawn": "uniform"},
    "edm-levels": {"weighting": "edm", "drawn": "log-normal"},
    "flip": {"flip": True},
}


def trained(evaluation: DiffusionEvaluation, plain: DiffusionEvaluation, width: float, seed: int) -> dict[str, Any]:
    """Loss on held-out images by the plain recipe's weighting, and the parts of the distance, of one training."""
    family = find_plugin("spaces", "unet")(**SPACE)
    labels: dict[str, Any] = {f"level{level}.depth": 1 for level in range(3)}
    labels |= {f"level{level}.width": round(width * base) for level, base in enumerate((16, 24, 24))}
    torch.manual_seed(seed)
    model = family.build(family.space.validate({**family.default, **labels}))
    with threads(1):
        result = evaluation.fit(model, TrialContext({}, Path(), seed))
        assert plain.held_out_loss is not None
        levels = plain.held_out_loss.levels(model)
        pixels = evaluation.generate(model, evaluation.settings.score_images, seed)
        means = plain.images.pixels[plain.images.training].mean(axis=(0, 2, 3))
        reference = Statistics.load(evaluation.scoring.prepare() / "statistics.npz")
        own = statistics(evaluation.scoring.features(pixels))
        tinted = statistics(evaluation.scoring.features(_with_means(pixels, means)))
    return {
        "loss": mean_loss(levels), "levels": {str(level.timestep): level.squared_error for level in levels},
        "rfid": frechet_distance(own, reference), "mean_part": float(np.square(own.mean - reference.mean).sum()),
        "rfid_tint": frechet_distance(tinted, reference), "tint": (pixels.mean(axis=(0, 2, 3)) - means).tolist(),
        "bias": _bias(plain, model), "train_loss": result.loss, "seconds": round(result.seconds, 1),
    }  # fmt: skip


@torch.no_grad()
def _bias(evaluation: DiffusionEvaluation, model: torch.nn.Module) -> list[float]:
    """Mean of what the network takes for an image where a sampler starts, less that of the images: by channel, of 255.

    The highest noise level leaves nothing of an image, so that the best idea is the images' mean.
    """
    recipe, chosen = evaluation.settings.training, evaluation.images.held_out[:500]
    clean = torch.from_numpy(np.ascontiguousarray(evaluation.images.pixels[chosen])).float() / 127.5 - 1.0
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    batch = Batch(clean, noise, torch.full((len(clean),), recipe.timesteps - 1), None)
    denoising = DenoisingLoss(recipe, torch.device("cpu"))
    apart = denoising.clean(batch, denoising.predict(model, batch)) - clean
    return [float(each) for each in 127.5 * apart.mean(dim=(0, 2, 3))]


def _with_means(pixels: NDArray[np.uint8], means: NDArray[np.float64]) -> NDArray[np.uint8]:
    shifted = pixels + (means - pixels.mean(axis=(0, 2, 3)))[:, None, None]
    corrected: NDArray[np.uint8] = np.rint(shifted).clip(0, 255).astype(np.uint8)
    return corrected


def against(own: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float]:
    """Ratio of the values of common seeds, geometric mean, and half width of its 95 % interval on the logarithm."""
    ratios = [math.log(own[seed] / other[seed]) for seed in own.keys() & other.keys()]
    if len(ratios) < 2:
        return math.exp(fmean(ratios)) if ratios else math.nan, math.nan
    return math.exp(fmean(ratios)), float(t.ppf(0.975, len(ratios) - 1)) * stdev(ratios) / math.sqrt(len(ratios))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="keeps the images")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="of the CIFAR-10 shards")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="keeps the results")
    parser.add_argument("--images", type=int, default=30_000, help="of each training")
    parser.add_argument("--samples", type=int, default=2000, help="of each distance")
    parser.add_argument("--learning-rate", type=float, default=4e-3, help="of the plain recipe")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--width", choices=list(WIDTHS), nargs="+", default=["by-hand"], help="of the network")
    parser.add_argument("--changes", nargs="+", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--only-report", action="store_true", help="of what is in the journal")
    given = parser.parse_args(arguments)
    journal, values = Journal(given.journal), dict[tuple[str, str], dict[int, dict[str, Any]]]()
    changes = list(dict.fromkeys(["plain", *given.changes]))
    source = None if given.only_report else averaged(given.folder, given.data)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    plainly = {"images": given.images, "learning_rate": given.learning_rate}
    # Seed by seed, so that an early report compares all.
    for seed, width, change in itertools.product(seeds, given.width, changes):
        recipe = Recipe(**{**plainly, **CHANGES[change]})
        key = fingerprint(width, recipe.fingerprint, seed, given.images, given.samples, "10 steps by log-SNR")

        def make(change: str = change, width: str = width, seed: int = seed) -> dict[str, Any]:
            plain, changed = (
                DiffusionEvaluation(
                    {"source": str(source)}, training={**plainly, **settings}, curve_points=0,
                    score_images=given.samples, loss_images=512,
                )
                for settings in ({}, CHANGES[change])
            )  # fmt: skip
            changed.prepare()
            found = trained(changed, plain, WIDTHS[width], seed)
            said = f"{found['loss']:.5f} {found['rfid']:.2f}"
            print(f"{width}, {change}, seed {seed}: {said}", file=sys.stderr, flush=True)
            return {"width": width, "change": change, "seed": seed, **plainly, **found}

        if source is not None or key in journal.records:
            values.setdefault((width, change), {})[seed] = journal.once(key, make)
    rows = []
    for (width, change), found in values.items():
        plain = values[width, "plain"]  # every seed's first
        loss, rfid = ({seed: row[what] for seed, row in found.items()} for what in ("loss", "rfid"))
        spreads = [stdev(v.values()) / fmean(v.values()) if len(v) > 1 else math.nan for v in (loss, rfid)]
        parts = [fmean(row[what] for row in found.values()) for what in ("mean_part", "rfid_tint")]
        parts.append(fmean(float(np.abs(row["bias"]).mean()) for row in found.values()))
        ratio = against(loss, {seed: row["loss"] for seed, row in plain.items()})
        losses = [fmean(loss.values()), spreads[0], *ratio]
        rows.append([width, change, len(found), *losses, fmean(rfid.values()), spreads[1], *parts])
    columns = ["network", "change", "seeds", "loss", "spread / loss", "loss / plain", "log +-"]
    columns += ["rFID", "spread / rFID", "mean part", "rFID, means of the data", "bias of the first step"]
    report(columns, rows, {"benchmark": "recipes", "images": given.images, "rows": rows})


if __name__ == "__main__":
    main()
