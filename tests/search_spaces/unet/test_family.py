"""The UNet family: prices against counted forward passes, the stock network, options, speed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from diffusers import UNet2DModel

from nni_diffnas.api.cost import Budget, Cost, Window, count_cost
from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.family import choice_costs, sample_within
from nni_diffnas.search_spaces import UNetFamily
from nni_diffnas.search_spaces.unet.choices import widths_of
from nni_diffnas.search_spaces.unet.presets import PRESETS
from nni_diffnas.search_spaces.unet.stock import stock_config


def counted(family: UNetFamily, architecture: dict[str, Any]) -> Cost:
    o = family.options
    with torch.device("meta"):
        labels = () if o.num_classes is None else (torch.zeros(1, dtype=torch.long),)
        image = torch.zeros(1, o.in_channels, o.sample_size, o.sample_size)
        return count_cost(family.build(architecture), image, torch.zeros(1), *labels)


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("digits", {}),
    ("digits", {"num_classes": 10, "scale_shift": False}),
    ("mnist", {}),
    ("cifar10", {}),
]


def check_prices(kind: int, count: int) -> None:
    preset, options = KINDS[kind]
    family = UNetFamily(preset, **options)
    rng = np.random.default_rng(kind)
    for _ in range(count):
        architecture = family.space.sample(rng)
        found, said = counted(family, architecture), family.cost(architecture)
        assert found.params == said.params
        assert found.macs == said.macs


@pytest.mark.parametrize("kind", range(4))
def test_price_is_what_a_forward_pass_counts(kind: int) -> None:
    check_prices(kind, 6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(4))
def test_price_of_two_hundred_networks(kind: int) -> None:
    check_prices(kind, 50)


def test_defaults_cost_what_the_docstring_says() -> None:
    for preset, cost in {"digits": Cost(5_817_344, 272_305), "mnist": Cost(277_317_376, 1_742_881)}.items():
        family = UNetFamily(preset)
        assert family.cost(family.default) == cost
        text = UNetFamily.__doc__ or ""
        assert f"{cost.params:,} and {cost.macs:,}" in text


def test_default_of_cifar10_is_iddpm() -> None:
    family = UNetFamily("cifar10")
    assert family.cost(family.default) == Cost(macs=8_386_707_456, params=52_546_438)
    config = family.config(family.default)
    assert (config.widths, config.depths, config.heads) == ((128, 256, 256, 256), (3, 3, 3, 3), 4)
    assert config.attention == ("none", "softmax", "softmax", "none")
    assert (config.out_channels, config.dropout, config.scale_shift) == (6, 0.3, True)


@pytest.mark.parametrize(
    ("preset", "options", "changes"),
    [
        ("digits", {}, {}),
        ("digits", {}, {"level0.depth": 3, "level1.depth": 3, "level1.attention": "none", "level1.width": 64}),
        ("digits", {}, {"middle": "none"}),
        ("digits", {}, {"middle": "residual", "level1.attention": "none"}),
        ("digits", {"scale_shift": False}, {"level0.width": 32, "level0.attention": "softmax"}),
        ("mnist", {"learned_sigma": True}, {}),
    ],
)
def test_uniform_networks_are_the_stock_network(preset: str, options: dict[str, Any], changes: dict[str, Any]) -> None:
    family = UNetFamily(preset, **options)
    architecture = {**family.default, **changes}
    arguments = stock_config(family.config(architecture))
    assert arguments is not None
    torch.manual_seed(0)
    stock, ours = UNet2DModel(**arguments).eval(), family.build(architecture).eval()
    assert sum(p.numel() for p in stock.parameters()) == family.cost(architecture).params
    ours.load_state_dict(stock.state_dict())
    image = torch.randn(3, family.options.in_channels, *[family.options.sample_size] * 2)
    step = torch.tensor([0, 17, 900])
    with torch.no_grad():
        expected = stock(image, step).sample
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(image, step), expected)
        torch.testing.assert_close(ours(image, 17), stock(image, 17).sample)


@pytest.mark.parametrize(
    "changes",
    [
        {"level0.depth": 1},
        {"inner_width": 1.5},
        {"level0.attention": "softmax"},
        {"level0.width": 24, "heads": 1, "level0.attention": "softmax"},
    ],
    ids=["depth", "inner width", "channels per head", "channels per head, one head"],
)
def test_what_stock_cannot_express_is_not_forced_into_it(changes: dict[str, Any]) -> None:
    family = UNetFamily("digits")
    assert stock_config(family.config({**family.default, **changes})) is None


def test_learns_and_starts_at_zero() -> None:
    torch.manual_seed(0)
    family = UNetFamily("digits")
    network = family.build(family.default)
    image, step = torch.randn(8, 1, 8, 8), torch.randint(0, 100, (8,))
    assert network(image, step).abs().max() == 0
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = (network(image, step) - image).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_class_labels_matter_and_are_asked_for() -> None:
    family = UNetFamily("digits", num_classes=10)
    network = family.build(family.default)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    image = torch.randn(2, 1, 8, 8)
    assert not torch.allclose(network(image, 5, torch.tensor([0, 1])), network(image, 5, torch.tensor([2, 3])))
    with pytest.raises(ValueError, match="pass them"):
        network(image, 5)
    plain = UNetFamily("digits")
    with pytest.raises(ValueError, match="leave them out"):
        plain.build(plain.default)(image, 5, torch.tensor([0, 1]))


def test_space_flows_forward_with_skips_and_conditions() -> None:
    family = UNetFamily("mnist")
    space = family.space
    graph = space.graph()
    assert nx.is_directed_acyclic_graph(graph)
    assert nx.is_weakly_connected(graph)
    assert all(graph.has_edge(f"level{level}.attention", "middle") for level in range(3))
    attending = {"level0.attention", "level1.attention", "level2.attention"}
    quiet = {**space.complete(family.default), **dict.fromkeys(attending, "none"), "middle": "residual"}
    assert "heads" not in space.present(quiet)
    assert "heads" in space.present({**quiet, "middle": "attention"})
    assert "heads" in space.present({**quiet, "level1.attention": "softmax"})
    assert "heads" not in UNetFamily("mnist", attention=[False], middle=["none"]).space.labels
    for label in space.labels:
        assert "\n" not in family.describe(label)
    with pytest.raises(SpaceError, match=r"level9\.width"):
        family.describe("level9.width")


@pytest.mark.parametrize("preset", list(PRESETS))
def test_groups_and_heads_divide_for_every_width(preset: str) -> None:
    family = UNetFamily(preset)
    for heads in family.options.heads:
        for widths in widths_of(family.options):
            assert all(width % heads == 0 for width in widths)
    rng = np.random.default_rng(5)
    for _ in range(20):
        for layer in family.plan(family.space.sample(rng)).layers:
            with torch.device("meta"):
                layer.build()


def test_every_choice_changes_the_cost_except_heads() -> None:
    family = UNetFamily("digits")
    mixed = {**family.space.complete(family.default), "level0.block": "convnext", "skips": "level", "up_depth": "same"}
    for label, costs in choice_costs(family, mixed).items():
        assert len(set(costs.values())) == (1 if label == "heads" else len(costs)), label


def test_options_shape_the_space() -> None:
    family = UNetFamily("digits", multipliers=[1, 2, 4], sample_size=16, depths=[[1], [1, 2], [3]], in_channels=3)
    assert family.space.choices["level2.depth"] == (3,)
    assert family.space.choices["level2.width"] == (32, 64, 96, 128)
    assert family.default["level2.depth"] == 3
    assert family.default["level2.attention"] == "softmax"
    assert counted(family, family.default).params == family.cost(family.default).params


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "imagenet"}, "Unknown UNet preset 'imagenet'"),
        ({"preset": "digits", "wdith": 3}, "Unknown option 'wdith'"),
        ({"preset": "digits", "sample_size": 9}, "9 pixels cannot be halved 1 times"),
        ({"preset": "digits", "heads": [3]}, "3 heads do not divide"),
        ({"preset": "digits", "heads": 2}, "give a list"),
        ({"preset": "digits", "depths": []}, "depths"),
        ({"preset": "digits", "depths": [0, 1]}, "depths is 0"),
        ({"preset": "digits", "depths": [[1], [1], [1]]}, "3 lists for 2 levels"),
        ({"preset": "digits", "attention": [0, 1]}, "choose among 'none', 'softmax' or 'linear'"),
        ({"preset": "digits", "middle": ["big"]}, "'big'"),
        ({"preset": "digits", "base_width": "wide"}, "base_width is 'wide'"),
        ({"preset": "digits", "dropout": 1.5}, "below 1"),
        ({"preset": "digits", "num_classes": 0}, "num_classes"),
        ({"preset": "digits", "default_depth": "deep"}, "default_depth"),
        ({"preset": "digits", "default_attention": [2]}, "default_attention"),
        ({"preset": "digits", "multipliers": []}, "multipliers is empty"),
        ({"preset": "digits", "depths": [1, [2]]}, "depths"),
        ({"preset": "digits", "depths": [[1], 2]}, "depths"),
        ({"preset": "digits", "depths": [10**7]}, "depths is 10000000: give a number of at most 100"),
    ],
)
def test_bad_options_get_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        UNetFamily(**options)
    assert "\n" not in str(caught.value)


def test_drawing_within_a_budget_prices_few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    family, prices = UNetFamily("cifar10"), []
    price = family.cost
    monkeypatch.setattr(family, "cost", lambda architecture: prices.append(architecture) or price(architecture))
    rng = np.random.default_rng(0)
    budget = Budget({"macs": Window(4e9, 7e9)})
    drawn = [sample_within(family, budget, rng) for _ in range(200)]
    assert len(prices) < 10 * len(drawn)
    assert all(budget.admits(price(architecture)) for architecture in drawn)


def test_pricing_needs_no_torch_and_building_no_compiler() -> None:
    program = """
import sys
from nni_diffnas.search_spaces import UNetFamily
family = UNetFamily("digits")
family.cost(family.default)
assert "torch" not in sys.modules, "pricing imported torch"
import torch
family.build(family.default)
heavy = {"torch._dynamo", "nni", "transformers", "scipy", "pytorch_lightning"} & set(sys.modules)
assert not heavy, f"building imported {heavy}"
import torch._dynamo
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
