"""What is on a Pareto front."""

from __future__ import annotations

from nni_diffnas.api.pareto import pareto_front


def test_the_front_holds_what_nothing_beats() -> None:
    points = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.0, 2.5), (4.0, 1.0)]
    assert pareto_front(points) == [1, 2, 0]


def test_equals_are_on_the_front_together() -> None:
    assert pareto_front([(1.0, 2.0), (1.0, 2.0), (1.0, 3.0)]) == [0, 1]


def test_one_number_that_is_least_is_enough() -> None:
    assert pareto_front([(1, 1, 5), (2, 2, 2), (1, 1, 6), (2, 2, 3)]) == [0, 1]


def test_the_front_of_nothing_is_empty() -> None:
    assert pareto_front([]) == []
