"""Costs and budgets: windows, their distances and sentences, and MACs counted on real modules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nni_diffnas.api.cost import Budget, Cost, Window, count_cost
from nni_diffnas.api.errors import BudgetError

BOUNDS = st.none() | st.floats(1, 1e12)


def test_costs_add_up_and_latency_only_where_both_know_it() -> None:
    assert Cost(1, 2, 3.0) + Cost(10, 20, 30.0) == Cost(11, 22, 33.0)
    assert Cost(1, 2, 3.0) + Cost(10, 20) == Cost(11, 22)
    assert Cost(1, 2).as_metrics() == {"macs": 1, "params": 2}
    assert Cost(1, 2, 0.0).as_metrics() == {"macs": 1, "params": 2, "latency_ms": 0.0}


@given(BOUNDS, BOUNDS, st.floats(0, 1e12))
def test_distance_is_zero_exactly_inside(low: float | None, high: float | None, value: float) -> None:
    distance = Window(low, high).distance(value)
    above = high is not None and value > high
    below = low is not None and value < low
    if above:
        assert distance > 0
    elif below:
        assert distance < 0
    else:
        assert distance == 0


def test_distance_is_relative_to_the_violated_bound() -> None:
    window = Window(100, 200)
    assert [window.distance(value) for value in (50, 100, 150, 200, 300)] == [-0.5, 0, 0, 0, 0.5]
    assert Window(max=0).distance(0) == 0
    assert Window(max=0).distance(1) > 0


def test_a_failed_measurement_is_in_no_window() -> None:
    assert not Budget({"latency_ms": Window(max=5)}).admits(Cost(1, 1, math.nan))
    assert not Budget({"latency_ms": Window(min=5)}).admits(Cost(1, 1, math.nan))


def test_a_budget_tells_each_violation() -> None:
    budget = Budget({"macs": Window(100, 200), "params": Window(max=10)})
    assert budget.violations(Cost(300, 5)) == {"macs": 0.5}
    assert budget.violations(Cost(50, 15)) == {"macs": -0.5, "params": 0.5}
    assert budget.admits(Cost(200, 10))
    assert not budget.admits(Cost(200, 11))
    assert Budget().admits(Cost(10**15, 10**12))


def test_explain_is_a_sentence_part_for_people() -> None:
    budget = Budget({"macs": Window(2e9, 3e9), "params": Window(min=10_000_000)})
    assert budget.explain(Cost(4_500_000_000, 5_000_000)) == (
        "macs 4.5e+09 is 50.0% above the window [2e+09, 3e+09]; params 5e+06 is 50.0% below the window [1e+07, inf]"
    )
    assert budget.explain(Cost(2_500_000_000, 20_000_000)) == ""
    assert str(Window(max=5)) == "[-inf, 5]"


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        ({"flops": Window(1, 2)}, "'flops': only macs, params, latency_ms"),
        ({"macs": Window(2, 1)}, r"macs is the empty window \[2, 1\]: swap"),
        ({"macs": Window(max=math.nan)}, r"macs is \[-inf, nan\], which bounds nothing: give"),
        ({"params": Window()}, r"params is \[-inf, inf\], which bounds nothing: give"),
    ],
)
def test_malformed_budgets_are_refused(windows: dict[str, Window], sentence: str) -> None:
    with pytest.raises(BudgetError, match=sentence):
        Budget(windows)


def test_a_bounded_latency_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BudgetError, match="bounds latency_ms, but this search space cannot say it"):
        Budget({"latency_ms": Window(max=5)}).admits(Cost(1, 1))


def test_one_multiply_accumulate_counts_once() -> None:
    import torch

    convolution = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert count_cost(convolution, torch.zeros(1, 3, 16, 16)) == Cost(16 * 16 * 8 * 3 * 9, 8 * 3 * 9)
    linear = torch.nn.Linear(10, 20)
    assert count_cost(linear, torch.zeros(1, 10)) == Cost(200, 220)


def test_attention_products_count_and_activations_do_not() -> None:
    import torch

    class Attention(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.silu(torch.nn.functional.scaled_dot_product_attention(x, x, x))

    tokens, width = 16, 8
    assert count_cost(Attention(), torch.zeros(1, 1, tokens, width)) == Cost(2 * tokens * tokens * width, 0)


def test_meta_modules_cost_the_same() -> None:
    import torch

    def build() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.GroupNorm(2, 8), torch.nn.SiLU())

    real = count_cost(build(), torch.zeros(1, 3, 17, 17))
    with torch.device("meta"):
        assert count_cost(build(), torch.zeros(1, 3, 17, 17)) == real
    assert real.macs == 8 * 8 * 8 * 27
    assert real.params == 8 * 27 + 8 + 16


@given(
    st.lists(st.floats(allow_infinity=False), min_size=1),
    st.none() | st.floats(-10, 10),
    st.none() | st.floats(-10, 10),
)
def test_a_window_contains_what_is_no_distance_away(values: list[float], low: float | None, high: float | None) -> None:
    window = Window(low, high)
    assert window.contains(np.array(values)).tolist() == [window.distance(value) == 0 for value in values]
