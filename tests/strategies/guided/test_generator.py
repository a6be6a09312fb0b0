"""The generator: encoding, conditions, soundness, guidance, cache."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.space import Space
from nni_diffnas.search_spaces import MobileNetV3Family, UNetFamily
from nni_diffnas.strategies.guided.encoding import Encoding
from nni_diffnas.strategies.guided.generator import Generator
from nni_diffnas.strategies.guided.guidance import along_gradient, together, towards_window

SPACES = {"unet": UNetFamily("digits").space, "mobilenetv3": MobileNetV3Family().space}


@pytest.fixture(scope="module", params=SPACES)
def generator(request: pytest.FixtureRequest) -> Generator:
    made = Generator(SPACES[request.param])
    made.train(steps=20)
    return made


def test_encoding_round_trip_and_zero_rows_of_absent_labels() -> None:
    space = SPACES["mobilenetv3"]
    encoding, rng = Encoding(space), np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(20)]
    indices = encoding.indices(architectures)
    assert encoding.architectures(indices) == architectures
    assert np.array_equal(encoding.one_hot(indices).numpy(), space.encode(architectures))
    drawn = encoding.architectures(encoding.sample(50, rng))
    assert all(space.validate(a) == a for a in drawn)


def test_masks_follow_the_dag_and_the_conditions() -> None:
    space = Space({"a": (0, 1), "b": (0, 1), "c": (0, 1), "d": (0, 1)}, (("a", "b"), ("b", "c")), {"d": (("a", (1,)),)})
    ancestors, descendants = Encoding(space).masks
    assert ancestors[2].tolist() == [True, True, True, False]
    assert descendants[0].tolist() == [True, True, True, True]
    assert not ancestors[3, 1]


def test_what_disagrees_with_the_conditions_is_invalid_and_not_repaired() -> None:
    space = Space({"depth": (1, 2), "extra": ("x", "y")}, (), {"extra": (("depth", (2,)),)})
    encoding = Encoding(space)
    good = 2 * encoding.one_hot(encoding.indices([{"depth": 1}, {"depth": 2, "extra": "y"}])) - 1
    bad = good.clone()
    bad[0, 1, 0], bad[1, 1] = 1.0, -1.0
    assert encoding.decode(good)[1].tolist() == [True, True]
    assert encoding.decode(bad)[1].tolist() == [False, False]
    doubled = good.clone()
    doubled[0, 0] = 1.0
    assert encoding.raw_valid(good).all()
    assert not encoding.raw_valid(doubled)[0]


def test_samples_are_valid_and_differ(generator: Generator) -> None:
    indices, valid = generator.architectures(200, torch.Generator().manual_seed(0), steps=8)
    assert valid.mean() >= 0.99
    assert len(np.unique(indices, axis=0)) > 150
    again, _ = generator.architectures(200, torch.Generator().manual_seed(0), steps=8)
    assert np.array_equal(indices, again)


def test_samples_are_as_frequent_as_in_the_space() -> None:
    """Depths decide which layers are absent: a start that does not know how often they are makes networks shallow."""
    space = SPACES["mobilenetv3"]
    indices, _ = Generator(space).architectures(1000, torch.Generator().manual_seed(0), steps=6)
    depths = indices[:, [row for row, label in enumerate(space.labels) if label.endswith(".depth")]]
    shares = np.bincount(depths.flatten(), minlength=3) / depths.size
    assert np.allclose(shares, 1 / 3, atol=0.025)  # standard error 0.007


def test_guidance_pulls_towards_the_wish(generator: Generator) -> None:
    encoding = generator.encoding

    def wish(p: torch.Tensor) -> torch.Tensor:
        return p[..., 0].sum(1)

    reference = encoding.one_hot(encoding.sample(64, np.random.default_rng(0)))
    counts = []
    for strength in (0.0, 2.0, 8.0):
        tilt = along_gradient(wish, strength, reference)
        indices, valid = generator.architectures(100, torch.Generator().manual_seed(1), tilt=tilt, steps=8)
        assert valid.mean() >= 0.98
        counts.append((indices == 0).sum(axis=1).mean())
    assert counts[0] + 0.5 < counts[1] < counts[2]


def test_window_guidance_and_restarts_respect_a_narrow_window(generator: Generator) -> None:
    encoding = generator.encoding
    weight = torch.arange(encoding.width).float()
    uniform = np.maximum(encoding.sample(2000, np.random.default_rng(0)), 0).sum(axis=1)
    middle = int(np.quantile(uniform, 0.02))

    def quantity(p: torch.Tensor) -> torch.Tensor:
        return (p * weight).sum((1, 2))

    def admits(indices: np.ndarray) -> np.ndarray:
        return np.maximum(indices, 0).sum(axis=1) == middle

    tilt = together([towards_window(quantity, middle - 0.5, middle + 0.5)])
    indices, valid = generator.within(64, torch.Generator().manual_seed(0), admits, tilt=tilt, steps=8)
    assert (uniform == middle).mean() < 0.05
    assert admits(indices[valid]).mean() > 0.9
    assert together([]) is None


def test_cache_refuses_a_space_whose_labels_changed(generator: Generator) -> None:
    content = generator.to_bytes()
    space = generator.encoding.space
    loaded = Generator.from_bytes(content, space)
    first, second = (g.architectures(5, torch.Generator().manual_seed(2), steps=4)[0] for g in (generator, loaded))
    assert np.array_equal(first, second)
    with pytest.raises(SpaceError, match="labels have changed"):
        Generator.from_bytes(content, replace(space, choices={**space.choices, "another": (0, 1)}))
    with pytest.raises(SpaceError, match="cannot be read"):
        Generator.from_bytes(b"damaged", space)
