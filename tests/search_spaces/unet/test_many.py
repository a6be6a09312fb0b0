"""Prices of many networks at once are the prices of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.family import sample_within
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.narrowing import narrow_family


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("digits", {"num_classes": 10, "scale_shift": False}),
        ("pixels16", {}),
        ("mnist", {"choices": "stock"}),
        ("cifar10", {}),
        ("latents", {"blocks": [["convnext"], ["gated"], ["residual"], ["gated", "convnext"]], "skips": ["added"]}),
    ],
)
def test_many_are_priced_as_one(preset: str, options: dict[str, Any]) -> None:
    family = UNetFamily(preset, **options)
    rows = family.space.draw(150, np.random.default_rng(3))
    costs = family.costs(family.space, rows)
    one_by_one = [family.cost(family.space.at(row)) for row in rows]
    assert costs["macs"].tolist() == [cost.macs for cost in one_by_one]
    assert costs["params"].tolist() == [cost.params for cost in one_by_one]


def test_a_narrowed_space_is_priced_by_its_own_values() -> None:
    family = UNetFamily("digits")
    narrowed = narrow_family(family, {**family.space.to_nni(), "level0.width": {"_type": "choice", "_value": [24, 32]}})
    rows = narrowed.space.draw(40, np.random.default_rng(0))
    macs = narrowed.costs(narrowed.space, rows)["macs"]
    assert macs.tolist() == [family.cost(narrowed.space.at(row)).macs for row in rows]


def test_windows_are_met_whether_their_costs_are_known_together_or_one_by_one() -> None:
    family = UNetFamily("pixels16")
    budget = Budget({"macs": Window(11.8e6, 13.2e6), "params": Window(max=150_000)})

    class Slow(UNetFamily):
        costs = UNetFamily.__mro__[1].costs

    fast = sample_within(family, budget, np.random.default_rng(0))
    assert budget.admits(family.cost(fast))
    assert sample_within(Slow("pixels16"), budget, np.random.default_rng(0)) == fast
