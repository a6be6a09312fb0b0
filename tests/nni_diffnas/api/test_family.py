"""Sampling within a budget, on a toy family whose cost is a sum of choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nni_diffnas.api.cost import Budget, Cost, Window
from nni_diffnas.api.errors import BudgetError
from nni_diffnas.api.family import Family, choice_costs, nearest_to_budget, sample_within
from nni_diffnas.api.space import Architecture, Space, Value

if TYPE_CHECKING:
    import torch


class Toy(Family):
    """Cost: the sum of its integers; its networks are never built."""

    def __init__(self, space: Space | None = None) -> None:
        self._space = space or Space(dict.fromkeys("abc", (1, 2, 3, 4)))

    @property
    def space(self) -> Space:
        return self._space

    @property
    def default(self) -> Architecture:
        return self.space.validate({label: values[0] for label, values in self.space.choices.items()})

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        raise NotImplementedError

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        total = sum(int(value) for value in self.space.validate(architecture).values())
        return Cost(macs=total, params=100 * total)


def test_samples_within_a_budget_are_uniform() -> None:
    family, budget = Toy(), Budget({"macs": Window(5, 6)})
    rng = np.random.default_rng(0)
    drawn = Counter(family.space.key_of(sample_within(family, budget, rng)) for _ in range(6400))
    # 16 of the 64 architectures have a sum of 5 or 6; chi-squared with 15 degrees of freedom, 99.9 % quantile 37.7
    assert len(drawn) == 6 + 10
    assert sum((count - 400) ** 2 / 400 for count in drawn.values()) < 37.7


def test_without_a_budget_every_architecture_is_drawn() -> None:
    family, rng = Toy(), np.random.default_rng(0)
    assert len({family.space.key_of(sample_within(family, Budget(), rng)) for _ in range(1000)}) == 64


def test_a_window_too_small_to_hit_is_walked_to() -> None:
    family = Toy(Space({f"label{i}": tuple(range(1, 9)) for i in range(12)}))
    budget = Budget({"macs": Window(max=12)})  # one architecture of 8 ** 12
    drawn = sample_within(family, budget, np.random.default_rng(0), tries=20)
    assert family.cost(drawn).macs == 12


def test_the_walk_ends_at_the_edge_of_the_window_from_either_side() -> None:
    family, rng = Toy(), np.random.default_rng(0)
    low: Architecture = dict.fromkeys("abc", 1)
    high: Architecture = dict.fromkeys("abc", 4)
    up = nearest_to_budget(family, Budget({"macs": Window(min=9)}), rng, low)
    down = nearest_to_budget(family, Budget({"params": Window(max=500)}), rng, high)
    assert family.cost(up).macs >= 9
    assert family.cost(down).params <= 500
    inside: Architecture = {"a": 4, "b": 1, "c": 2}
    assert nearest_to_budget(family, Budget({"macs": Window(7, 7)}), rng, inside) == inside


def test_the_walk_stops_where_there_is_nothing_to_change() -> None:
    family = Toy(Space({"a": (5,)}))
    only = nearest_to_budget(family, Budget({"macs": Window(max=1)}), np.random.default_rng(0))
    assert only == {"a": 5}


def test_an_impossible_budget_states_the_nearest_cost() -> None:
    budget = Budget({"macs": Window(max=2), "params": Window(max=1000)})
    with pytest.raises(
        BudgetError, match=r"macs 3 is 50\.0% above the window \[-inf, 2\] for the nearest one"
    ) as raised:
        sample_within(Toy(), budget, np.random.default_rng(0), tries=50)
    assert "widen the budget or the space" in str(raised.value)
    assert "params" not in str(raised.value)


def test_the_same_seed_draws_the_same() -> None:
    family, budget = Toy(), Budget({"macs": Window(5, 6)})
    first, second = ([sample_within(family, budget, np.random.default_rng(3)) for _ in range(2)] for _ in range(2))
    assert first == second


def test_the_cost_table_has_one_changed_label_per_entry() -> None:
    table = choice_costs(Toy())
    assert {label: [cost.macs for cost in costs.values()] for label, costs in table.items()} == {
        label: [3, 4, 5, 6] for label in "abc"
    }
    assert choice_costs(Toy(), dict.fromkeys("abc", 4))["b"][1] == Cost(9, 900)


def test_the_cost_table_prices_labels_that_the_base_lacks() -> None:
    space = Space({"a": (0, 1), "b": (10, 20)}, conditions={"b": (("a", (1,)),)})
    table = choice_costs(Toy(space))
    assert [cost.macs for cost in table["a"].values()] == [0, 11]
    assert [cost.macs for cost in table["b"].values()] == [0, 0]


def test_a_label_describes_itself() -> None:
    assert Toy().describe("a") == "a"


class Lone(Toy):
    """Its default alone costs nothing; every single change of it leads away from that by more than the one before."""

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        changed = sum(value != 1 for value in self.space.validate(architecture).values())
        return Cost(macs=0 if not changed else 1000 - changed, params=1)


def test_a_budget_that_only_the_default_meets_is_met() -> None:
    family, budget = Lone(Space({f"label{i}": tuple(range(1, 5)) for i in range(8)})), Budget({"macs": Window(max=5)})
    for seed in range(5):
        drawn = sample_within(family, budget, np.random.default_rng(seed), tries=20)
        assert drawn == family.default


def test_what_is_not_accepted_is_not_drawn() -> None:
    family, budget = Toy(), Budget({"macs": Window(max=3)})
    with pytest.raises(BudgetError, match="known"):
        sample_within(family, budget, np.random.default_rng(0), tries=200, accept=lambda drawn: False)
    rng = np.random.default_rng(0)
    drawn = sample_within(family, Budget({"macs": Window(max=4)}), rng, accept=lambda drawn: drawn != family.default)
    assert family.cost(drawn).macs == 4
