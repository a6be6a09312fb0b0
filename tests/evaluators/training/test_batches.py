"""Which noise goes with which image."""

import itertools

import torch

from nni_diffnas.evaluators.training.batches import Batches, nearest_noise
from nni_diffnas.evaluators.training.noise_schedules import UniformTimesteps

PIXELS = torch.randint(0, 256, (96, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_noise_is_paired_so_that_distances_add_up_to_the_least() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(5, 1, 2, 2, generator=generator) for _ in range(2))
    paired = nearest_noise(clean, noise)
    orders = [noise[list(order)] for order in itertools.permutations(range(5))]
    distances = [float((clean - order).square().sum()) for order in orders]
    assert float((clean - paired).square().sum()) == min(distances)
    assert sum(torch.equal(paired, order) for order in orders) == 1, "the noises of a batch stay what they are"


def test_pairing_changes_the_order_of_the_noise_and_nothing_else() -> None:
    plain = Batches(PIXELS, None, 32, UniformTimesteps(10), True, 0)
    paired = Batches(PIXELS, None, 32, UniformTimesteps(10), True, 0, pairing="immiscible")
    for _ in range(2):
        one, other = plain.draw(), paired.draw()
        assert torch.equal(one.clean, other.clean)
        assert torch.equal(one.times, other.times)
        assert not torch.equal(one.noise, other.noise)
        assert {each.numpy().tobytes() for each in one.noise} == {each.numpy().tobytes() for each in other.noise}
