"""What is read from folders, archives and arrays, and the sentence for each kind of bad data."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import load, noise, write
from PIL import Image

from nni_diffnas.api.errors import DataError
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.evaluators.images.sources import decode


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 3), (5, 3, 6, 7), (5, 6, 7, 1)])
def test_npz_layouts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "x.npz", images=np.full(shape, 99, np.uint8), labels=np.array([3, 3, 9, 9, 3], np.uint8))
    data = load(tmp_path / "x.npz", held_out=0)
    assert data.shape == (3 if 3 in shape else 1, 6, 7)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1, 0]
    assert data.class_numbers.tolist() == [3, 9]


def test_npz_keys_of_mnist(tmp_path: Path) -> None:
    arrays = {"train_images": np.full((4, 5, 5), 99, np.uint8), "train_labels": np.array([0, 1, 0, 1], np.uint8)}
    np.savez(tmp_path / "x.npz", **arrays, test_images=np.ones((3, 5, 5), np.uint8))
    assert load(tmp_path / "x.npz").classes == 2
    assert load(tmp_path / "x.npz").left_out == "1 other arrays (test_images)"
    assert load(tmp_path / "x.npz", labels=False).left_out == "1 other arrays (test_images)"
    tested = load(tmp_path / "x.npz", key="test_images")
    assert (tested.labels, len(tested.pixels)) == (None, 3)


def test_corrupt_images_are_named_refused_or_skipped(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"broken\.png.*on_corrupt"):
        load(tmp_path)
    data = load(tmp_path, on_corrupt="skip")
    assert len(data.pixels) == 2
    assert data.left_out == "1 that cannot be decoded (broken.png)"


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path)
    with pytest.raises(DataError, match="neither a file or folder nor one of digits"):
        load(tmp_path / "nowhere")
    write(tmp_path / "a.png")
    with pytest.raises(DataError, match="1 images"):
        load(tmp_path)
    write(tmp_path / "b.png", (9, 6))
    with pytest.raises(DataError, match=r"a\.png is 6x6 with 3 channels, b\.png is 9x6.*data\.size"):
        load(tmp_path)
    (tmp_path / "b.png").unlink()
    write(tmp_path / "c.png", mode="L")
    with pytest.raises(DataError, match=r"data\.channels"):
        load(tmp_path)
    write(tmp_path / "class" / "d.png")
    with pytest.raises(DataError, match="beside class folders"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({"pictures": np.zeros((3, 4, 4), np.uint8)}, {}, "no array 'images', only pictures.*data.key"),
        ({"images": np.zeros((3, 4, 4), np.float32)}, {}, "of type float32.*uint8"),
        ({"images": np.zeros((3, 4, 4, 2), np.uint8)}, {}, r"shape \(3, 4, 4, 2\)"),
        ({"images": np.zeros((9, 3, 8, 3), np.uint8)}, {}, r"shape \(9, 3, 8, 3\), in which the second or the last"),
        ({"images": np.zeros((3, 4, 4), np.uint8), "labels": np.zeros(2, np.int64)}, {}, r"labels .* shape \(2,\)"),
        ({"images": np.zeros((3, 4, 4), np.uint8)}, {"labels": "y"}, "no array 'y'.*data.labels"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], sentence: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=sentence):
        load(tmp_path / "x.npz", **options)


def test_an_unreadable_npz(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK not an archive")
    with pytest.raises(DataError, match=r"x\.npz.* is cut off, or no npz at all"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", images=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match=r"\(it holds Python objects\): write it with numpy\.savez"):
        load(tmp_path / "y.npz")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<html>404</html>", "is cut off, or no npz at all: fetch it again"),
        ("", "is cut off, or no npz at all: fetch it again"),
        (POINTER, "is a pointer of Git LFS, for which 'git lfs pull' fetches the file"),
    ],
)
def test_what_was_not_fetched_is_not_said_to_hold_objects(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x.npz").write_text(content)
    with pytest.raises(DataError, match=said):
        load(tmp_path / "x.npz")


def test_pictures_that_git_has_not_fetched_are_named_as_such(tmp_path: Path) -> None:
    write(tmp_path / "b.png")
    (tmp_path / "a.png").write_text(POINTER)
    with pytest.raises(DataError, match=r"a\.png' is a pointer of Git LFS, for which 'git lfs pull' fetches the file"):
        load(tmp_path)


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("cat/a.png", "cat/b.jfif", "cat/c.png", "dog/part1/d.png", "dog/part1/e.png", "dog/part2/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(4, 4, 3)).save(tmp_path / name, "JPEG" if name.endswith("jfif") else "PNG")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "cat" / "notes.txt").write_text("two of them sleep")
    (tmp_path / ".DS_Store").write_text("clutter")
    frames = [Image.fromarray(noise(3, 4, 4, 3)[number]) for number in range(3)]
    for name in ("x.gif", "y.webp", "z.tiff"):
        frames[0].save(tmp_path / "cat" / name, save_all=True, append_images=frames[1:])
    data = load(tmp_path, channels=3)
    assert (len(data.pixels), data.class_names) == (6, ("cat",))
    found = set(data.left_out.split("; "))
    assert found == {
        "3 in folders within class folders (dog/part1/d.png, dog/part1/e.png, dog/part2/f.png)",
        "1 dead links (cat/gone.png)",
        "1 without the suffix of an image (cat/notes.txt)",
        "6 further frames (cat/x.gif, cat/y.webp, cat/z.tiff)",
    }
    assert data.describe()[-1] == f"left out of {tmp_path}: {data.left_out}"
    (tmp_path / "cat" / "notes.txt").unlink()
    assert "notes" not in load(tmp_path).left_out


def test_folders_that_lead_into_themselves(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / "cat" / f"{name}.png")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert len(load(tmp_path).pixels) == 2


@pytest.mark.parametrize("kind", ["zip", "gztar"])
@pytest.mark.parametrize("packed", [".", "pictures"])
def test_an_archive_is_read_as_its_folder_is(tmp_path: Path, kind: str, packed: str) -> None:
    folder = tmp_path / "here" / "pictures"
    for index, name in enumerate(("cat/a.png", "cat/b.png", "dog/c.png", "dog/deep/d.png")):
        write(folder / name, value=40 + index)
    place = folder if packed == "." else folder.parent
    archive = shutil.make_archive(str(tmp_path / "packed"), kind, place, packed)
    one, other = load(folder), load(archive)
    assert one.content == other.content
    assert other.class_names == ("cat", "dog")
    assert "deep/d.png" in other.left_out


def test_files_of_other_kinds_get_a_short_sentence(tmp_path: Path) -> None:
    write(tmp_path / "single.png")
    (tmp_path / "table.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    (tmp_path / "deep.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name in ("single.png", "table.parquet", "deep.h5"):
        with pytest.raises(DataError, match=r"none of what can be read, a folder, zip or tar.*or an \.npz") as refused:
            load(tmp_path / name)
        assert "pickle" not in str(refused.value)
        assert len(str(refused.value)) < 300


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write(tmp_path / "pictures" / f"{name}.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load("~/pictures").pixels) == 2


def test_torchvision_without_a_root() -> None:
    with pytest.raises(DataError, match=r"'cifar10' needs data\.root"):
        load("cifar10")


def test_what_may_not_be_read_is_named() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    # A folder of its own, since pytest's are closed to others.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("cat/a.png", "cat/b.png", "cat/c.png", "dog/d.png"):
            write(folder / file)
        folder.chmod(0o755)
        (folder / "cat" / "c.png").chmod(0)
        (folder / "dog").chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(
                DataError, match=r"cat/c\.png' cannot be opened \(Permission denied\): remove it, or set"
            ):
                decode(DataSettings(source=name))
            skipped = decode(DataSettings(source=name, on_corrupt="skip"))
        finally:
            os.seteuid(0)
    assert len(skipped.pixels) == 2
    assert set(skipped.left_out.describe().split("; ")) == {
        "1 folders that cannot be read (dog)",
        "1 that cannot be opened (Permission denied) (cat/c.png)",
    }


def test_patches_are_squares_of_the_photographs_side_by_side() -> None:
    from sklearn.datasets import load_sample_image

    found = decode(DataSettings(source="patches"))
    assert found.pixels.shape == (2 * 53 * 80, 3, 8, 8)
    assert found.labels is not None
    assert np.bincount(found.labels).tolist() == [53 * 80] * 2
    for label, name in enumerate(("china.jpg", "flower.jpg")):
        photograph = load_sample_image(name)
        second_of_the_second_row = found.pixels[label * 53 * 80 + 81]
        assert np.array_equal(np.moveaxis(second_of_the_second_row, 0, 2), photograph[8:16, 8:16])
    assert decode(DataSettings(source="patches", channels=1)).pixels.shape[1] == 1


@pytest.mark.parametrize("source", ["/dev/null", "/dev/zero"])
def test_a_device_is_no_source(source: str) -> None:
    with pytest.raises(DataError, match="neither a file or folder nor one of digits"):
        load(Path(source))
