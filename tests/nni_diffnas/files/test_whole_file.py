"""A file appears whole or not at all, however many write it and whoever is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nni_diffnas.files.whole_file import written_whole

WRITER = """
import sys
from pathlib import Path
from nni_diffnas.files.whole_file import written_whole

for _ in range(200):
    with written_whole(Path(sys.argv[1])) as draft, draft.open("w") as file:
        for _ in range(100):
            file.write(sys.argv[2] * 100)
            file.flush()
"""


def test_several_writers_leave_one_whole_file_and_no_drafts(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(file), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            assert file.read_text() in ("a" * 10_000, "b" * 10_000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [found.name for found in tmp_path.iterdir()] == ["scores.json"]


def test_what_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("before")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background has not

    def interrupted() -> None:
        with written_whole(file) as draft:
            draft.write_text("half")
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "before"
    assert [found.name for found in tmp_path.iterdir()] == ["scores.json"]
