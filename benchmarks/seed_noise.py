"""Where the seed noise of a rapid FID sits: which statistics of a trained network are its own, and which its seed's.

    python benchmarks/seed_noise.py --folder FOLDER

Networks of the ``digits`` preset with nearly the same MACs are trained with several seeds. Of each statistic: the
spread over seeds (that which is common to all networks taken off), the true spread over networks, and how it goes with
the distance. Every finished training is kept in FOLDER.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import report
from sklearn.linear_model import LogisticRegression

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.cache import fingerprint
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration.measurements import Journal, within
from nni_diffnas.evaluators.calibration.ranking import noise
from nni_diffnas.evaluators.scores.distances import Statistics, frechet_distance, statistics
from nni_diffnas.evaluators.training.compute import threads
from nni_diffnas.evaluators.training.denoising import call_network
from nni_diffnas.plugins import find_plugin
from nni_diffnas.trial.run import build_seeded

STATISTICS = {
    "distance": "rfid",
    "mean part": "|m1 - m2|^2",
    "covariance part": "the rest",
    "classes reweighted": "distance after samples are weighted to the data's classes",
    "held-out loss": "of v, mean over 40 timesteps, the same noise for all",
}
LEVELS = 40


def trained(
    family: Family, evaluation: DiffusionEvaluation, architecture: Architecture, seed: int, judge: Any
) -> dict[str, float]:
    """Statistics of one training."""
    model = build_seeded(family, architecture, seed)
    with threads(1):
        evaluation.fit(model, TrialContext(architecture, Path(), seed, lambda metrics: None))
        pixels = evaluation.generate(model, evaluation.settings.score_images, seed)
        features = evaluation.scoring.features(pixels)
        loss = held_out_loss(evaluation, model)
    reference = Statistics.load(evaluation.scoring.prepare() / "statistics.npz")
    own = statistics(features)
    distance = frechet_distance(own, reference)
    apart = float(np.square(own.mean - reference.mean).sum())
    classes = judge.predict(features)
    shares = np.bincount(judge.known, minlength=10) / len(judge.known)
    weights = shares[classes] / (np.bincount(classes, minlength=10) / len(classes))[classes]
    weights /= weights.sum()
    mean = weights @ features
    centred = features - mean
    weighted = Statistics(mean, centred.T @ (centred * weights[:, None]), len(features))
    return dict(
        zip(STATISTICS, (distance, apart, distance - apart, frechet_distance(weighted, reference), loss), strict=True)
    )


def held_out_loss(evaluation: DiffusionEvaluation, model: torch.nn.Module) -> float:
    """Mean squared error of v on the held-out images."""
    clean = torch.from_numpy(evaluation.images.pixels[evaluation.images.held_out]).float() / 127.5 - 1.0
    alpha_bar, rng = evaluation.settings.training.noise_schedule().alpha_bar(), torch.Generator().manual_seed(1)
    losses = []
    model.eval()
    with torch.no_grad():
        for time in torch.linspace(5, len(alpha_bar) - 6, LEVELS).long():
            a, b = alpha_bar[time].sqrt().float(), (1.0 - alpha_bar[time]).sqrt().float()
            drawn = torch.randn(clean.shape, generator=rng)
            predicted = call_network(model, a * clean + b * drawn, time.expand(len(clean)), None)
            losses.append((predicted - (a * drawn - b * clean)).square().mean().item())
    return float(np.mean(losses))


def class_judge(evaluation: DiffusionEvaluation) -> Any:
    """A classifier on the features of the training images."""
    chosen = evaluation.images.training
    assert evaluation.images.labels is not None
    judge = LogisticRegression(max_iter=500)
    judge.known = evaluation.images.labels[chosen]
    return judge.fit(evaluation.scoring.features(evaluation.images.pixels[chosen]), judge.known)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="keeps the results")
    parser.add_argument("--images", type=int, default=24_000, help="of each training")
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args(arguments)
    family = find_plugin("spaces", "unet")(preset="digits")
    training = {"images": given.images, "learning_rate": given.learning_rate}
    evaluation = DiffusionEvaluation({"source": "digits"}, training=training, score_images=2000, curve_points=0)
    evaluation.prepare()
    judge = class_judge(evaluation)
    networks = within(family, 1.35e6, 1.65e6, 16)[: given.networks]
    journal, values = (
        Journal(given.folder / "seed_noise.jsonl"),
        np.full((len(STATISTICS), len(networks), given.seeds), np.nan),
    )
    for seed in range(given.seeds):
        for row, network in enumerate(networks):
            key = fingerprint(family.space.key_of(network), seed, evaluation.protocol)
            found = journal.once(key, lambda n=network, s=seed: trained(family, evaluation, n, 1000 + s, judge))
            values[:, row, seed] = [found[name] for name in STATISTICS]
            print(f"seed {seed}, network {row}: {found['distance']:.2f}", file=sys.stderr, flush=True)
    rows = []
    for name, table in zip(STATISTICS, values, strict=True):
        spread, goes = noise(table), float(np.corrcoef(table.mean(axis=1), values[0].mean(axis=1))[0, 1])
        rows.append([name, float(table.mean()), spread.common_seeds, spread.networks, spread.ratio, goes])
    columns = ["statistic", "mean", "noise", "spread", "noise / spread", "correlation with the distance"]
    body = {
        "benchmark": "seed_noise",
        "images": given.images,
        "networks": len(networks),
        "seeds": given.seeds,
        "rows": rows,
    }
    report(columns, rows, body)


if __name__ == "__main__":
    main()
