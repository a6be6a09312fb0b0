"""Muon, AdamW and the course of the learning rate, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nni_diffnas.evaluators.training.optimizer import AdamW, Muon, learning_rate, width_scales
from nni_diffnas.evaluators.training.recipe import Recipe


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_torchs(decay: float) -> None:
    ours, theirs = (nn.Linear(5, 3), nn.Linear(5, 3))
    theirs.load_state_dict(ours.state_dict())
    optimizer = AdamW(list(ours.parameters()), betas=(0.9, 0.99), decay=decay)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=decay)
    for step in range(30):
        # Some gradients are longer than the clip and some are not: Adam alone does not see a common factor.
        batch = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)) * 5
        rate = learning_rate(0.01, step / 30, 0.2)
        for model in (ours, theirs):
            (model(batch).square().sum() * (1 if step % 3 else 1e-4)).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        reference.zero_grad()
        optimizer.step(rate, clip=1.0)
        assert ours.weight.grad is None
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-6)


def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest() -> None:
    ours, theirs = (nn.Sequential(nn.Linear(6, 12), nn.SiLU(), nn.Linear(12, 4)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = Muon(ours, (0.9, 0.99), 0.0, momentum=0.9)
    matrices = [parameter for parameter in theirs.parameters() if parameter.ndim == 2]
    biases = [parameter for parameter in theirs.parameters() if parameter.ndim == 1]
    references = [
        torch.optim.Muon(matrices, lr=0.02, momentum=0.9, weight_decay=0.0, nesterov=True),
        torch.optim.AdamW(biases, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    for step in range(5):
        batch = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for model in (ours, theirs):
            model(batch).square().sum().backward()
        for reference in references:
            reference.step()
            reference.zero_grad()
        optimizer.step(2e-3)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, atol=0.004), "torch's goes through bfloat16"
        assert one.grad is None


def test_muon_leaves_the_first_and_the_last_convolution_to_adam() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Conv2d(8, 32, 1), nn.Conv2d(32, 6, 3))
    before = [layer.weight.detach().clone() for layer in model]
    optimizer = Recipe(steps=1).make_optimizer(model, 3)
    model(torch.randn(2, 3, 12, 12)).square().sum().backward()
    optimizer.step(1e-3, clip=1.0)
    moved = [(layer.weight.detach() - old).flatten(1) for layer, old in zip(model, before, strict=True)]
    for matrix, largest in ((moved[1], 0.01), (moved[2], 0.02)):  # 32 x 8: wider by sqrt(4)
        values = torch.linalg.svdvals(matrix) / largest
        assert values.min() > 0.5
        assert values.max() < 1.3
    for matrix in (moved[0], moved[3]):
        assert matrix.abs().max() <= 1.001e-3
        assert (matrix.abs() > 0.99e-3).float().mean() > 0.9, "Adam's first step"


def test_muon_leaves_a_matrix_without_a_gradient_as_it_is() -> None:
    model = nn.ModuleList([nn.Conv2d(4, 4, 1, bias=False) for _ in range(3)])
    model.append(nn.Conv2d(4, 8, 1, bias=False))  # none of its shape is ever used
    optimizer = Muon(model, hidden=True)
    before = [module.weight.detach().clone() for module in model]
    for used in (model[0], model[1]):
        used.weight.grad = torch.randn_like(used.weight)
        optimizer.step(1e-3)
    changed = [not torch.equal(module.weight, old) for module, old in zip(model, before, strict=True)]
    assert changed == [True, True, False, False]
    moved = model[0].weight.detach().clone()
    model[1].weight.grad = torch.randn_like(moved)
    optimizer.step(1e-3)
    assert torch.equal(model[0].weight, moved), "its momentum does not carry it on"
    spectrum = torch.linalg.svdvals((model[0].weight - before[0]).flatten(1))
    assert spectrum.min() > 0.6 * 1e-2, "within a network the first convolution is a matrix, too"


def test_muon_leaves_depthwise_kernels_to_adam() -> None:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), depthwise, nn.Conv2d(16, 24, 1), nn.Conv2d(24, 3, 3))
    before = depthwise.weight.detach().clone()
    optimizer = Recipe(steps=1).make_optimizer(model, 3)
    model(torch.randn(2, 3, 12, 12)).square().sum().backward()
    optimizer.step(1e-3, clip=1.0)
    moved = (depthwise.weight.detach() - before).abs()
    assert moved.max() <= 1.001e-3
    assert (moved > 0.99e-3).float().mean() > 0.9, "Adam's first step"


def test_depthwise_kernels_and_patch_stems_keep_the_rate_where_a_base_width_is_named() -> None:
    layers = [nn.Conv2d(12, 64, 3), nn.Conv2d(64, 64, 7, groups=64), nn.Conv2d(64, 3, 1)]
    model = nn.Sequential(nn.PixelUnshuffle(2), *layers)
    assert width_scales(model, 32, 3) == {layers[2].weight: 0.5}


def test_wide_layers_learn_slower_where_a_base_width_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.GroupNorm(4, 64), nn.Conv2d(64, 128, 1), nn.Linear(128, 5))
    names = {parameter: name for name, parameter in model.named_parameters()}
    scales = {names[parameter]: scale for parameter, scale in width_scales(model, 32, 3).items()}
    assert scales == {"2.weight": 0.5, "3.weight": 0.25}
    moved = []
    for base in (None, 32):
        torch.manual_seed(0)
        wide = nn.Sequential(nn.Conv2d(1, 64, 1, bias=False), nn.Conv2d(64, 1, 1, bias=False))
        before = [parameter.detach().clone() for parameter in wide.parameters()]
        optimizer = Recipe(steps=1, width_base=base, optimizer="adam").make_optimizer(wide, 1)
        wide(torch.ones(1, 1, 2, 2)).sum().backward()
        optimizer.step(1e-3)
        after = wide.parameters()
        moved.append([(a.detach() - b).abs().mean().item() for a, b in zip(after, before, strict=True)])
    assert moved[1][0] == pytest.approx(moved[0][0])
    assert moved[1][1] == pytest.approx(moved[0][1] / 2, rel=1e-3)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    assert learning_rate(2.0, 0.05, 0.1) == pytest.approx(1.0)
    assert learning_rate(2.0, 0.1, 0.1) == pytest.approx(2.0)
    assert learning_rate(2.0, 0.55, 0.1) == pytest.approx(1.0)
    assert learning_rate(2.0, 1.0, 0.1) == pytest.approx(0.0)
