"""How a picture's pixels are meant: size, channels, transparency, range, orientation."""

from pathlib import Path

import numpy as np
import pytest
from pictures import load, noise, write
from PIL import Image

from nni_diffnas.api.errors import DataError


def test_size_and_channels_convert_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "wide.png", (12, 6), "RGB", 200)
    write(tmp_path / "grey.png", (6, 6), "L", 200)
    data = load(tmp_path, size=4, channels=1)
    assert data.pixels.shape == (2, 1, 4, 4)
    assert (data.pixels == 200).all()


def test_transparency_becomes_white(tmp_path: Path) -> None:
    for name, alpha in (("a", 0), ("b", 255)):
        pixels = np.zeros((4, 4, 4), dtype=np.uint8)
        pixels[..., 3] = alpha
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    pixels = load(tmp_path).pixels
    assert (pixels[0] == 255).all()
    assert (pixels[1] == 0).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_of_16_bits_is_scaled(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 257, 4096], [32896, 60000, 65535]], dtype=np.uint16)
    for name in "ab":
        Image.fromarray(deep).save(tmp_path / f"{name}.{suffix}")
    assert load(tmp_path).pixels[0].tolist() == [[[0, 1, 16], [128, 233, 255]]]


def test_transparent_grey_of_16_bits_becomes_white(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.array([[0, 257]], dtype=np.uint16)).save(tmp_path / f"{name}.png", transparency=257)
    assert load(tmp_path).pixels[0].tolist() == [[[0, 255]]]


@pytest.mark.parametrize(("kind", "said"), [(np.int32, "32-bit integers"), (np.float32, "floating-point")])
def test_grey_without_a_known_range_is_refused(tmp_path: Path, kind: type, said: str) -> None:
    for name in "ab":
        Image.fromarray(np.full((4, 4), 70_000, dtype=kind)).save(tmp_path / f"{name}.tif")
    with pytest.raises(DataError, match=rf"a\.tif.*{said}.*convert it"):
        load(tmp_path)


def test_photographs_stand_upright(tmp_path: Path) -> None:
    pixels = noise(4, 6, 3)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # the camera was turned: the picture has to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=orientation)
    Image.fromarray(np.rot90(pixels, -1)).save(tmp_path / "b.png")
    turned = load(tmp_path)
    assert turned.shape == (3, 6, 4)
    assert np.array_equal(turned.pixels[0], turned.pixels[1])
    with pytest.raises(DataError, match=r"a\.png is 6x4 .* b\.png is 4x6"):
        load(tmp_path, upright=False)


@pytest.mark.parametrize("levels", [2, 16])
def test_pixels_of_another_range_are_refused(tmp_path: Path, levels: int) -> None:
    dark = noise(5, 4, 4) % levels
    np.savez(tmp_path / "x.npz", images=dark)
    with pytest.raises(
        DataError, match=rf"are 0 to {levels - 1}, which is black of 255: multiply them by {255 // (levels - 1)}"
    ):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=dark * np.uint8(255 // (levels - 1)))
    assert load(tmp_path / "x.npz").pixels.max() == 255
    np.savez(tmp_path / "x.npz", images=dark > 0)
    with pytest.raises(DataError, match=r"of type bool.*zeros and ones times 255"):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_black_images_are_refused(tmp_path: Path, kind: str) -> None:
    """What is left of numbers from 0 to 1 that were cut to whole ones, and of masks without an object."""
    black = (noise(3, 4, 4) / 256).astype(np.uint8)
    np.savez(tmp_path / "x.npz", images=black)
    for index, pixels in enumerate(black):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    np.savez(tmp_path / "white.npz", images=np.full((5, 8, 8), 255, dtype=np.uint8))
    with pytest.raises(DataError, match=r"are all 255: give images that are not blank or transparent"):
        load(tmp_path / "white.npz")
    with pytest.raises(DataError, match=r"are all 0: store images as uint8, 0 to 255"):
        load(tmp_path / "x.npz" if kind == "npz" else tmp_path)


def test_large_scans_are_shrunk(tmp_path: Path) -> None:
    for name, value in (("a", 0), ("b", 1)):
        Image.new("1", (14_000, 14_000), value).save(tmp_path / f"{name}.png")
    assert load(tmp_path, size=16).pixels.shape == (2, 1, 16, 16)
    assert Image.MAX_IMAGE_PIXELS is not None
