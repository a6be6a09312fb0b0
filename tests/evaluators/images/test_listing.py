"""What lies in folders and archives of all makers, and what is told of it."""

import gzip
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import load, write
from PIL import Image

from nni_diffnas.api.errors import DataError
from nni_diffnas.evaluators.images.listing import list_pictures, opened


def test_an_archive_whose_index_is_damaged_is_refused(tmp_path: Path) -> None:
    packed = tmp_path / "pictures.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        write(tmp_path / "one.png", value=40)
        archive.write(tmp_path / "one.png", "cat/0.png")
    packed.write_bytes(packed.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(DataError, match=r"cannot be unpacked .*: pack the images again"):
        load(packed)


def test_a_packed_tar_that_is_damaged_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.png", value=40)
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        archive.add(tmp_path / "one.png", "cat/one.png")
    to_its_end = gzip.compress((tmp_path / "one.tar").read_bytes().rstrip(b"\0") + bytes(512))
    for damaged in (to_its_end[:-8] + bytes(8), to_its_end[:40]):  # the sum, then the end
        (tmp_path / "one.tar.gz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"cannot be unpacked .*: pack the images again"):
            load(tmp_path / "one.tar.gz")


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


def test_a_class_without_images_is_told(tmp_path: Path) -> None:
    """It has no number: the classes behind it are numbered as if it were not there."""
    for index, name in enumerate(("cat/a.png", "dog/b.png")):
        write(tmp_path / name, value=40 + index)
    for name in ("cow", ".git/refs"):
        (tmp_path / name).mkdir(parents=True)
    left_out = load(tmp_path).left_out
    assert "1 empty folders (cow)" in left_out
    assert "1 hidden (.git/refs)" in left_out


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
    with pytest.raises(DataError, match=r"are damaged .*: delete its folders sources-3 and images-2"):
        load(tmp_path / "data")


def test_images_without_pixels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 0, 8), dtype=np.uint8))
    with pytest.raises(DataError, match="have no pixels"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_two_members_of_one_name_the_later_counts_and_the_other_is_told(tmp_path: Path, kind: str) -> None:
    for value, name in enumerate("abc"):
        write(tmp_path / f"{name}.png", value=value)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped, tarfile.open(tmp_path / "x.tar", "w") as tarred:
        for name, file in (("1.png", "a"), ("2.png", "b"), ("1.png", "c")):
            zipped.write(tmp_path / f"{file}.png", name)
            tarred.add(tmp_path / f"{file}.png", name)
    listing = list_pictures(tmp_path / f"x.{kind}")
    assert [name for name, _ in listing.pictures] == ["1.png", "2.png"]
    assert listing.left_out.describe() == "1 replaced by a later one of that name (1.png)"
    with opened(tmp_path / f"x.{kind}") as read:
        assert read("1.png").read() == (tmp_path / "c.png").read_bytes()


def test_links_within_an_archive_are_read_as_what_they_stand_for_or_told(tmp_path: Path) -> None:
    for value, name in enumerate("abc"):
        write(tmp_path / "in" / f"{name}.png", value=40 + value)
    os.link(tmp_path / "in" / "a.png", tmp_path / "in" / "second.png")  # tar packs the content once
    (tmp_path / "in" / "soft.png").symlink_to("b.png")
    with tarfile.open(tmp_path / "x.tar", "w") as tarred:
        tarred.add(tmp_path / "in", "in")
        for name, target in (("itself.png", "itself.png"), ("gone.png", "in/nothing.png"), ("out.png", "/etc/passwd")):
            member = tarfile.TarInfo(f"in/{name}")
            member.type, member.linkname = tarfile.LNKTYPE, f"in/{target}" if target == name else target
            tarred.addfile(member)
    listing = list_pictures(tmp_path / "x.tar")
    assert [name for name, _ in listing.pictures] == ["in/a.png", "in/b.png", "in/c.png", "in/second.png"]
    assert listing.left_out.describe() == "4 links (in/soft.png, in/itself.png, in/gone.png, ...)"
    with opened(tmp_path / "x.tar") as read:
        assert read("in/second.png").read() == read("in/a.png").read() == (tmp_path / "in" / "a.png").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.write(tmp_path / "in" / "a.png", "a.png")
        info = zipfile.ZipInfo("soft.png")
        info.external_attr = 0o120777 << 16
        zipped.writestr(info, "a.png")
    listing = list_pictures(tmp_path / "x.zip")
    assert ([name for name, _ in listing.pictures], listing.left_out.describe()) == (["a.png"], "1 links (soft.png)")


def test_a_link_that_the_system_does_not_follow_is_dead(tmp_path: Path) -> None:
    """Nor one into a closed folder, which no test as root can show."""
    write(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("x" * 300)
    assert list_pictures(tmp_path).left_out.describe() == "1 dead links (b.png)"
