"""The default scaled to a budget, as a person would do it in a minute."""

from __future__ import annotations

from typing import Any

import pytest

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.latency import LatencyTable, TimedFamily
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.searching.narrowing import narrow_family


def macs(low: float | None, high: float | None) -> Budget:
    return Budget({"macs": Window(low, high)})


def sizes(family: UNetFamily, architecture: Architecture) -> tuple[Any, ...]:
    config = family.config(architecture)
    return config.widths, config.depths, config.inner_width


def test_at_half_the_macs_of_pixels16_it_is_what_the_study_calls_by_hand() -> None:
    family = UNetFamily("pixels16")
    found = {name: sizes(family, a) for name, a in family.scaled(macs(11.8e6, 13.2e6)).items()}
    assert found == {
        "narrower": ((8, 24, 24), (2, 2, 2), 1.0),
        "shallower and narrower": ((16, 24, 24), (1, 1, 1), 1.0),
        "thinner inside and narrower": ((16, 24, 24), (2, 2, 2), 0.5),
    }


def test_where_neither_shallower_nor_thinner_is_enough_both_are_tried() -> None:
    family = UNetFamily("digits")
    found = {name: sizes(family, a) for name, a in family.scaled(macs(None, 2.9e6)).items()}
    assert found["shallower and thinner inside"] == ((16, 32), (1, 1), 0.5)


@pytest.mark.parametrize("preset", ["digits", "pixels16", "mnist", "cifar10", "pixels64", "latents"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 1.5])
def test_all_meet_the_budget_and_are_of_the_space(preset: str, share: float) -> None:
    family = UNetFamily(preset)
    default = family.cost(family.default).macs
    budget = macs(None, share * default)
    found = family.scaled(budget)
    assert 2 <= len(found) <= 4
    assert found == family.scaled(budget), "deterministic"
    assert len({family.space.key_of(a) for a in found.values()}) == len(found)
    for name, architecture in found.items():
        assert family.space.validate(architecture) == architecture != family.default
        assert budget.admits(family.cost(architecture)), name
        assert (family.cost(architecture).macs > default) == (share > 1)


def test_they_are_as_large_as_the_bound_allows() -> None:
    family = UNetFamily("cifar10")
    default = family.cost(family.default).macs
    found = family.scaled(macs(None, 0.5 * default))
    assert all(family.cost(a).macs > 0.4 * default for a in found.values())
    larger = family.scaled(macs(2 * default, None))
    assert all(2 * default <= family.cost(a).macs < 2.5 * default for a in larger.values())


def test_without_a_budget_or_out_of_reach_there_is_nothing_to_do() -> None:
    family = UNetFamily("digits")
    assert family.scaled(Budget()) == {}
    assert family.scaled(macs(None, 10)) == {}


def test_a_narrowed_and_a_timed_family_scale_within_what_they_are() -> None:
    family = UNetFamily("digits", choices="stock", width_factors=[0.5, 1.0], depths=[1, 2])
    half = macs(None, 0.5 * family.cost(family.default).macs)
    fixed = {**family.space.to_nni(), "level0.width": {"_type": "choice", "_value": [16]}}
    found = narrow_family(family, fixed).scaled(half)
    assert found
    assert all(architecture["level0.width"] == 16 for architecture in found.values())
    timed: Family = TimedFamily(family, LatencyTable(warmup=1, repeats=3))
    latency = timed.cost(timed.default).latency_ms
    assert latency is not None
    budget = Budget({"latency_ms": Window(max=0.7 * latency), "params": Window(max=200_000)})
    found = timed.scaled(budget)
    assert found
    assert all(budget.admits(timed.cost(architecture)) for architecture in found.values())
