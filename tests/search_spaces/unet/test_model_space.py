"""The UNet space inside NNI: labels, freezing, and recovery in another process."""

from __future__ import annotations

import nni
import numpy as np
import pytest
import torch
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.space import SimplifiedModelSpace, model_context

from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.space import Space
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.search_spaces.unet.network import UNet

SMALL = {"base_width": 8, "depths": [1, 2]}


@pytest.fixture
def space() -> UNetSpace:
    return UNetSpace("digits", **SMALL)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_labels_and_values_are_those_of_the_family(space: UNetSpace) -> None:
    assert isinstance(space, ModelSpace)
    assert Space.from_mutables(space.simplify()).choices == space.family.space.choices
    assert list(space.simplify()) == list(space.family.space.labels)
    assert list(space.parameters()) == []


def test_both_ways_to_freeze_build_the_priced_network(space: UNetSpace) -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        architecture = space.family.space.sample(rng)
        sample = space.family.space.complete(architecture)
        with model_context(sample):
            constructed = UNetSpace("digits", **SMALL)
        for network in (space.freeze(sample), constructed):
            assert type(network) is UNet
            assert parameters(network) == space.family.cost(architecture).params
            assert network(torch.randn(2, 1, 8, 8), torch.tensor([1, 5])).shape == (2, 1, 8, 8)


def test_nni_rebuilds_the_network_from_its_trace(space: UNetSpace) -> None:
    model = SimplifiedModelSpace.from_model(space)
    sample = space.family.space.complete(space.family.default)
    recovered = nni.load(nni.dump(model.freeze(sample)))
    assert recovered.sample == sample
    network = recovered.executable_model()
    assert type(network) is UNet
    assert parameters(network) == space.family.cost(space.family.default).params
    trace = model.model
    assert trace.trace_symbol.family_of(*trace.trace_args, **trace.trace_kwargs).space.key == space.family.space.key


def test_labels_of_others_in_a_sample_are_left_alone(space: UNetSpace) -> None:
    sample = space.family.space.complete(space.family.default)
    assert type(space.freeze({**sample, "learning_rate": 1e-3})) is UNet


def test_a_missing_label_is_named(space: UNetSpace) -> None:
    sample = space.family.space.complete(space.family.default)
    del sample["level1.depth"]
    with pytest.raises(SpaceError, match=r"level1\.depth"):
        space.freeze(sample)
