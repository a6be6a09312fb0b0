"""Processes side by side, each on a GPU of its own where there are several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from gpu_turns import gpu_of_a_process

from nni_diffnas.process.workers import core_count, visible_gpus, worker_pool


@pytest.mark.parametrize(("gpus", "shown"), [(["0", "5"], ["0", "0", "5"]), (["5"], ["all", "all", "all"])])
def test_processes_share_out_several_gpus(
    gpus: list[str], shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with worker_pool(3, gpus) as pool:
        assert sorted(pool.map(gpu_of_a_process, [tmp_path] * 3, range(3), [3] * 3)) == shown


SCRIPT = """
import os, time
from nni_diffnas.process.workers import worker_pool

if __name__ == "__main__":
    pool = worker_pool(2, [])
    pool.submit(time.sleep, 600)
    pool.submit(os.getpid).result()
    print(*pool._processes, flush=True)
    time.sleep(600)
"""


def test_no_process_outlives_one_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = [psutil.Process(int(each)) for each in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=60)[1] == []


def test_what_there_is_can_be_counted() -> None:
    assert 1 <= core_count() <= (os.cpu_count() or 1)
    assert isinstance(visible_gpus(), list)
