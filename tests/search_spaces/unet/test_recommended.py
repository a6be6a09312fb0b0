"""The kinds of networks that are known to do well, scaled to a budget."""

from __future__ import annotations

import pytest

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.search_spaces.unet.recommended import KINDS
from nni_diffnas.searching.narrowing import narrow_family

PRESETS = ("digits", "pixels8", "pixels16", "mnist", "cifar10", "pixels64", "latents")


def at_most(share: float, family: UNetFamily) -> Budget:
    return Budget({"macs": Window(max=share * family.cost(family.default).macs)})


def test_at_half_the_macs_of_pixels16_it_is_the_best_of_the_study_of_choices() -> None:
    family = UNetFamily("pixels16")
    config = family.config(family.recommended(at_most(0.5, family))["ConvNeXt"])
    assert (config.widths, config.depths, config.blocks) == ((32, 48, 48), (1, 1, 1), ("convnext",) * 3)
    assert (config.kernels[0], config.expansion, config.resample) == (3, 3, "pool")
    assert (config.skips, config.up_depth) == ("level", "same")


def test_the_wide_one_is_as_wide_at_full_resolution_as_below() -> None:
    family = UNetFamily("pixels16")
    config = family.config(family.recommended(at_most(0.5, family))["wide ConvNeXt"])
    assert (config.widths, config.depths, config.blocks) == ((48, 40, 40), (1, 1, 1), ("convnext",) * 3)
    assert (config.expansion, config.middle) == (2, "none")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 2.0])
def test_they_meet_the_budget_and_use_most_of_it(preset: str, share: float) -> None:
    family = UNetFamily(preset)
    budget, default = at_most(share, family), family.cost(family.default)
    found = family.recommended(budget)
    assert found.keys() == KINDS.keys()
    for network in found.values():
        assert family.space.validate(network) == network
        assert budget.admits(family.cost(network))
        assert family.cost(network).macs > 0.55 * min(share, 1.0) * default.macs


def test_it_is_shallow_as_long_as_widths_can_grow() -> None:
    family = UNetFamily("mnist")
    half, whole = (family.config(family.recommended(at_most(share, family))["ConvNeXt"]) for share in (0.5, 1.0))
    assert (half.widths, half.depths) == ((64, 96, 96), (1, 1, 1))
    assert (whole.widths, whole.depths) == ((64, 96, 96), (2, 2, 2))


def test_nothing_is_recommended_without_a_budget_or_out_of_reach_or_where_the_kind_is_not_offered() -> None:
    family = UNetFamily("digits")
    assert family.recommended(Budget()) == {}
    assert family.recommended(Budget({"macs": Window(max=10)})) == {}
    assert family.recommended(Budget({"macs": Window(min=1e12)})) == {}
    stock = UNetFamily("digits", choices="stock")
    assert stock.recommended(at_most(0.5, stock)) == {}


def test_a_narrowed_family_recommends_within_what_it_is() -> None:
    family = UNetFamily("digits")
    offered = {**family.space.to_nni(), "resample": {"_type": "choice", "_value": ["convolution", "shuffle"]}}
    found = narrow_family(family, offered).recommended(at_most(0.5, family))
    assert found.keys() == KINDS.keys()
    for network in found.values():
        assert network["resample"] == "convolution"
        assert network["level0.block"] == "convnext"
