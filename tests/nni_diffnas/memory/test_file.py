"""Which files SearchMemory refuses, that it leaves them untouched; those of version 0.1 it uses."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nni_diffnas.api.errors import MemoryFileError
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.memory import SearchMemory

SPACE = Space({"width": tuple(range(64))})


def fill(path: Path, count: int = 64) -> bytes:
    """Write a memory and return its bytes."""
    with SearchMemory(path) as memory:
        for i in range(count):
            trial = Trial(str(i), "first", {"width": i % 64}, Origin("random", "random"))
            memory.add(trial.succeeded({"rfid": float(i)}), SPACE)
    return path.read_bytes()


def refused(path: Path, message: str, *, create: bool = True) -> None:
    """Assert that the memory is refused in one sentence and that nothing in its folder has changed."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with pytest.raises(MemoryFileError, match=message) as raised:
        SearchMemory(path, create=create)
    assert {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()} == before
    text = str(raised.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text


def test_a_text_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    for content in ("a: job\n", "sql", "x" * 5000, "SQLite format 4\0" + "x" * 200):
        path.write_text(content)
        refused(path, "not a search memory")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.touch()
    refused(path, "empty file")


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_another_programs_database_is_left_as_it_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "memory.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE trials (id)")
    connection.close()
    refused(path, "another program's SQLite file")


@pytest.mark.parametrize("kept", [17, 99, 100, 1000, 4096, 4097, 8192, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "memory.db"
    whole = fill(path)
    length = int(len(whole) * kept) if isinstance(kept, float) else int(kept) % len(whole)
    path.write_bytes(whole[:length])
    refused(path, "cut off")


def test_a_large_truncated_file_with_a_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nni_diffnas.memory.file.CHECKED_BYTES", 0)  # as if its pages took too long to read
    path = tmp_path / "memory.db"
    whole = fill(path)
    path.with_name("memory.db-wal").touch()
    path.write_bytes(whole[:-4096])
    with pytest.raises(MemoryFileError, match="cut off"):
        SearchMemory(path)
    assert path.read_bytes() == whole[:-4096]


def test_a_file_whose_names_are_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(fill(path).replace(b"tablespaces", b"tablespa\xb5es"))
    with pytest.raises(MemoryFileError, match="is damaged"):
        SearchMemory(path)


def test_a_file_with_overwritten_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    whole = fill(path)
    damaged = whole[:4096] + b"\xff" * 8192 + whole[3 * 4096 :]
    path.write_bytes(damaged)
    with pytest.raises(MemoryFileError, match="is damaged") as raised:
        SearchMemory(path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == damaged


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    fill(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    refused(path, "schema version 99")


def test_missing_things_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "memory.db", "no search memory", create=False)
    with pytest.raises(MemoryFileError, match="does not exist: create it first"):
        SearchMemory(tmp_path / "missing" / "memory.db")
    with pytest.raises(MemoryFileError, match="is a folder"):
        SearchMemory(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_no_memory() -> None:
    with pytest.raises(MemoryFileError, match="device"):
        SearchMemory(os.devnull)


def test_the_log_of_a_lost_memory_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "memory.db-wal").write_bytes(b"frames of another file")
    with pytest.raises(MemoryFileError, match="belongs to a search memory that is gone"):
        SearchMemory(tmp_path / "memory.db")
    assert not (tmp_path / "memory.db").exists()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_memory_is_refused(what: str) -> None:
    # A folder of its own, since pytest's are closed to others: root may write anywhere, so it becomes nobody.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "memory.db"
        fill(path)
        path.chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        user = os.geteuid()
        os.seteuid(65534 if user == 0 else user)
        try:
            refused(path, "cannot be written")
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


def test_a_second_connection_of_the_process_leaves_the_first_its_locks(tmp_path: Path) -> None:
    """POSIX drops a process's locks on a file when any of its descriptors closes: then another process would remove
    the log under the first connection."""
    path = tmp_path / "memory.db"
    code = f"from nni_diffnas.memory import SearchMemory; SearchMemory({str(path)!r}).close()"
    with SearchMemory(path) as first:
        first.add(Trial("a", "first", {"width": 1}, Origin("random", "random")), SPACE)
        SearchMemory(path)  # stays open: SQLite itself closes its descriptors with care, a raw one would do the harm
        subprocess.run([sys.executable, "-c", code], check=True)
        assert path.with_name("memory.db-wal").exists()
        first.add(Trial("b", "first", {"width": 2}, Origin("random", "random")), SPACE)
        read = f"print(len({code.split('; ')[1].removesuffix('.close()')}.trials()))"
        output = subprocess.run(
            [sys.executable, "-c", f"from nni_diffnas.memory import SearchMemory; {read}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    assert output.strip() == "2"


def test_a_full_disk_is_reported_and_nothing_is_half_written(tmp_path: Path) -> None:
    with SearchMemory(tmp_path / "memory.db") as memory:
        memory._run("PRAGMA max_page_count = 40")
        added: list[str] = []

        def add_for_ever() -> None:
            while True:
                memory.add(Trial(str(len(added)), "first", {"width": 1}, Origin("random", "random")), SPACE)
                added.append(str(len(added)))

        with pytest.raises(MemoryFileError, match="full"):
            add_for_ever()
        assert [trial.id for trial in memory.trials()] == [event.trial for event in memory.events()] == added
        memory._run("PRAGMA max_page_count = 4000")
        memory.add(Trial("later", "first", {"width": 1}, Origin("random", "random")), SPACE)


def test_a_memory_of_version_0_1_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    fill(path, 3)
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "ALTER TABLE trials ADD COLUMN finished INTEGER; CREATE TABLE boards (id INTEGER PRIMARY KEY); "
            "PRAGMA user_version = 1"
        )
    connection.close()
    with SearchMemory(path, create=False) as memory:
        memory.add(Trial("more", "second", {"width": 1}, Origin("random", "random")), SPACE)
        assert [trial.id for trial in memory.trials()] == ["0", "1", "2", "more"]
        assert memory._run("PRAGMA user_version") == [(1,)]
