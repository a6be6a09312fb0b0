"""Plans of all kinds of UNets: prices against torch's counter, what layers say of themselves, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from unet_configs import random_config

from nni_diffnas.api.cost import Cost, count_cost
from nni_diffnas.search_spaces.unet.attentions import LinearAttention, SelfAttention
from nni_diffnas.search_spaces.unet.block_kinds import ConvNeXt, Gated
from nni_diffnas.search_spaces.unet.layers import Resampling
from nni_diffnas.search_spaces.unet.network import UNet
from nni_diffnas.search_spaces.unet.plan import UNetConfig, plan_of
from nni_diffnas.search_spaces.unet.pricing import PlannedLayer
from nni_diffnas.search_spaces.unet.stock import stock_config

PLAIN: dict[str, Any] = {
    "sample_size": 16, "in_channels": 3, "out_channels": 3, "widths": (8, 16), "depths": (2, 2),
    "attention": ("none", "softmax"), "norm_groups": 8, "time_embedding_dim": 16,
}  # fmt: skip


def counted(config: UNetConfig) -> Cost:
    with torch.device("meta"):
        labels = () if config.num_classes is None else (torch.zeros(1, dtype=torch.long),)
        image = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size)
        return count_cost(UNet(config), image, torch.zeros(1), *labels)


@pytest.mark.parametrize("seed", range(40))
def test_price_is_what_a_forward_pass_counts(seed: int) -> None:
    config = random_config(np.random.default_rng(seed))
    found = counted(config)
    assert (found.macs, found.params) == plan_of(config).price


LAYERS: list[PlannedLayer] = [
    Gated(12, 8, 16, 20, 8, 8, 0.1),
    Gated(16, 16, 16, 20, 8, 8, 0.0),
    ConvNeXt(24, 16, 5, 3, 20, 8, 8, 0.1),
    ConvNeXt(16, 16, 7, 2, 20, 8, 8, 0.0),
    SelfAttention(16, 2, 8, 8),
    LinearAttention(16, 4, 8, 8),
    *[Resampling(8, 12, 8, down, kind) for down in (False, True) for kind in ("convolution", "pool", "shuffle")],
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_a_layer_takes_its_example_and_costs_what_it_says(layer: PlannedLayer) -> None:
    with torch.device("meta"):
        cost = count_cost(layer.build(), *layer.example(1))
    assert (cost.macs, cost.params) == layer.price
    assert layer.build()(*layer.example(2)).shape[0] == 2


def test_resampling_halves_and_doubles() -> None:
    for kind in ("convolution", "pool", "shuffle"):
        for down, side in ((True, 4), (False, 16)):
            layer = Resampling(8, 12, 8, down, kind)
            assert layer.build()(*layer.example(2)).shape == (2, 12, side, side)


def test_response_normalisation_is_the_equation() -> None:
    from nni_diffnas.search_spaces.unet.modules import ResponseNorm

    norm = ResponseNorm(3)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(norm(x), x), "gamma and beta start at zero"
    torch.nn.init.normal_(norm.gamma)
    torch.nn.init.normal_(norm.beta)
    x[0, 1] = 0.0  # a channel without energy has no gradient of it
    x.requires_grad_()
    energy = torch.linalg.vector_norm(x, dim=(2, 3))
    share = energy / (energy.mean(dim=1, keepdim=True) + 1e-6)
    expected = x + norm.gamma * (x * share[:, :, None, None]) + norm.beta
    torch.testing.assert_close(norm(x), expected)
    weights, learned = torch.randn(2, 3, 4, 4), (x, norm.gamma, norm.beta)
    gradients = torch.autograd.grad((norm(x) * weights).sum(), learned)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), learned))
    with torch.no_grad():
        large = 300 * x  # whose squares float16 does not hold
        torch.testing.assert_close(norm.half()(large.half()).float(), norm.float()(large), rtol=1e-2, atol=1)


def test_linear_attention_is_the_equation() -> None:
    layer = LinearAttention(8, 2, 4, 4)
    module = layer.build()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3, 8, 4, 4)

    def project(name: str) -> torch.Tensor:  # batch x heads x pixels x features
        convolution: torch.nn.Conv2d = getattr(module, name)
        return convolution(module.group_norm(x)).view(3, 2, 4, 16).transpose(2, 3)

    queries, keys, values = project("to_q").softmax(3), project("to_k").softmax(2), project("to_v")
    dense = (queries @ keys.transpose(2, 3)) @ values  # the other order: pixels x pixels
    expected = x + module.to_out(dense.transpose(2, 3).reshape(3, 8, 4, 4))
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("kind", ["gated", "convnext"])
def test_gated_blocks_start_as_a_skip_and_every_weight_learns(kind: str) -> None:
    torch.manual_seed(0)
    config = UNetConfig(**PLAIN, blocks=(kind, kind), skips="level", up_depth="one", resample="pool")
    network = UNet(config)
    image, step = torch.randn(8, 3, 16, 16), torch.randint(0, 100, (8,))
    assert network(image, step).abs().max() == 0
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = (network(image, step) - image).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    still = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("skips", ["all", "level", "added"])
def test_the_way_up_reads_the_skips_it_says(skips: str) -> None:
    config = UNetConfig(**{**PLAIN, "depths": (3, 2)}, skips=skips, up_depth="more" if skips == "all" else "same")
    plan = plan_of(config)
    read = [[layer.inputs for layer in block.residuals] for block in plan.up]
    assert (
        read
        == {
            "all": [[32, 32, 24], [24, 16, 16, 16]],
            "level": [[32, 16], [24, 8, 8]],
            "added": [[16, 16], [8, 8, 8]],
        }[skips]
    )


def test_stock_choices_alone_are_stock() -> None:
    assert stock_config(UNetConfig(**PLAIN)) is not None
    for change in (
        {"blocks": ("residual", "gated")},
        {"blocks": ("convnext", "residual")},
        {"attention": ("linear", "none")},
        {"resample": "pool"},
        {"skips": "level"},
        {"patch": 2},
    ):
        assert stock_config(UNetConfig(**{**PLAIN, **change})) is None, change


def test_truth_values_of_attention_are_words() -> None:
    assert UNetConfig(**{**PLAIN, "attention": (False, True)}) == UNetConfig(**PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": ("residual", "transformer")}, "blocks cannot be 'transformer'"),
        ({"blocks": ("residual",)}, "has 1 blocks"),
        ({"blocks": ("convnext",) * 2, "kernels": (3, 9)}, "kernels cannot be 9"),
        ({"blocks": ("convnext",) * 2, "kernels": (3, 7), "patch": 2}, "larger than the 4 pixels of level 1"),
        ({"up_depth": "one"}, "all skips"),
        ({"sample_size": 18, "patch": 2}, "18 pixels cannot be cut"),
        ({"expansion": 6}, "expansion cannot be 6"),
        ({"heads": 3}, "3 heads do not divide"),
    ],
)
def test_what_names_no_network_gets_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        UNetConfig(**{**PLAIN, **change})
    assert "\n" not in str(caught.value)
