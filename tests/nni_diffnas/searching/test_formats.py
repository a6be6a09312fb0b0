"""Numbers written for people."""

from __future__ import annotations

import math

import pytest

from nni_diffnas.searching.formats import format_bytes, format_count


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"), (999, "999"), (999.6, "1 k"), (1234, "1.23 k"), (999_499, "999 k"), (999_600, "1 M"),
        (999_999_999, "1 G"), (402_000_000_000, "402 G"), (999_700_000_000, "1 T"), (2_980_000_000_000, "2.98 T"),
        (-999_600, "-1 M"),
    ],
)  # fmt: skip
def test_a_count_has_three_digits_and_a_unit(value: float, written: str) -> None:
    assert format_count(value) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 kB"), (12, "1 kB"), (499_000, "499 kB"), (4e6, "4 MB"), (2.5e9, "2.5 GB"), (math.nan, "an unknown amount")],
)
def test_what_is_small_is_not_nothing(count: float, written: str) -> None:
    assert format_bytes(count) == written
