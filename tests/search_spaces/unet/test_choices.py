"""What is offered, what is refused, what version 0.1 wrote, and which choices depend on which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.space import Architecture
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.search_spaces.unet.presets import PRESETS
from nni_diffnas.search_spaces.unet.stock import stock_config
from nni_diffnas.searching.narrowing import narrow_family

OLDER: Architecture = {
    "time_embedding": 64,
    "inner_width": 1.5,
    "level0.width": 16,
    "level0.depth": 1,
    "level0.attention": False,
    "level1.width": 32,
    "level1.depth": 2,
    "level1.attention": True,
    "middle": "attention",
    "heads": 2,
}
"""As version 0.1 wrote architectures of preset ``digits``."""

OLDER_SPACE = {
    "time_embedding": [32, 64],
    "inner_width": [0.5, 1.0, 1.5],
    "level0.width": [8, 16, 24, 32],
    "level0.depth": [1, 2, 3],
    "level0.attention": [False, True],
    "level1.width": [16, 32, 48, 64],
    "level1.depth": [1, 2, 3],
    "level1.attention": [False, True],
    "middle": ["none", "residual", "attention"],
    "heads": [1, 2, 4],
}
"""The search space that it wrote for NNI."""


def test_an_architecture_of_version_0_1_is_the_same_network() -> None:
    family = UNetFamily("digits")
    today = family.space.validate(OLDER)
    assert today["level0.attention"] == "none"
    assert today["level1.attention"] == "softmax"
    assert {today[f"level{level}.block"] for level in (0, 1)} == {"residual"}
    assert (today["resample"], today["skips"]) == ("convolution", "all")
    assert "level0.kernel" not in today
    assert family.space.key_of(OLDER) == family.space.key_of(today)
    assert (family.cost(OLDER).macs, family.cost(OLDER).params) == COST_IN_0_1
    stock = UNetFamily("digits", choices="stock")
    assert set(stock.space.validate(OLDER)) == set(OLDER)
    assert stock.config(OLDER) == family.config(OLDER)


COST_IN_0_1 = (6903808, 358057)


def test_a_search_space_file_of_version_0_1_narrows_what_it_lacks_to_stock() -> None:
    family = UNetFamily("digits")
    older = {label: {"_type": "choice", "_value": values} for label, values in OLDER_SPACE.items()}
    narrowed = narrow_family(family, older)
    rng = np.random.default_rng(0)
    for _ in range(50):
        drawn = narrowed.space.sample(rng)
        assert narrowed.space.validate(drawn) == drawn
        config = family.config(drawn)
        assert set(config.blocks) == {"residual"}
        assert (config.resample, config.skips, config.up_depth, config.patch) == ("convolution", "all", "more", 1)
    assert narrowed.space.size == UNetFamily("digits", choices="stock").space.size
    assert narrowed.space.validate(narrowed.default) == narrowed.default


def test_stock_offers_what_version_0_1_offered() -> None:
    space = UNetFamily("digits", choices="stock").space
    words = {False: "none", True: "softmax"}
    assert set(space.labels) == set(OLDER_SPACE)
    for label, values in OLDER_SPACE.items():
        assert space.choices[label] == tuple(words[v] if isinstance(v, bool) else v for v in values), label
    for preset in PRESETS:
        family = UNetFamily(preset, choices="stock")
        assert (
            family.default == UNetFamily(preset).space.validate(family.default) or "level0.block" not in family.default
        )
        assert family.config(family.default) == UNetFamily(preset).config(UNetFamily(preset).default)


def test_truth_values_of_attention_in_a_job_become_words() -> None:
    family = UNetFamily("digits", attention=[[False], [False, True]], default_attention=[False, True])
    assert family.space.choices["level0.attention"] == ("none",)
    assert family.default["level1.attention"] == "softmax"


def test_a_choice_that_nothing_reads_is_absent() -> None:
    space = UNetFamily("cifar10").space
    stock = space.complete(UNetFamily("cifar10").default)
    blocks = [f"level{level}.block" for level in range(4)]
    present = space.present(stock)
    assert not {"expansion", "up_depth", "level0.kernel"} & set(present)
    assert {"inner_width", "heads"} <= set(present)
    all_convnext = {**stock, **dict.fromkeys(blocks, "convnext"), "skips": "added"}
    present = space.present(all_convnext)
    assert {"expansion", "up_depth", "level0.kernel", "level1.kernel"} <= set(present)
    assert "inner_width" not in present
    assert "inner_width" in space.present({**all_convnext, "level2.block": "gated"})
    quiet = {**stock, **{f"level{level}.attention": "none" for level in range(4)}, "middle": "residual"}
    assert "heads" not in space.present(quiet)
    assert "heads" in space.present({**quiet, "level0.attention": "linear"})


def test_kernels_fit_their_level_and_patches_are_for_larger_images() -> None:
    space = UNetFamily("pixels16").space
    assert space.choices["level0.kernel"] == (3, 5, 7)
    assert "level2.kernel" not in space.labels, "only 3 fits 4x4 pixels, and a choice of one is none"
    assert "patch" not in space.labels
    assert UNetFamily("pixels16", patch=[1, 2]).space.choices["patch"] == (1, 2)
    space = UNetFamily("cifar10").space
    assert space.choices["patch"] == (1, 2)
    assert UNetFamily("cifar10", sample_size=24).options.patch == (1,)
    assert space.choices["level1.kernel"] == (3, 5, 7)
    assert UNetFamily("cifar10", patch=[1]).space.choices["level2.kernel"] == (3, 5, 7)


def test_a_choice_of_which_stock_is_left_is_no_label_and_a_fixed_one_is() -> None:
    family = UNetFamily("digits", blocks=["residual"], resample=["pool"], skips=["all"])
    assert not {"level0.block", "level0.kernel", "expansion", "skips", "up_depth"} & set(family.space.labels)
    assert family.space.choices["resample"] == ("pool",)
    assert family.config(family.default).resample == "pool"
    fixed = UNetFamily("digits", blocks=["convnext"], expansion=[3], kernels=[[5], [3]])
    config = fixed.config(fixed.default)
    assert (config.blocks, config.kernels, config.expansion) == (("convnext",) * 2, (5, 3), 3)
    assert "inner_width" not in fixed.default


def test_stock_networks_alone_are_plain_diffusers() -> None:
    family = UNetFamily("pixels16")
    assert stock_config(family.config(family.default)) is not None
    for label, value in (("skips", "level"), ("resample", "pool"), ("level1.block", "gated")):
        changed = {**family.space.complete(family.default), label: value}
        assert stock_config(family.config(family.space.validate(changed))) is None


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_label_and_value_is_said_in_words(preset: str) -> None:
    family = UNetFamily(preset)
    for label, values in family.space.choices.items():
        said = family.describe(label)
        assert said != label
        assert "\n" not in said
        if label not in ("level0.attention", "middle", "skips"):
            assert all(not isinstance(value, str) or value in said for value in values), (label, said)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": ["residual", "transformer"]}, "blocks is 'transformer': choose among 'residual', 'gated' or"),
        ({"kernels": [9]}, "kernels is 9: choose among 3, 5 or 7"),
        ({"kernels": [[3], [7]]}, "7 for level 1, whose feature map may have only 4 pixels"),
        ({"patch": [2], "sample_size": 10}, "10 pixels cannot be cut into patches of 2 and then halved 1 times"),
        ({"expansion": [6]}, "expansion is 6"),
        ({"resample": []}, "resample is empty"),
        ({"skips": "all"}, "skips is 'all': give a list"),
        ({"up_depth": ["less"]}, "up_depth is 'less'"),
        ({"choices": "some"}, "choices is 'some'"),
        ({"choices": "stock", "blocks": ["gated"]}, "choices is 'stock', but its blocks has"),
        ({"choices": "stock", "attention": ["linear"]}, "choices is 'stock', but its attention has 'linear'"),
    ],
)
def test_what_no_network_can_have_gets_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        UNetFamily("digits", **options)
    assert "\n" not in str(caught.value)
