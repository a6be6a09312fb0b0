"""The numbers of a report against brute force and against known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nni_diffnas.api.trial import Objective, Origin, Trial
from nni_diffnas.report.statistics import best_so_far, expected_best, fence

MINIMIZE, MAXIMIZE = Objective("score", "minimize"), Objective("score", "maximize")


def test_expected_best_is_that_of_all_subsets() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.0]
    found = expected_best(values, MINIMIZE)
    for k in range(1, len(values) + 1):
        outcomes = [min(subset) for subset in itertools.combinations(values, k)]
        assert found.mean[k - 1] == pytest.approx(np.mean(outcomes))
        low, high = np.quantile(outcomes, (0.1, 0.9), method="inverted_cdf")
        assert (found.low[k - 1], found.high[k - 1]) == pytest.approx((low, high))


def test_expected_best_of_what_is_maximised_is_the_mirror_image() -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.0]
    found, mirrored = expected_best(values, MAXIMIZE), expected_best([-value for value in values], MINIMIZE)
    assert found.mean == pytest.approx(-mirrored.mean)
    assert found.low == pytest.approx(-mirrored.high)
    assert found.mean[-1] == 9.0


def test_best_so_far_counts_failures_and_starts_without_a_score() -> None:
    listed = [
        Trial("a", "e", {}, Origin("s", "random")).failed("no"),
        Trial("b", "e", {}, Origin("s", "random")).succeeded({"score": 5.0}),
        Trial("c", "e", {}, Origin("s", "random")).succeeded({"score": float("nan")}),
        Trial("d", "e", {}, Origin("s", "random")).succeeded({"score": 2.0}),
        Trial("e", "e", {}, Origin("s", "random")).succeeded({"score": 3.0}),
    ]
    assert np.isnan(best_so_far(listed, MINIMIZE)[0])
    assert best_so_far(listed, MINIMIZE)[1:].tolist() == [5.0, 5.0, 2.0, 2.0]
    assert best_so_far(listed, MAXIMIZE)[1:].tolist() == [5.0, 5.0, 5.0, 5.0]


def test_the_fence_lies_on_the_bad_side() -> None:
    assert fence([1.0, 2.0, 3.0, 4.0, 100.0], MINIMIZE) == pytest.approx(7.0)
    assert fence([1.0, 2.0, 3.0, 4.0, 100.0], MAXIMIZE) == pytest.approx(-1.0)
