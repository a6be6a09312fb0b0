"""SearchMemory under load: many writing processes, and a writer that is killed in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import memories
import pytest
from memories import SPACE

from nni_diffnas.memory import SearchMemory


def start(path: Path, number: int, count: int) -> subprocess.Popen[str]:
    """A process of its own: opens the memory (creating it, if it is first) and writes."""
    return subprocess.Popen(
        [sys.executable, memories.__file__, str(path), str(number), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_from_eight_processes(path: Path, count: int) -> None:
    """Let 8 processes write ``count`` trials each."""
    writers = [start(path, name, count) for name in range(8)]
    assert [writer.communicate()[1] for writer in writers] == [""] * 8


def check(memory: SearchMemory, count: int) -> None:
    """Assert that nothing of what 8 processes wrote is missing."""
    trials = memory.trials(status="succeeded")
    assert {trial.id for trial in trials} == {f"{name}-{i}" for name in range(8) for i in range(count)}
    assert len(trials) == 8 * count
    assert memory._run("SELECT count(*) FROM events") == [(16 * count,)]
    assert memory._run("PRAGMA integrity_check") == [("ok",)]
    assert sorted(trial.metrics["rfid"] for trial in trials) == list(range(8 * count))
    assert all(len(memory.trials(f"experiment{name}")) == count for name in range(8))


def test_eight_processes_share_one_new_file(tmp_path: Path) -> None:
    write_from_eight_processes(tmp_path / "memory.db", 60)
    assert [file.name for file in tmp_path.iterdir()] == ["memory.db"]
    with SearchMemory(tmp_path / "memory.db", create=False) as memory:
        check(memory, 60)


def steps_of(memory: SearchMemory, question: Callable[[], object]) -> int:
    """Instructions of SQLite's virtual machine that an answer takes."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    connection = memory._file._connection
    assert connection is not None
    connection.set_progress_handler(count, 1)
    question()
    connection.set_progress_handler(None, 1)
    return counted


def test_looking_for_an_architecture_costs_the_same_for_ten_times_the_trials(tmp_path: Path) -> None:
    steps: list[int] = []
    for count in (60, 600):
        write_from_eight_processes(tmp_path / f"{count}.db", count)
        with SearchMemory(tmp_path / f"{count}.db", create=False) as memory:
            check(memory, count)
            known = memory.trials("experiment3")[0]
            key = SPACE.key_of(known.architecture)
            assert memory.find(SPACE.key, key, known.protocol) == [known]
            steps.append(steps_of(memory, partial(memory.find, SPACE.key, key, known.protocol)))
    assert steps[1] <= 1.2 * steps[0], steps


@pytest.mark.parametrize("after", [1, 37, 150])
def test_what_a_killed_writer_has_acknowledged_is_kept(tmp_path: Path, after: int) -> None:
    path = tmp_path / "memory.db"
    writer = start(path, 0, 100_000)
    other = start(path, 1, 100)
    assert writer.stdout is not None
    for _ in range(after):
        acknowledged = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else acknowledged
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert other.communicate()[1] == ""
    with SearchMemory(path, create=False) as memory:
        assert memory._run("PRAGMA integrity_check") == [("ok",)]
        kept = memory.trials(experiment="experiment0")
        done = [trial for trial in kept if trial.status == "succeeded"]
        assert [trial.id for trial in done[: acknowledged + 1]] == [f"0-{i}" for i in range(acknowledged + 1)]
        assert acknowledged + 1 <= len(done) <= len(kept) <= acknowledged + 3  # at most one step went unheard
        assert len(memory.trials(experiment="experiment1", status="succeeded")) == 100
        memory.add(kept[0].failed("tried again"), SPACE)
