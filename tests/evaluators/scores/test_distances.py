"""The distance agrees with torch-fidelity's own run and with a distance worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nni_diffnas.api.errors import DataError, TrialFailure
from nni_diffnas.evaluators.images.image_set import images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.evaluators.scores.distances import (
    Statistics,
    extrapolate,
    frechet_distance,
    kernel_distance,
    standard_error,
    statistics,
)
from nni_diffnas.evaluators.scores.features import labels_extractor, random_extractor
from nni_diffnas.evaluators.scores.fidelity import extract, inception_extractor, inception_state, register_extractor

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def test_gaussians_by_hand() -> None:
    # Diagonal covariances: (1-4)^2 + (2-0)^2 + (sqrt(4)-sqrt(9))^2 + (sqrt(1)-sqrt(16))^2 = 9 + 4 + 1 + 9.
    one = Statistics(np.array([1.0, 2.0]), np.diag([4.0, 1.0]), 10)
    other = Statistics(np.array([4.0, 0.0]), np.diag([9.0, 16.0]), 10)
    assert frechet_distance(one, other) == pytest.approx(23.0, rel=1e-12)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-9)


def test_the_extrapolation_is_unbiased_and_the_standard_error_is_the_spread() -> None:
    """Features of a known Gaussian, whose distance for infinitely many images is known."""
    rng, size = np.random.default_rng(0), 16
    root = rng.normal(size=(size, size)) * np.linspace(0.1, 1.5, size)
    shift = 0.3 * rng.normal(size=size)
    reference = Statistics(np.zeros(size), root @ root.T + np.eye(size), 10**9)
    true = frechet_distance(Statistics(shift, root @ root.T, 10**9), reference)
    draws = [(rng.normal(size=(400, size)) @ root.T + shift).astype(np.float32) for _ in range(150)]
    plain = np.array([frechet_distance(statistics(draw), reference) for draw in draws])
    beyond = np.array([extrapolate(draw, reference) for draw in draws], dtype=np.float64)
    errors = [standard_error(draw, reference) for draw in draws]
    assert plain.mean() - true > 10 * plain.std() / math.sqrt(150), "the plain distance should be biased here"
    assert abs(beyond.mean() - true) < 0.2 * (plain.mean() - true)
    assert 0.9 * plain.std(ddof=1) < np.mean(errors) < 1.4 * plain.std(ddof=1)
    assert np.mean(errors) == pytest.approx(beyond.std(ddof=1), rel=0.25)
    assert extrapolate(draws[0][:80], reference) is None


def test_more_features_than_images() -> None:
    features = np.random.default_rng(0).normal(size=(20, 40)).astype(np.float32)
    reference = Statistics(np.zeros(40), np.eye(40), 1000)
    assert math.isfinite(standard_error(features, reference))
    assert frechet_distance(statistics(features), reference) > 0


def test_statistics_are_float64_and_round_trip(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(1000.0, 0.01, (50, 3)).astype(np.float32)
    result = statistics(features)
    assert result.mean.dtype == result.covariance.dtype == np.float64
    assert np.allclose(result.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12)
    result.save(tmp_path / "s.npz")
    loaded = Statistics.load(tmp_path / "s.npz")
    assert np.array_equal(loaded.covariance, result.covariance)
    assert loaded.count == 50


def test_features_that_are_no_features() -> None:
    with pytest.raises(DataError, match="two images"):
        statistics(np.zeros((1, 3), np.float32))
    with pytest.raises(TrialFailure, match="not finite"):
        statistics(np.full((3, 3), math.nan, np.float32))


def test_agreement_with_a_run_of_torch_fidelity(tmp_path: Path) -> None:
    import torch_fidelity

    digits = images(DataSettings(source="digits"))
    parts = [digits.pixels[:300], 255 - digits.pixels[900:1200]]
    extractor = random_extractor(digits)
    for index, part in enumerate(parts):
        (tmp_path / str(index)).mkdir()
        for number, image in enumerate(part):
            Image.fromarray(image[0]).save(tmp_path / str(index) / f"{number:04}.png")
    register_extractor(extractor)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "0"), input2=str(tmp_path / "1"), fid=True, kid=True, cuda=False, verbose=False,
        kid_subsets=20, kid_subset_size=300, rng_seed=0, save_cpu_ram=True, cache=False,
        feature_extractor=extractor.name, feature_extractor_weights_path=str(extractor.weights),
    )  # fmt: skip
    features = [extract(extractor, iter([part[:200], part[200:]])) for part in parts]
    ours = frechet_distance(statistics(features[0]), statistics(features[1]))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    kernel = kernel_distance(features[0], features[1])
    assert kernel == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)


def test_the_labels_network_learns_and_is_kept() -> None:
    digits = images(DataSettings(source="digits"))
    extractor = labels_extractor(digits, passes=8)
    assert extractor.accuracy > 0.9
    assert extractor.weights is not None
    changed = extractor.weights.stat().st_mtime_ns
    assert labels_extractor(digits, passes=8) == extractor
    assert extractor.weights.stat().st_mtime_ns == changed
    assert labels_extractor(digits, passes=7).name != extractor.name


def test_labels_need_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8))
    with pytest.raises(DataError, match="'labels' learns from labels"):
        labels_extractor(images(DataSettings(source=str(tmp_path / "x.npz"))))


def test_random_features_follow_their_seed() -> None:
    digits = images(DataSettings(source="digits"))
    assert random_extractor(digits, 1) == random_extractor(digits, 1)
    assert random_extractor(digits, 1).name != random_extractor(digits, 2).name


def test_inception_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a file"):
        inception_extractor("768", tmp_path / "none.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth.*cannot be used"):
        extract(inception_extractor("768", tmp_path / "w.pth"), iter([np.zeros((2, 3, 8, 8), np.uint8)]))
    with pytest.raises(DataError, match="Inception weights are"):
        inception_state({"a": np.zeros(2, np.float32)})


@pytest.mark.skipif(not (SHARED / "inception_768.npz").exists(), reason="shared/data/inception_768.npz is missing")
def test_inception_768_from_npz() -> None:
    extractor = inception_extractor("768", SHARED / "inception_768.npz")
    assert (extractor.name, extractor.layer) == ("inception-768", "768")
    features = extract(extractor, iter([np.random.default_rng(0).integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)]))
    assert features.shape == (2, 768)
    assert np.isfinite(features).all()
    assert features.std() > 0.01
    with pytest.raises(DataError, match="'inception-768'"):
        inception_extractor("2048", SHARED / "inception_768.npz")
