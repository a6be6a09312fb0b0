"""Scales: where values lie, and which round numbers stand at an axis."""

from __future__ import annotations

import pytest

from nni_diffnas.report.svg import LogScale, Scale


def test_equal_ratios_are_equally_far_on_a_logarithmic_scale() -> None:
    scale = LogScale(1.0, 100.0, 0.0, 200.0)
    assert [scale(value) for value in (1.0, 10.0, 100.0)] == pytest.approx([0.0, 100.0, 200.0])
    around = LogScale.around([1.0, 100.0], 0.0, 200.0)
    assert around.low < 1.0 < 100.0 < around.high
    assert around(1.0) + around(100.0) == pytest.approx(200.0)
    alone = LogScale.around([3.0], 0.0, 200.0)
    assert alone.low < 3.0 < alone.high


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0.0, 1.0, 0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (LogScale(0.9, 110.0, 0.0, 1.0), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]),
        (LogScale(3.1, 4.2, 0.0, 1.0), [3.2, 3.4, 3.6, 3.8, 4.0, 4.2]),
    ],
)
def test_an_axis_has_round_numbers(scale: Scale, expected: list[float]) -> None:
    assert scale.ticks() == pytest.approx(expected)
