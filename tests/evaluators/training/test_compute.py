"""What is chosen for a device, and several processes that train one network as one process does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nni_diffnas.evaluators.training.compute import Team, autocast, computing, place

JOB = """
space: {type: unet, preset: digits, width_factors: [0.5], depths: [1], attention: [false], middle: [none]}
data: {source: digits}
evaluator:
  type: diffusion
  training: {steps: 12, batch_size: 15, learning_rate: 0.001}
  extractor: random
  score_images: 40
  sampler_steps: 3
  curve_points: 1
  curve_images: 20
"""


def test_one_place_decides_on_the_number_format() -> None:
    evaluators = Path(__file__).resolve().parents[3] / "evaluators"
    assert [file.name for file in evaluators.rglob("*.py") if "torch.autocast(" in file.read_text()] == ["compute.py"]


def test_a_cpu_computes_in_float32() -> None:
    model = torch.nn.Conv2d(2, 2, 1)
    place(model, torch.device("cpu"))
    with autocast(torch.device("cpu")):
        assert model(torch.zeros(1, 2, 3, 3)).dtype == torch.float32
    chosen = computing(torch.device("cpu"))
    assert (chosen["device"], chosen["number_format"], chosen["processes"]) == ("cpu", "float32", 1)


def test_depthwise_convolutions_put_channels_last() -> None:
    cpu, plain, depthwise = torch.device("cpu"), torch.nn.Conv2d(4, 4, 3), torch.nn.Conv2d(4, 4, 3, groups=4)
    for model, last in ((torch.nn.Sequential(plain), False), (torch.nn.Sequential(plain, depthwise), True)):
        place(model, cpu)
        assert model(torch.zeros(2, 4, 8, 8)).is_contiguous(memory_format=torch.channels_last) == last


def test_shares_make_up_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Team()
    assert alone.share(7) == (0, 7)
    assert alone.first(0.5) == 0.5
    monkeypatch.setattr(alone, "count", 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(alone, "rank", rank)
        shares.append(alone.share(7))
    assert shares == [(0, 2), (2, 4), (4, 7)]


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path, evaluator_cache: Path) -> None:
    pytest.importorskip("accelerate")
    from safetensors.torch import load_file

    (tmp_path / "job.yml").write_text(JOB)
    code = "from nni_diffnas.cli import main; main()"
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])

    def start(output: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, "trial", "job.yml", "--output", output],
            cwd=tmp_path, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def answer(process: subprocess.Popen[str]) -> dict[str, float]:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        found: dict[str, float] = json.loads(printed.strip().splitlines()[-1])
        return found

    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    both = [start("both", **team, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(2)]
    first, second = (answer(process) for process in both)
    alone = answer(start("alone"))
    assert second == {}
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    states = [load_file(tmp_path / output / "model.safetensors") for output in ("both", "alone")]
    for name, value in states[1].items():
        assert torch.allclose(states[0][name], value, atol=2e-4), name
    assert json.loads((tmp_path / "both" / "evaluation.json").read_text())["computing"]["processes"] == 2
