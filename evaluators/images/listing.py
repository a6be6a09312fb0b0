"""What lies in a folder, a zip or a tar: the pictures with their classes, and all that is left out, by name."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nni_diffnas.api.errors import DataError
from nni_diffnas.process.terminal import printable

__all__ = ["SUFFIXES", "LeftOut", "Listing", "is_archive", "list_pictures", "opened"]

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_CLUTTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"})
"""What file managers leave everywhere: nobody means it to be a picture."""

_DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError,
    UnicodeError,
)  # fmt: skip
"""What reading an archive raises that is cut off, encrypted or of another kind."""

_DEEP = "in folders within class folders"

_NAMED = 3
"""Of the files that are left out for one reason, so many are named."""


@dataclass
class LeftOut:
    """Files that are not among the images.

    Args:
        counts: number of files by reason.
        names: the first of them by reason, one more than is shown.
    """

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Count a file, or so many frames of one."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        if len(named := self.names.setdefault(reason, [])) <= _NAMED:
            named.append(printable(name))

    def describe(self) -> str:
        """All of it in one line; empty where nothing is left out."""
        parts = []
        for reason, count in self.counts.items():
            more = ", ..." if len(self.names[reason]) > _NAMED else ""
            parts.append(f"{count} {reason} ({', '.join(self.names[reason][:_NAMED])}{more})")
        return "; ".join(parts)


@dataclass(frozen=True)
class Listing:
    """Pictures of a source, sorted by class and name.

    Args:
        pictures: path below the source and name of the class folder (empty: none) of each.
        left_out: all other files.
    """

    pictures: tuple[tuple[str, str], ...]
    left_out: LeftOut


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar of anything but NumPy's arrays."""
    if path.suffix == ".npz" or not path.is_file():
        return False
    with suppress(*_DAMAGED):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return not any(name.endswith(".npy") for name in archive.namelist())
        return tarfile.is_tarfile(path)
    return True  # whoever unpacks it says what is wrong


def list_pictures(source: Path) -> Listing:
    """List a folder or an archive.

    Raises:
        DataError: pictures lie beside class folders, or there are none.
    """
    left_out = LeftOut()
    found = sorted(_sound(_folder_files(source) if source.is_dir() else _members(source), left_out))
    shared = {name.parts[0] for name in found}
    # An archive often holds the one folder that was packed.
    top = 1 if not source.is_dir() and len(shared) == 1 and all(len(name.parts) > 1 for name in found) else 0
    pictures: list[tuple[str, str]] = []
    for name in found:
        below = name.parts[top:]
        if len(below) > 2:
            left_out.add(_DEEP, str(name))
        else:
            pictures.append((str(name), below[0] if len(below) == 2 else ""))
    direct = next((name for name, kind in pictures if not kind), None)
    nested = next((kind for _, kind in pictures if kind), None)
    if direct and nested:
        raise DataError(
            f"data.source {str(source)!r} holds images ({PurePosixPath(direct).name}) beside class folders ({nested}): "
            f"use either."
        )
    if not pictures and left_out.counts.get(_DEEP) == len(found) > 0:
        raise DataError(
            f"data.source {str(source)!r} holds images in folders within folders only ({left_out.names[_DEEP][0]}): "
            f"name the folder that holds the class folders, such as {str(source / found[0].parts[top])!r}."
        )
    if not pictures:
        but = f", only {left_out.describe()}" if left_out.counts else ""
        raise DataError(
            f"data.source {str(source)!r} holds no images{but}: put {', '.join(sorted(SUFFIXES))} files into it, or "
            f"into one folder for each class."
        )
    return Listing(tuple(sorted(pictures, key=lambda picture: (picture[1], picture[0]))), left_out)


def _sound(names: Iterator[tuple[PurePosixPath, str]], left_out: LeftOut) -> Iterator[PurePosixPath]:
    """Files that are pictures by their name; the others are counted."""
    for name, problem in names:
        if _CLUTTER & set(name.parts):
            continue
        if problem:
            left_out.add(problem, str(name))
        elif any(part.startswith(".") for part in name.parts):
            left_out.add("hidden", str(name))
        elif name.suffix.lower() not in SUFFIXES:
            left_out.add("without the suffix of an image", str(name))
        else:
            yield name


def _folder_files(folder: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Files at any depth, links to files and to folders followed (in circles nobody walks)."""
    seen: set[tuple[int, int]] = set()
    closed: list[OSError] = []
    for at, folders, files in os.walk(folder, onerror=closed.append, followlinks=True):
        state = os.stat(at)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            if at != str(folder):
                yield PurePosixPath(os.path.relpath(at, folder)), "links to a folder that is among them already"
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        if not folders and not files and at != str(folder):
            below = PurePosixPath(os.path.relpath(at, folder))
            yield below, "" if any(part.startswith(".") for part in below.parts) else "empty folders"
        for name in files:
            path = Path(at) / name
            yield PurePosixPath(path.relative_to(folder).as_posix()), "" if os.path.isfile(path) else "dead links"
    for error in closed:
        yield PurePosixPath(os.path.relpath(error.filename, folder)), "folders that cannot be read"


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, str]]:
    """Files of a zip or tar; nothing is unpacked, and what is named as lying outside is left out."""
    with _archive(archive) as (names, _):
        seen: set[str] = set()
        for path, is_link in names:
            name = PurePosixPath(path)
            if name.is_absolute() or ".." in name.parts:
                yield name, "that are named as lying outside"
            elif is_link:
                yield name, "links"
            else:
                yield name, "replaced by a later one of that name" if path in seen else ""
            seen.add(path)


def _is_file(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Whether a member is a file, under its own name or as a second name of one that tar has packed once."""
    if not member.islnk():
        return member.isfile()
    with suppress(KeyError):
        return archive.getmember(member.linkname).isfile()
    return False


@contextmanager
def _archive(path: Path) -> Iterator[tuple[Sequence[tuple[str, bool]], Callable[[str], BinaryIO]]]:
    """Names of an archive's members, whether each is a link, and what reads a file.

    Raises:
        DataError: it is damaged or encrypted.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                # Some packers of Windows write its own separator, against the format.
                named = ((info.filename.replace("\\", "/"), info) for info in packed.infolist())
                listed = [(str(PurePosixPath(name)), info) for name, info in named if not name.endswith("/")]
                files = dict(listed)
                links = [(name, stat.S_ISLNK(info.external_attr >> 16)) for name, info in listed]
                yield links, lambda name: io.BytesIO(packed.read(files[name]))
        else:
            with tarfile.open(path) as tarred:
                found = [(str(PurePosixPath(each.name)), each) for each in tarred.getmembers() if not each.isdir()]
                members = dict(found)

                def read(name: str) -> BinaryIO:
                    content = tarred.extractfile(members[name])
                    return io.BytesIO(b"" if content is None else content.read())

                yield [(name, not _is_file(tarred, member)) for name, member in found], read
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"data.source {str(path)!r} cannot be unpacked ({reason}): pack the images again.") from error


@contextmanager
def opened(source: Path) -> Iterator[Callable[[str], BinaryIO]]:
    """What opens the pictures of a listing by their names."""
    if source.is_dir():
        yield lambda name: (source / name).open("rb")
        return
    with _archive(source) as (_, read):
        yield read
