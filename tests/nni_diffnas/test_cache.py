"""The cache: entries appear whole, are made once, by one process."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nni_diffnas.api.errors import DataError
from nni_diffnas.cache import cache_folder, cached_folder, fingerprint


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNI_DIFFNAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


MAKE_SLOWLY = """
import sys, time
from nni_diffnas.cache import cached_folder

def make(folder):
    with open(sys.argv[1], "a") as file:
        file.write("made\\n")
    time.sleep(0.3)
    (folder / "content").write_text("whole")

print((cached_folder("kind/entry", make) / "content").read_text())
"""


def test_processes_make_an_entry_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE_SLOWLY, str(tmp_path / "log")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["whole\n"] * 3
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_failure_leaves_nothing_behind(cache: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        cached_folder("kind/entry", fail)
    assert not list(cache.rglob("half"))
    assert cached_folder("kind/entry", lambda folder: (folder / "x").touch()).is_dir()


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NNI_DIFFNAS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataError, match=r"file/cache.*NNI_DIFFNAS_CACHE"):
        cache_folder()


def test_fingerprints_follow_content() -> None:
    assert fingerprint("a", (1, 2)) == fingerprint("a", (1, 2))
    assert fingerprint("a", (1, 2)) != fingerprint("a", (1, 3))


def test_another_user_reads_an_entry_and_is_told_where_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    # A folder of its own, since pytest's are closed to others.
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        monkeypatch.setenv("NNI_DIFFNAS_CACHE", f"{name}/cache")
        cached_folder("kind/entry", lambda folder: (folder / "x").write_text("known") and None)
        os.seteuid(65534)
        try:
            assert (cached_folder("kind/entry", lambda folder: None) / "x").read_text() == "known"
            for missing in ("kind/another", "new/entry"):
                with pytest.raises(DataError, match=r"cannot be written \(Permission denied\).*NNI_DIFFNAS_CACHE"):
                    cached_folder(missing, lambda folder: None)
        finally:
            os.seteuid(0)


def test_a_user_without_a_home_is_told_what_to_set() -> None:
    """As in a container that runs under a number nobody has given a name: neither HOME nor an entry in passwd."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    code = """
import os, pwd
from nni_diffnas.cache import cache_folder
os.setuid(54321)
try:
    cache_folder()
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {"PATH": os.environ["PATH"]}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("DataError This user has no home folder")
    assert "set NNI_DIFFNAS_CACHE to a folder" in ended.stdout
