"""Which preset suits images of a size."""

from __future__ import annotations

import pytest

from nni_diffnas.api.errors import SpaceError
from nni_diffnas.search_spaces import UNetFamily


@pytest.mark.parametrize(
    ("channels", "side", "preset"),
    [
        (1, 4, "pixels8"),
        (1, 8, "pixels8"),
        (3, 16, "pixels16"),
        (1, 28, "mnist"),
        (3, 32, "cifar10"),
        (3, 64, "pixels64"),
    ],
)
def test_the_preset_follows_from_the_images(channels: int, side: int, preset: str) -> None:
    options = UNetFamily.options_for(channels, side, side)
    assert options["preset"] == preset
    family = UNetFamily(**options)
    assert family.options.in_channels == channels
    assert family.options.sample_size == side
    assert not family.options.learned_sigma
    assert family.options.dropout == 0.0


def test_every_side_that_is_taken_makes_a_space() -> None:
    for side in (*range(4, 21, 4), *range(24, 32, 4), *range(32, 129, 8)):
        assert UNetFamily(**UNetFamily.options_for(3, side, side)).space.size > 1


def test_a_named_preset_takes_the_place() -> None:
    assert UNetFamily.options_for(3, 32, 32, "pixels16") == {
        "preset": "pixels16", "sample_size": 32, "in_channels": 3
    }  # fmt: skip


@pytest.mark.parametrize(
    ("height", "width", "preset", "said"),
    [
        (427, 640, None, "640x427 pixels and networks are for square ones: give a size, such as 16"),
        (3, 3, None, "for 4 to 128 on a side: give a size"),
        (512, 512, None, "for 4 to 128 on a side: give a size"),
        (30, 30, None, "cannot halve 2 times: give the size 28"),
        (8, 8, "pixel8", "Unknown UNet preset 'pixel8'"),
    ],
)
def test_what_fits_no_preset_is_a_sentence(height: int, width: int, preset: str | None, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        UNetFamily.options_for(3, height, width, preset)
