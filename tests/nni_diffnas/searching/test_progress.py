"""Time left is said when it is known; a bar is drawn on a terminal only."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from nni_diffnas.api.trial import UNRANKED, Origin, Trial
from nni_diffnas.searching.progress import Pace, progress_bar, score_line

ROOT = Path(__file__).resolve().parents[3]
BAR = (
    "import time\n"
    "from nni_diffnas.searching.progress import progress_bar\n"
    "with progress_bar('training', 3) as advance:\n"
    "    advance(2); time.sleep(0.2); advance(1)\n"
    "print('done')\n"
)


def test_the_pace_counts_what_runs_beside_each_other() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    now = 40.0
    assert pace.step(9, at_once=2) == ""  # the other worker may be much slower
    assert pace.step(8, at_once=2) == "about 2.7 min left"
    now = 100.0
    assert pace.step(1, at_once=2) == "about 33 s left"
    assert pace.step(0) == ""
    assert pace.step(None) == ""
    now = 160.0
    assert pace.step(2, steps=3) == "about 40 s left"


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"rfid": 12.345, "rfid@50": 14.0}, "rfid 12.35"),
        ({UNRANKED: 1.0, "loss@25": 0.5, "loss@50": 0.0512345, "seconds": 9.0}, "stopped at 50 % with loss 0.05123"),
        ({UNRANKED: 1.0, "block_loss": 0.1}, "measured"),
    ],
)
def test_a_trial_that_was_stopped_is_told_as_such(metrics: dict[str, float], said: str) -> None:
    assert score_line(Trial("0001", "e", {}, Origin("RandomSearch", "random")).succeeded(metrics), "rfid") == said


def test_there_is_one_bar_whose_time_left_is_honest() -> None:
    files = [file for wing in ("nni_diffnas", "strategies", "evaluators") for file in (ROOT / wing).rglob("*.py")]
    assert [file.name for file in files if "rich.progress" in file.read_text()] == ["progress.py"]


def test_nothing_is_drawn_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with progress_bar("training", 2) as advance:
        advance(1)
    assert stderr.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", BAR], stderr=follower, stdout=subprocess.PIPE, timeout=120, env=environment
    )
    os.close(follower)
    drawn = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.stdout.decode().strip() == "done"
    assert "training" in drawn
    assert "3/3" in drawn
    assert "about 0 s left" in drawn  # after 2 steps
