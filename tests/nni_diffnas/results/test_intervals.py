"""Intervals against worked values, and how often the sequential rule errs, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from nni_diffnas.results.intervals import LOOKS, Contrast, Interval, contrast, level_of, log_ratio


def test_unpaired_difference_is_welch_s() -> None:
    # Means 2 and 4, variances 1 and 4, 3 seeds each: 25 / 9 / (1 / 18 + 16 / 18) = 50 / 17 degrees of freedom.
    found = contrast([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).difference
    half = t.ppf(0.975, 50 / 17) * math.sqrt(5 / 3)
    assert (found.value, found.low, found.high) == pytest.approx((-2, -2 - half, -2 + half))


def test_unpaired_ratio_is_welch_s_on_the_log_scale() -> None:
    # Relative deviations 1 / 2 and 2 / 4 of the means are equal: 4 degrees of freedom.
    found = contrast([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]).ratio
    assert found is not None
    half = t.ppf(0.975, 4) * math.sqrt((1 / 4 + 1 / 4) / 3)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 * math.exp(-half), 0.5 * math.exp(half)))
    wider = contrast([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 0.99).ratio
    assert wider is not None
    assert wider.low < found.low


def test_paired_difference_is_student_s() -> None:
    # Differences -1, -2, -3: mean -2, deviation 1, t(0.975, 2) = 4.302653.
    found = contrast([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], paired=True)
    assert found.difference.low == pytest.approx(-2 - 4.302653 / math.sqrt(3))
    assert found.difference.high == pytest.approx(-2 + 4.302653 / math.sqrt(3))
    assert found.ratio is not None
    assert found.ratio.high == pytest.approx(0.5), "each is half of the other: the ratio does not scatter"


def test_what_has_no_ratio_or_no_scatter() -> None:
    assert contrast([-1.0, 1.0, -1.0], [2.0, 3.0, 4.0]).ratio is None
    same = contrast([1.0, 1.0], [2.0, 2.0])
    assert same.difference == Interval(-1, -1, -1)
    assert same.ratio == Interval(0.5, 0.5, 0.5)
    single = contrast([1.0], [2.0])
    assert single.difference == Interval(-1, -math.inf, math.inf)
    assert single.sign == 0


def test_the_sign_is_that_of_the_ratio_where_there_is_one() -> None:
    below, around = Interval(0.5, 0.4, 0.6), Interval(0.5, 0.2, 1.2)
    assert Contrast(Interval(-2, -4, 1), below).sign == -1
    assert Contrast(Interval(-2, -3, -1), around).sign == 0
    assert Contrast(Interval(2, 1, 3), None).sign == 1


def test_levels_share_the_error_of_five_percent() -> None:
    assert level_of(1) == pytest.approx(0.95)
    assert level_of(4) == pytest.approx(0.9875)
    assert level_of(4, networks=2) == pytest.approx(0.99375)


@pytest.mark.parametrize("scatter", [(0.05, 0.05), (0.16, 0.16), (0.16, 0.05), (0.16, 0.01)])
@pytest.mark.parametrize("skewed", [False, True])
def test_networks_that_are_alike_are_told_apart_in_five_percent_at_most(
    scatter: tuple[float, float], skewed: bool
) -> None:
    rng, repeats = np.random.default_rng(0), 20_000
    a, b = (_scores(rng, repeats, each, skewed) for each in scatter)
    told = np.zeros(repeats, bool)
    first = 0.0
    for look in LOOKS:
        _, low, high = log_ratio(a[:, :look], b[:, :look], level_of(len(LOOKS)))
        told |= (low > 0) | (high < 0)
        first = first or float(told.mean())
    assert told.mean() <= 0.05
    assert told.mean() >= 0.02, "nor is so much given away that nothing is found"
    assert first < 0.05 / len(LOOKS) * 1.6


def test_a_gain_of_fifteen_percent_is_mostly_found_before_the_limit() -> None:
    rng, repeats = np.random.default_rng(0), 4_000
    a, b = 0.85 * _scores(rng, repeats, 0.1, False), _scores(rng, repeats, 0.1, False)
    told = np.zeros(repeats, bool)
    for look in LOOKS:
        _, _, high = log_ratio(a[:, :look], b[:, :look], level_of(len(LOOKS)))
        told |= high < 0
    assert told.mean() > 0.8


def _scores(rng: np.random.Generator, repeats: int, scatter: float, skewed: bool) -> np.ndarray:
    """Scores of mean 1 ``[repeats, most seeds]`` with this coefficient of variation, normal or log-normal."""
    noise = rng.standard_normal((repeats, LOOKS[-1]))
    if not skewed:
        return 1 + scatter * noise
    deviation = math.sqrt(math.log1p(scatter**2))
    return np.exp(deviation * noise - deviation**2 / 2)
