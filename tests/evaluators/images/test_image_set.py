"""Images by name and by path, and the sentence for each kind of bad data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import load, noise, write
from PIL import Image

from nni_diffnas.api.errors import DataError
from nni_diffnas.evaluators.images.image_set import ImageSet


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    digits = load("digits")
    theirs = load_digits()
    assert digits.pixels.shape == (1797, 1, 8, 8)
    assert digits.pixels.dtype == np.uint8
    assert np.array_equal(np.rint(digits.pixels[:, 0] * (16 / 255)), theirs.images)
    assert digits.labels is not None
    assert np.array_equal(digits.labels, theirs.target)
    assert (digits.pixels.max(), digits.classes) == (255, 10)
    assert load("digits", size=16, channels=3).pixels.shape == (1797, 3, 16, 16)


def test_images_that_are_smaller_than_they_shall_be_are_counted(tmp_path: Path) -> None:
    for name, size in (("small", (20, 12)), ("fits", (16, 16)), ("large", (30, 20))):
        Image.fromarray(noise(*size)).save(tmp_path / f"{name}.png")
    assert load(tmp_path, size=16).enlarged == 1
    assert load(tmp_path, size=16).describe()[1] == "enlarged: 1 images, which are smaller than 16x16 pixels"
    assert load(tmp_path, size=20).enlarged == 2
    assert (load("digits").enlarged, load("digits", size=8).enlarged, load("digits", size=16).enlarged) == (0, 0, 1797)


def test_a_cached_source_needs_no_image_library(evaluator_cache: Path) -> None:
    load("digits")
    code = (
        "import sys; from nni_diffnas.evaluators.images.image_set import images;"
        "from nni_diffnas.evaluators.images.settings import DataSettings;"
        "images(DataSettings(source='digits'));"
        "print([m for m in ('sklearn','PIL','torchvision','torch') if m in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=evaluator_cache
    )
    assert output.stdout.strip() == "[]"


def test_the_split_is_disjoint_and_seeded() -> None:
    one, same, other = load("digits"), load("digits"), load("digits", split_seed=1)
    assert len(one.held_out) == 190
    assert sorted([*one.training, *one.held_out]) == list(range(1797))
    assert np.array_equal(one.held_out, same.held_out)
    assert one.content == other.content
    assert one.split != other.split


def test_the_rule_of_version_0_1_still_splits_by_position() -> None:
    digits = load("digits", split="position")
    assert (len(digits.held_out), int(digits.held_out.sum())) == (180, 173191)
    assert digits.held_out[:8].tolist() == [12, 20, 28, 53, 68, 72, 77, 91]
    assert digits.split == "69786206e419d0f0", "protocols of version 0.1 end with it"
    other = load("digits", split="position", held_out=0.3, split_seed=3)
    assert (len(other.held_out), int(other.held_out.sum())) == (539, 472264)
    assert other.split == "abf8d107732f75ed"


def sides(data: ImageSet) -> dict[bytes, bool]:
    """Whether each image is held out, by its pixels."""
    held_out = set(data.held_out.tolist())
    return {image.tobytes(): index in held_out for index, image in enumerate(data.pixels)}


def test_pictures_keep_their_side_whatever_happens_to_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in range(60)]
    (tmp_path / "all").mkdir()
    (tmp_path / "renamed").mkdir()
    for index, pixels in enumerate(drawn):
        Image.fromarray(pixels).save(tmp_path / "all" / f"{index:02}.png")
        Image.fromarray(pixels).save(tmp_path / "renamed" / f"{59 - index:02}.png")
    before = load(tmp_path / "all", held_out=0.3)
    assert 10 < len(before.held_out) < 26
    assert len(before.training) + len(before.held_out) == 60
    assert sides(load(tmp_path / "renamed", held_out=0.3)) == sides(before)
    for index in range(20, 30):
        (tmp_path / "all" / f"{index}.png").unlink()
    after = load(tmp_path / "all", held_out=0.3)
    assert len(after.pixels) == 50
    assert sides(after).items() <= sides(before).items()
    assert after.split != before.split


def test_equal_images_share_a_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    some = rng.integers(0, 256, (100, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=np.concatenate([some, some[::-1]]))
    data = load(tmp_path / "x.npz", held_out=0.5)
    held_out = np.isin(np.arange(200), data.held_out)
    assert np.array_equal(held_out[:100], held_out[:99:-1])
    assert 60 < held_out.sum() < 140


def test_a_split_with_an_empty_side_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=np.full((5, 4, 4), 9, np.uint8))
    outcomes = set()
    for seed in range(8):
        try:
            load(tmp_path / "x.npz", held_out=0.5, split_seed=seed)
        except DataError as error:
            outcomes.add(" ".join(str(error).split(" of data.source")[0].split()[5:]))
    assert outcomes == {"holds out none of the 5 images", "leaves none of the 5 images"}
    assert len(load(tmp_path / "x.npz", held_out=0).training) == 5


def test_class_folders_become_labels(tmp_path: Path) -> None:
    for name, value in (("cat", 101), ("dog", 102)):
        for index in range(3):
            write(tmp_path / name / f"{index}.png", value=value)
    data = load(tmp_path)
    assert data.pixels.shape == (6, 3, 6, 6)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.pixels[:, 0, 0, 0].tolist() == [101, 101, 101, 102, 102, 102]


def test_a_changed_folder_is_decoded_anew(tmp_path: Path) -> None:
    write(tmp_path / "a.png", value=101)
    write(tmp_path / "b.png", value=102)
    before = load(tmp_path)
    write(tmp_path / "c.png", value=3)
    assert len(load(tmp_path).pixels) == 3
    assert load(tmp_path).content != before.content


def test_images_are_described(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=noise(5, 4, 6), labels=np.array([3, 7, 3, 7, 7]))
    data = load(tmp_path / "x.npz")
    mean = round(float(data.pixels.mean()))
    assert data.describe() == [
        f"5 images of 6x4 pixels in grey, 0 of them held out; pixels are {data.pixels.min()} to {data.pixels.max()}, "
        f"{mean} on average",
        "2 classes: 3, 7",
    ]


def test_labels_of_one_column_count_and_others_can_be_ignored(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=noise(4, 5, 5), labels=np.array([[1], [0], [1], [0]]))
    column = load(tmp_path / "x.npz")
    assert column.labels is not None
    assert column.labels.tolist() == [1, 0, 1, 0]
    np.savez(tmp_path / "x.npz", images=noise(4, 5, 5), labels=np.ones((4, 3), np.int64))
    with pytest.raises(DataError, match=r"shape \(4, 3\).*or set data\.labels to false"):
        load(tmp_path / "x.npz")
    assert load(tmp_path / "x.npz", labels=False).labels is None


def test_classes_keep_their_numbers(tmp_path: Path) -> None:
    for name in ("1", "2", "10"):
        for index in range(2):
            write(tmp_path / name / f"{index}.png", value=40 + index)
    data = load(tmp_path)
    assert data.numbers_of(np.arange(6)).tolist() == [1, 1, 10, 10, 2, 2]
    assert sorted(data.numbers_in_turn(4).tolist()) == [1, 1, 2, 10]
    in_turn = load(tmp_path, class_numbers="in_turn")
    assert in_turn.class_numbers.tolist() == [0, 1, 2]
    assert in_turn.content == data.content
    assert in_turn.split != data.split
