"""How many trials of which length fit into a time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.trial import BY_HAND, REFERENCE, Suggestion
from nni_diffnas.planning.sizes import FEWEST, FOR_EACH_WORKER, SHORTEST, Sizes, TrialPace, sizes_for
from nni_diffnas.searching.halving import Halving

PACE = TrialPace(image=0.001, rest=10.0, workers=2)
THIRD = Halving(3)
FIRST = [Suggestion({}, REFERENCE), *[Suggestion({}, BY_HAND)] * 4]


def test_more_time_goes_to_more_and_longer_trials_alike() -> None:
    short, long = (sizes_for(PACE, hours * 3600, 8, FIRST, THIRD) for hours in (4, 16))
    assert long.trials / short.trials == pytest.approx(2, rel=0.1)
    assert long.images / short.images == pytest.approx(2, rel=0.15)


def test_a_time_that_is_too_short_names_the_shortest_which_then_does() -> None:
    slow = TrialPace(image=0.02, rest=100.0, workers=2)
    with pytest.raises(JobError, match=r"60 s are too short for 12 trials of 10,000 images, 2 at a time") as refused:
        sizes_for(slow, 60, 8, FIRST, THIRD)
    minutes = int(str(refused.value).split("which take ")[1].split("m")[0])
    found = sizes_for(slow, 60 * minutes, 8, FIRST, THIRD)
    assert FEWEST <= found.trials < 1.2 * FEWEST
    assert SHORTEST * 8 <= found.images < 1.2 * SHORTEST * 8


@settings(deadline=None)
@given(
    st.floats(1e-5, 10), st.floats(0.1, 1e3), st.integers(1, 16), st.floats(10, 1e6),
    st.integers(4, 128), st.integers(1, 5), st.sampled_from([None, 2.0, 3.0]),
)  # fmt: skip
def test_whatever_fits_fits(
    image: float, rest: float, workers: int, seconds: float, side: int, first: int, eta: float | None
) -> None:
    pace, halving = TrialPace(image, rest, workers), Halving.of(eta)
    try:
        found = sizes_for(pace, seconds, side, FIRST[:first], halving)
    except JobError:
        return
    assert found.seconds <= seconds
    assert found.trials >= max(FEWEST, FOR_EACH_WORKER * workers)
    assert found.images >= SHORTEST * side


def test_what_the_user_says_stands_and_the_rest_follows() -> None:
    hour = 3600.0
    assert sizes_for(PACE, hour, 8, FIRST, THIRD, trials=30).trials == 30
    assert sizes_for(PACE, hour, 8, FIRST, THIRD, images=20_000).images == 20_000
    assert sizes_for(PACE, hour, 8, FIRST, THIRD, images=20_000).trials > sizes_for(PACE, hour, 8, FIRST, THIRD).trials
    assert sizes_for(PACE, hour, 8, FIRST, THIRD, trials=3, images=100).trials == 3


def test_sizes_are_said_in_a_line() -> None:
    assert str(Sizes(24, 30_000, 2, 6600.0)) == "24 trials of 30,000 images, 2 at a time: about 1.8 h"
    assert str(Sizes(3, 100, 1, math.nan)) == "3 trials of 100 images, 1 at a time"
