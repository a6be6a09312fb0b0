"""What a trial leaves behind when it hangs, diverges, runs out of memory or disk, is replaced, or is run again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toy_family import ToyFamily

from nni_diffnas.api.ending import Ending
from nni_diffnas.api.errors import DataError, TrialFailure
from nni_diffnas.api.evaluation import Evaluation, TrialContext
from nni_diffnas.job import Job
from nni_diffnas.trial import run as trial_run
from nni_diffnas.trial.result_file import RESULT_FILE, TrialRecord, failure_in, reason_of
from nni_diffnas.trial.watchdog import watched

HANGS = {
    "asleep": "import time; time.sleep(60)",
    "in C, holding the interpreter": "import ctypes; ctypes.PyDLL(None).sleep(60)",
}
ATTEMPT = """
import sys
from pathlib import Path
from nni_diffnas.trial import watchdog
from nni_diffnas.trial.result_file import TrialRecord
watchdog._GRACE = 1.0
with watchdog.watched(TrialRecord(Path("."), "t0"), MAX):
    BODY
"""


def attempt(folder: Path, body: str, max_seconds: float | None) -> subprocess.Popen[str]:
    script = ATTEMPT.replace("BODY", body).replace("MAX", str(max_seconds))
    return subprocess.Popen([sys.executable, "-c", script], cwd=folder, stderr=subprocess.PIPE, text=True)


def failure(folder: Path) -> str:
    return str(TrialRecord.read(folder / RESULT_FILE).get("failure"))


@pytest.mark.parametrize("hang", HANGS)
def test_a_hang_ends_at_the_time_limit_and_says_where_it_was(hang: str, tmp_path: Path) -> None:
    process = attempt(tmp_path, HANGS[hang], 1.0)
    _, stderr = process.communicate(timeout=50)
    assert process.returncode == 1
    assert "<string>" in stderr, stderr  # the stacks
    if hang == "asleep":
        assert failure(tmp_path) == "the trial took longer than max_trial_seconds: 1 (its stacks are in stderr)"


def test_a_trial_within_its_limit_is_left_alone(tmp_path: Path) -> None:
    process = attempt(tmp_path, "import time; time.sleep(0.2)", 30.0)
    assert process.communicate(timeout=50)[1] == ""
    assert process.returncode == 0


def test_a_trial_that_was_started_again_elsewhere_ends(tmp_path: Path) -> None:
    process = attempt(tmp_path, "import time; time.sleep(60)", None)
    until = time.monotonic() + 30
    while not (tmp_path / RESULT_FILE).exists() and time.monotonic() < until:
        time.sleep(0.1)
    TrialRecord(tmp_path, "t0").claim()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "started again" in stderr


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrialFailure("the loss is nan."), "the loss is nan."),
        (DataError("images.npz is cut off."), "images.npz is cut off."),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (MemoryError(), "out of memory: no more could be allocated"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "out of memory: libtorch_cpu.so: failed to map segment from shared object",
        ),
        (RuntimeError("CUDA out of memory. Tried 2 GiB"), "out of memory: CUDA out of memory. Tried 2 GiB"),
        (OSError(28, "No space left on device"), "the disk is full: [Errno 28] No space left on device"),
        (OSError("600 requested and 512 written"), "the disk is full: 600 requested and 512 written"),
    ],
)
def test_reasons(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


def test_torch_without_memory_is_out_of_memory() -> None:
    import torch

    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50)
    assert reason_of(raised.value).startswith("out of memory: ")


def test_the_reason_is_kept_when_no_file_may_grow(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"), watched(TrialRecord(tmp_path, "t0")):
            (tmp_path / "weights").write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failure(tmp_path).startswith("the disk is full: ")


def test_the_reason_is_kept_on_a_disk_without_a_free_byte(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        with pytest.raises(OSError, match="No space left"), watched(TrialRecord(disk, "t0")):
            (disk / "weights").write_bytes(bytes(1_000_000))
        assert os.statvfs(disk).f_bfree == 0
        assert failure(disk).startswith("the disk is full: ")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


class Toy(Evaluation):
    """Reports what it is told to, and counts."""

    def __init__(self, **metrics: float) -> None:
        self.metrics, self.calls = metrics, 0
        self.protocol = "toy"

    protocol = ""

    def prepare(self) -> None:
        """Nothing."""

    def evaluate(self, model: Any, context: TrialContext) -> dict[str, float]:
        self.calls += 1
        return dict(self.metrics)


def run(monkeypatch: pytest.MonkeyPatch, toy: Toy, folder: Path, trial_id: str) -> list[dict[str, Any]]:
    """Run a trial as within NNI; return what it reported."""
    import nni

    reported: list[dict[str, Any]] = []
    architecture = {**ToyFamily().default, trial_run.TRIAL_ID: trial_id}
    monkeypatch.setenv("NNI_PLATFORM", "local")
    monkeypatch.setattr(nni, "get_next_parameter", lambda: architecture)
    monkeypatch.setattr(nni, "report_final_result", reported.append)
    monkeypatch.setattr(trial_run, "build_seeded", lambda *given: None)
    monkeypatch.setattr(Job, "make_family", lambda job: ToyFamily())
    monkeypatch.setattr(Job, "make_evaluation", lambda job: toy)
    job = Job.model_validate({"space": {"type": "toy"}, "evaluator": {"type": "toy"}})
    folder.mkdir(exist_ok=True)
    trial_run.run_trial(job, output=folder)
    return reported


def test_a_score_that_is_no_number_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match="rfid is nan"):
        run(monkeypatch, Toy(rfid=float("nan")), tmp_path / "j0", "t0")
    assert failure(tmp_path / "j0") == "rfid is nan: the training diverged."


def test_other_metrics_that_are_no_numbers_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (reported,) = run(monkeypatch, Toy(rfid=1.5, loss=float("inf")), tmp_path / "j0", "t0")
    assert reported["rfid"] == reported["default"] == 1.5
    assert "loss" not in reported


@pytest.mark.parametrize("folder", ["j0", "j1"])
def test_a_finished_trial_that_is_run_again_reports_and_trains_no_more(
    folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy = Toy(rfid=1.5)
    first = run(monkeypatch, toy, tmp_path / "j0", "t0")
    assert run(monkeypatch, toy, tmp_path / folder, "t0") == first
    assert toy.calls == 1
    run(monkeypatch, toy, tmp_path / "j2", "t1")
    assert toy.calls == 2


def test_a_trial_that_is_interrupted_was_stopped_early(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), watched(TrialRecord(tmp_path, "t7")):
        raise KeyboardInterrupt  # what NNI's SIGINT becomes
    written = TrialRecord.read(tmp_path / RESULT_FILE)
    assert written["trial"] == "t7"
    assert written["failure"].startswith("stopped early")
    assert failure_in(written) is Ending.STOPPED


def test_what_trials_have_written_of_their_failures_is_understood() -> None:
    assert failure_in({"trial": "t0", "metrics": {}}) is None
    assert failure_in({"failure": "the loss is not finite"}) == "the loss is not finite"
    by_version_0_1 = "stopped early: by the assessor, by maxTrialDuration or by hand"
    assert failure_in({"failure": by_version_0_1}) is Ending.STOPPED


def test_two_swapped_trials_that_nni_runs_again_keep_each_other_s_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toy = Toy(rfid=1.5)
    run(monkeypatch, toy, tmp_path / "j0", "t1")
    TrialRecord(tmp_path / "j0", "t0").claim()  # NNI's records say t0: it runs that here
    (tmp_path / "j1").mkdir()
    TrialRecord(tmp_path / "j1", "t0").fail("stopped")  # t0 had run here, before
    assert run(monkeypatch, toy, tmp_path / "j1", "t1")[0]["rfid"] == 1.5
    assert toy.calls == 1
    left = TrialRecord.read(tmp_path / "j1" / RESULT_FILE)
    assert (left["trial"], left["metrics"]["rfid"]) == ("t1", 1.5), "nobody takes it for the end of t0"
