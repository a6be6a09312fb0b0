"""Our forecast of NNI's GPU scheduler against the scheduler itself, with made-up GPUs and a limit on processes."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import nni_node
import pytest

from nni_diffnas.doors.doctor import check_gpus
from nni_diffnas.doors.gpus import GpuRequest

NODE = Path(nni_node.__path__[0])
# As NNI's local training service calls its scheduler; a collector that would start a process is not there.
PLACE = """
require("app-module-path").addPath(ROOT);
require("common/globals/unittest").resetGlobals();
const { TaskScheduler, UnitTestHelpers } = require("common/trial_keeper/task_scheduler/scheduler");
async function place([perTrial, concurrency, perGpu, gpus, indices, useActive]) {
    const active = new Set();
    const info = () => ({
        success: true, gpuNumber: gpus, gpus: [...Array(gpus).keys()].map(index => ({ index })),
        processes: [...active].map(gpuIndex => ({ gpuIndex, type: "compute" })), timestamp: Date.now(),
    });
    UnitTestHelpers.mockGpuInfo(info());
    const scheduler = new TaskScheduler();
    await scheduler.init();
    for (let i = 0; i < concurrency; i++) {
        const restrictions = { onlyUseIndices: indices ?? undefined, rejectActive: !useActive };
        const placed = await scheduler.schedule("e", "t" + i, perTrial / perGpu, restrictions);
        if (placed === null) return false;
        for (const index of placed.CUDA_VISIBLE_DEVICES.split(",")) active.add(Number(index));
        UnitTestHelpers.mockGpuInfo(info());
        await scheduler.update(true);
    }
    return true;
}
(async () => {
    const results = [];
    for (const wanted of JSON.parse(require("fs").readFileSync(0))) {
        results.push(await place(wanted).catch(() => false));  // it crashes where no GPU may be used
    }
    console.log(JSON.stringify(results));
    process.exit(0);
})();
"""


def scheduled(requests: list[tuple[int, int, int, int, list[int] | None, bool]]) -> list[bool]:
    """Whether NNI's own scheduler places all trials of each request."""
    script = PLACE.replace("ROOT", json.dumps(str(NODE)))
    done = subprocess.run(
        ["prlimit", "--nproc=64", str(NODE / "node"), "-e", script],
        input=json.dumps(requests),
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    placed: list[bool] = json.loads(done.stdout.splitlines()[-1])
    return placed


def test_we_refuse_exactly_what_nni_s_scheduler_cannot_place() -> None:
    requests = [
        (per_trial, concurrency, per_gpu, gpus, indices, use_active)
        for per_trial, concurrency, per_gpu, gpus in itertools.product((1, 2, 3), (1, 2, 3, 4, 8), (1, 2, 3), (1, 2, 4))
        for indices in (None, [0])
        for use_active in (True, False)
        if use_active or per_gpu == 1 or concurrency > 1
    ]
    placed = scheduled(requests)
    assert 0 < sum(placed) < len(placed)
    for (per_trial, concurrency, per_gpu, gpus, indices, use_active), fits in zip(requests, placed, strict=True):
        request = GpuRequest(per_trial, concurrency, per_gpu, None if indices is None else tuple(indices), use_active)
        refused = request.problem(gpus)
        if use_active or per_trial >= per_gpu:
            assert (refused == "") == fits, (request, gpus, refused)
        elif not refused:  # shares a GPU without useActiveGpu: we refuse more than NNI must
            assert fits, (request, gpus)


@pytest.mark.parametrize(
    ("request_", "gpus", "level", "said"),
    [
        (GpuRequest(None), 0, "ok", "no GPU"),
        (GpuRequest(None), 1, "ok", "see all"),
        (GpuRequest(None, 2), 1, "note", "share"),
        (GpuRequest(0, 8), 1, "ok", "hidden"),
        (GpuRequest(1), 1, "FAIL", "leave trialGpuNumber unset"),  # NNI compares with >=
        (GpuRequest(1, 2, per_gpu=2), 1, "ok", "fit"),
        (GpuRequest(1, 2, per_gpu=2, use_active=False), 1, "FAIL", "useActiveGpu: true"),
        (GpuRequest(1, 2), 2, "ok", "fit"),
        (GpuRequest(1, 3), 2, "FAIL", "trialConcurrency: 2"),
        (GpuRequest(1, 2, indices=(1,)), 2, "FAIL", "trialConcurrency: 1"),
        (GpuRequest(2), 2, "FAIL", "never places"),
        (GpuRequest(0.5), 2, "FAIL", "whole numbers"),
    ],
)
def test_refusals_propose_what_works(request_: GpuRequest, gpus: int, level: str, said: str) -> None:
    finding = check_gpus(request_, gpus)
    assert finding.level == level
    assert said in finding.text


def test_only_configs_for_this_machine_are_judged() -> None:
    service = {"platform": "local", "maxTrialNumberPerGpu": 2, "useActiveGpu": True, "gpuIndices": [0]}
    config = {"trialGpuNumber": 1, "trialConcurrency": 2, "trainingService": service}
    assert GpuRequest.of(config) == GpuRequest(1, 2, 2, (0,), True)
    assert GpuRequest.of({**config, "trainingService": {"platform": "remote"}}) is None
