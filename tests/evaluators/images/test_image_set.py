"""Images by name and by path, and the sentence for each kind of bad data."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nni_diffnas.api.errors import DataError
from nni_diffnas.evaluators.images.image_set import ImageSet, images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.evaluators.images.sources import decode


def load(source: object, **options: Any) -> ImageSet:
    few = {} if source == "digits" else {"held_out": 0}
    return images(DataSettings(source=str(source), **{**few, **options}))


def write(path: Path, size: tuple[int, int] = (6, 6), mode: str = "RGB", value: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).convert(mode).save(path)


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


def test_size_and_channels_convert_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "wide.png", (12, 6), "RGB", 200)
    write(tmp_path / "grey.png", (6, 6), "L", 200)
    data = load(tmp_path, size=4, channels=1)
    assert data.pixels.shape == (2, 1, 4, 4)
    assert (data.pixels == 200).all()


def test_transparency_becomes_white(tmp_path: Path) -> None:
    for name in "ab":
        Image.fromarray(np.zeros((4, 4, 4), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    assert (load(tmp_path).pixels == 255).all()


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 6, 7, 3), (5, 3, 6, 7), (5, 6, 7, 1)])
def test_npz_layouts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros(shape, np.uint8), labels=np.array([3, 3, 9, 9, 3], np.uint8))
    data = load(tmp_path / "x.npz", held_out=0)
    assert data.shape == (3 if 3 in shape else 1, 6, 7)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1, 0]
    assert data.class_numbers.tolist() == [3, 9]


def test_npz_keys_of_mnist(tmp_path: Path) -> None:
    arrays = {"train_images": np.zeros((4, 5, 5), np.uint8), "train_labels": np.array([0, 1, 0, 1], np.uint8)}
    np.savez(tmp_path / "x.npz", **arrays, test_images=np.ones((3, 5, 5), np.uint8))
    assert load(tmp_path / "x.npz").classes == 2
    tested = load(tmp_path / "x.npz", key="test_images")
    assert (tested.labels, len(tested.pixels)) == (None, 3)


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
    with pytest.raises(DataError, match=r"x\.npz.*cannot be read as an npz"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", images=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match=r"\(it holds Python objects\): write it with numpy\.savez"):
        load(tmp_path / "y.npz")


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


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


def test_images_are_described(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=noise(5, 4, 6), labels=np.array([3, 7, 3, 7, 7]))
    data = load(tmp_path / "x.npz")
    mean = round(float(data.pixels.mean()))
    assert data.describe() == [
        f"5 images of 6x4 pixels in grey, 0 of them held out; pixels are {data.pixels.min()} to {data.pixels.max()}, "
        f"{mean} on average",
        "2 classes: 3, 7",
    ]


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("cat/a.png", "cat/b.jfif", "cat/c.png", "dog/part1/d.png", "dog/part1/e.png", "dog/part2/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(4, 4, 3)).save(tmp_path / name, "JPEG" if name.endswith("jfif") else "PNG")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "cat" / "notes.txt").write_text("two of them sleep")
    (tmp_path / ".DS_Store").write_text("clutter")
    frames = [Image.fromarray(noise(4, 4, 3)) for _ in range(3)]
    frames[0].save(tmp_path / "cat" / "z.tiff", save_all=True, append_images=frames[1:])
    data = load(tmp_path)
    assert (len(data.pixels), data.class_names) == (4, ("cat",))
    found = set(data.left_out.split("; "))
    assert found == {
        "3 in folders within class folders (dog/part1/d.png, dog/part1/e.png, dog/part2/f.png)",
        "1 dead links (cat/gone.png)",
        "1 without the suffix of an image (cat/notes.txt)",
        "2 further frames (cat/z.tiff)",
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
    assert data.numbers_of(np.arange(6)).tolist() == [1, 1, 10, 10, 2, 2]  # type: ignore[union-attr]
    assert sorted(data.numbers_in_turn(4).tolist()) == [1, 1, 2, 10]  # type: ignore[union-attr]
    in_turn = load(tmp_path, class_numbers="in_turn")
    assert in_turn.class_numbers.tolist() == [0, 1, 2]
    assert in_turn.content == data.content
    assert in_turn.split != data.split


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write(tmp_path / "pictures" / f"{name}.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load("~/pictures").pixels) == 2


def test_large_scans_are_shrunk(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("1", (14_000, 14_000), 1).save(tmp_path / f"{name}.png")
    assert load(tmp_path, size=16).pixels.shape == (2, 1, 16, 16)
    assert Image.MAX_IMAGE_PIXELS is not None


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


def test_a_zip_of_windows_has_folders_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for index, name in enumerate(("cat\\a.png", "cat\\b.png", "dog\\c.png")):
            write(tmp_path / "one.png", value=40 + index)
            info = zipfile.ZipInfo()
            info.filename = name  # the constructor would turn the separators
            archive.writestr(info, (tmp_path / "one.png").read_bytes())
    assert load(tmp_path / "packed.zip").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("7", "007"), "two classes of one number"),
        (("1", "9" * 30), "a class of number 9999"),
        (("0", "00"), "two classes"),
    ],
)
def test_class_numbers_that_cannot_be_meant(names: tuple[str, str], said: str, tmp_path: Path) -> None:
    for index, name in enumerate(names):
        write(tmp_path / name / "a.png", value=40 + index)
    with pytest.raises(DataError, match=said):
        load(tmp_path)
    assert load(tmp_path, class_numbers="in_turn").classes == 2


def test_a_class_that_is_a_link_to_another_is_told(tmp_path: Path) -> None:
    for index in range(2):
        write(tmp_path / "cat" / f"{index}.png", value=40 + index)
    (tmp_path / "dog").symlink_to("cat")
    assert "1 links to a folder that is among them already (dog)" in load(tmp_path).left_out


def test_the_layout_of_imagenet_names_the_folder_to_give(tmp_path: Path) -> None:
    for index, name in enumerate(("train/cat/a.png", "train/dog/b.png", "val/cat/c.png")):
        write(tmp_path / name, value=40 + index)
    with pytest.raises(DataError, match=r"in folders within folders only \(train/cat/a\.png\): name .*/train'"):
        load(tmp_path)


def test_a_workflow_beside_the_pixels_does_no_harm(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("workflow", "step " * 500_000, zip=True)
    for index in range(2):
        Image.new("L", (4, 4), 40 + index).save(tmp_path / f"{index}.png", pnginfo=info)
    assert len(load(tmp_path).pixels) == 2


def test_names_of_other_encodings_are_told_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", value=50)
    for name in (b"k\xff.txt", b"new\nline.txt", b"\x1b[2J.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    left_out = load(tmp_path).left_out
    assert left_out.isprintable()
    assert "k\\udcff.txt" in left_out


@pytest.mark.parametrize("harm", ["cut", "gone", "index"])
def test_a_damaged_cache_is_named_with_the_remedy(harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNI_DIFFNAS_CACHE", str(tmp_path / "cache"))
    for index in range(2):
        write(tmp_path / "data" / f"{index}.png", value=40 + index)
    load(tmp_path / "data")
    (pixels,) = (tmp_path / "cache").rglob("pixels.npy")
    (index_file,) = (tmp_path / "cache").rglob("index.json")
    if harm == "cut":
        pixels.write_bytes(pixels.read_bytes()[:-8])
    elif harm == "gone":
        shutil.rmtree(pixels.parent)
    else:
        index_file.write_text("")
    with pytest.raises(DataError, match=r"are damaged .*: delete its folders sources-2 and images-2"):
        load(tmp_path / "data")


def test_images_without_pixels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 0, 8), dtype=np.uint8))
    with pytest.raises(DataError, match="have no pixels"):
        load(tmp_path / "a.npz")
