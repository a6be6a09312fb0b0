"""The cache folder that all trials on a machine share: entries appear whole or not at all, and are made once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from .api.errors import DataError

__all__ = ["cache_folder", "cached_bytes", "cached_folder", "fingerprint"]


_REMEDY = "set NNI_DIFFNAS_CACHE to a folder that you may write to"


def cache_folder() -> Path:
    """Return the cache folder, made where missing.

    ``NNI_DIFFNAS_CACHE`` where it is set, else ``nni-diffnas`` in the platform's folder for caches.

    Raises:
        DataError: the folder cannot be made, or nobody knows where.
    """
    try:
        folder = _place()
    except RuntimeError as error:
        raise DataError(f"This user has no home folder to keep the cache in ({error}): {_REMEDY}.") from error
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _place() -> Path:
    named = os.environ.get("NNI_DIFFNAS_CACHE")
    if named:
        return Path(named).expanduser()
    place = user_cache_path("nni-diffnas", appauthor=False)
    if not place.is_absolute():  # a "~" is left where nobody knows what it stands for
        raise RuntimeError(f"{str(place)!r} is nowhere")
    return place


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Say in a sentence that a part of the cache cannot be written, and what helps."""
    try:
        yield
    except OSError as error:
        raise DataError(f"The cache {str(place)!r} cannot be written ({error.strerror}): {_REMEDY}.") from error


def fingerprint(*parts: object) -> str:
    """Sixteen hexadecimal digits that name ``parts`` by their ``repr``: equal for equal parts on every machine."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the system releases it even when the holder is killed."""
    from filelock import FileLock

    # Whoever shares the cache has to take the same lock; what may really be written there, the folder says.
    lock = FileLock(path, mode=0o666)
    with _writing(path.parent):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def cached_folder(name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder ``name`` of the cache; where it is missing, let ``make`` fill it, in one process only.

    Args:
        name: relative path, e.g. ``data/0123abcd``; must name its content, since an entry never changes.
        make: fills the empty folder that it is given. What it leaves when it raises is thrown away.
    """
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    with _writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(folder.name + ".lock")):
        if folder.is_dir():
            return folder
        with _writing(folder.parent):
            unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            make(unfinished)
            with _writing(folder.parent):
                unfinished.chmod(folder.parent.stat().st_mode & 0o777)  # mkdtemp's is for its maker's eyes only
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def cached_bytes(name: str, make: Callable[[], bytes]) -> bytes:
    """Return the content ``name`` of the cache; where it is missing, let ``make`` make it, in one process only.

    For those who may not touch files themselves: strategies keep what they have trained this way.
    """

    def fill(folder: Path) -> None:
        (folder / "content").write_bytes(make())

    return (cached_folder(name, fill) / "content").read_bytes()
