"""MobileNetV3's cost: summed over layers, and the same as the whole network's."""

import numpy as np
import pytest
import torch

from nni_diffnas.api.cost import count_cost
from nni_diffnas.search_spaces import MobileNetV3Family


@pytest.mark.parametrize("size", [224, 45])
def test_cost_is_that_of_the_network(size) -> None:
    family = MobileNetV3Family(classes=10, size=size)
    for seed in range(3):
        architecture = family.space.sample(np.random.default_rng(seed))
        with torch.device("meta"):
            network = family.build(architecture).eval()
            counted = count_cost(network, torch.empty(1, 3, size, size))
        assert family.cost(architecture) == counted
