"""A search planned from images, a budget and a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nni_diffnas.api.errors import DataError, DiffNASError, JobError
from nni_diffnas.planning.plan import FEWEST_IMAGES, plan_search
from nni_diffnas.planning.sizes import FEWEST, SHORTEST
from nni_diffnas.planning.timing import MOST_WORKERS, Machine

TINY = {"trials": 7, "images_per_trial": 640}


def saved(folder: Path, count: int = 200, side: int = 4, classes: int = 0) -> str:
    """Noisy waves of grey in an ``.npz``."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, side, side)).astype(np.uint8)
    labels = {"labels": np.arange(count) % classes} if classes else {}
    np.savez(folder / "images.npz", images=pixels, **labels)
    return str(folder / "images.npz")


def test_job_and_options_follow_from_images_and_budget(tmp_path: Path) -> None:
    plan = plan_search(saved(tmp_path), 0.5, 1.0, **TINY, seed=3)
    job = plan.validated
    assert job.space.options == {"preset": "pixels8", "sample_size": 4, "in_channels": 1}
    assert job.make_budget().windows["macs"].max == plan.default_macs // 2
    assert job.evaluator.options["extractor"] == "random", "there are no classes to tell apart"
    assert job.evaluator.options["training"]["images"] == 640
    assert job.seed == 3
    assert (plan.sizes.trials, plan.strategy) == (7, "DiffusionGuided")
    assert plan.options == {"unguided": 4, "halving": 3}
    labelled = plan_search(saved(tmp_path, classes=2), 1, 1.0, strategy="RegularizedEvolution", **TINY)
    assert "extractor" not in labelled.job["evaluator"]
    assert labelled.options["population"] >= labelled.options["sample"] >= 2


@pytest.mark.slow
def test_number_and_length_of_the_trials_follow_from_the_time(tmp_path: Path) -> None:
    images = saved(tmp_path)
    plan = plan_search(images, "0.5", 1e8)
    assert plan.sizes.trials > FEWEST
    assert plan.sizes.images > 4 * SHORTEST
    assert 0.5e8 < plan.sizes.seconds <= 1e8
    assert plan.validated.evaluator.options["training"]["images"] == plan.sizes.images
    with pytest.raises(JobError, match=r"0 s are too short for \d+ trials of 5,000 images.* which take \d+m on this"):
        plan_search(images, "0.5", 0.1)


def test_a_latency_bounds_latency(tmp_path: Path) -> None:
    plan = plan_search(saved(tmp_path), "200ms", 1.0, **TINY)
    assert plan.job["budget"] == {"latency_ms": {"max": 200.0}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": 1.5}, r"budget is 1\.5: give a part of the default network's MACs, above 0 and up to 1"),
        ({"budget": "0"}, "budget is '0': give"),
        ({"budget": "half"}, "budget is 'half': give"),
        (
            {"budget": 0.001},
            r"budget is 0\.001, and the cheapest network for these images needs 0\.0\d+ of the default",
        ),
        ({"budget": "0.0001ms"}, r"budget is '0\.0001ms', and the cheapest network for these images needs [\d.]+ ms"),
        ({"strategy": "BlockwiseLocalSearch"}, "shrinks a trained pipeline: use 'nni-diffnas shrink'"),
        ({"strategy": "Luck"}, "No installed package offers 'Luck'"),
        ({"images": "nowhere"}, "neither a file or folder"),
        ({"preset": "pixels9"}, "Unknown UNet preset 'pixels9'"),
    ],
)
def test_what_cannot_be_searched_is_a_sentence(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    known: dict[str, Any] = {"images": saved(tmp_path), "budget": 0.5, "seconds": 1.0, **TINY}
    with pytest.raises(DiffNASError, match=said):
        plan_search(**{**known, **given})


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"holds 20 images: give at least {FEWEST_IMAGES}"):
        plan_search(saved(tmp_path, count=20), 0.5, 1.0, **TINY)


def test_a_machine_is_used_whole() -> None:
    here = Machine.here()
    assert 1 <= here.workers <= MOST_WORKERS
    assert here.threads >= 1
