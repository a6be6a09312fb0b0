"""Benchmarks that have lied or not started: what a reader runs by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpt_controls
import gpu
import numpy as np
import pytest
from rank_signals import with_derived
from scaling import simulated

from nni_diffnas.api.cost import Cost
from nni_diffnas.evaluators.calibration.ranking import agreement, read

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_a_stand_in_serves_as_docs_gpt_says(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "stand_ins.py"), "mutate", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            address = served.stdout.readline().split()[-1]
            messages = [{"role": role, "content": "Propose 1"} for role in ("system", "user")]
            body = json.dumps({"model": "any", "messages": messages}).encode()
            asked = urllib.request.Request(f"{address}/chat/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                assert json.load(answer)["choices"]
        finally:
            served.terminate()


def test_workers_are_idle_where_the_search_takes_longer_than_their_trials(tmp_path: Path) -> None:
    long, short = (simulated("RandomSearch", 4, 16, s, tmp_path / f"{s}.sqlite") for s in (1e5, 1e-5))
    assert long.idle < 0.01 < 0.7 < short.idle < 1, "one of four workers would be asked for at any time"
    assert long.trials == 16
    assert long.writes >= 16 + 12, "a write for each suggestion, and for each result that came before the last"
    assert 0 < long.writing < long.controlling


def test_the_gpu_script_runs_without_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--seconds", "0", "--tiny"])
    gpu.main()
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    rates = [each["images_per_second"] for name, each in printed.items() if name.startswith(("training", "sampling"))]
    assert len(rates) == 4
    assert min(rates) > 0


@pytest.mark.parametrize(("seeds", "code", "said"), [(1, 0, "no bar is judged"), (2, 1, "MISSED")])
def test_controls_of_one_seed_judge_nothing(
    seeds: int,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(family: Any, name: str, part: str, seed: int, given: Any) -> gpt_controls.Result:
        return gpt_controls.Result(float(len(name) + seed), 1, 1, 1)

    monkeypatch.setattr(gpt_controls, "CellFamily", lambda path: SimpleNamespace(_costs={"cell": Cost(1, 1)}, best=1.0))
    monkeypatch.setattr(gpt_controls, "DATA", Path(__file__))
    monkeypatch.setattr(gpt_controls, "run", run)
    monkeypatch.setattr(
        sys, "argv", ["gpt_controls.py", "--seeds", str(seeds), "--journal", str(tmp_path / "journal.jsonl")]
    )
    assert gpt_controls.main() == code
    assert said in capsys.readouterr().out


def test_signals_of_several_measurements() -> None:
    """Two levels tell the distance together and neither does alone; the loss falls by a power law."""
    rng = np.random.default_rng(0)

    def record(network: int, first: float, second: float, factor: float, seed: int) -> dict[str, Any]:
        distance = first * second if factor == 1 else first * second * (1 + 1e-3 * seed)
        signal = {"value": first, "levels": {"62": first, "937": second}, "seconds": 1.0}
        curve = [{"images": 50, "loss": 1.0, "held_out_loss": 2.0 * first}]
        return {
            "architecture": {"network": network}, "seed": seed, "factor": factor, "macs": 10, "params": 10,
            "images": 100, "train_seconds": 10.0 * factor, "loss": 1.0, "curve": curve,
            "signals": {"held_out_loss": signal}, "untrained": {"gradient_norm": 1.0, "naswot": 1.0, "seconds": 0.0},
            "scores": [{"steps": 4, "images": 10, "seconds": 3.0, "rfid": distance}],
        }  # fmt: skip

    levels = np.exp(rng.normal(size=(12, 2)))
    runs = [(0.5, 0), (1.0, 0), (4.0, 1000), (4.0, 1001)]
    records = [record(row, *map(float, both), *run) for row, both in enumerate(levels) for run in runs]
    measured = with_derived(read(records), records, trial=1.0, longest=4.0)
    found = {name: agreement(proxy, measured, bootstraps=2).tau for name, proxy in measured.proxies.items()}
    assert found["held_out_loss at timestep 62, training x 0.5"] < 0.9
    assert found["ridge of held_out_loss, training x 0.5"] > 0.95
    assert measured.proxies["ridge of held_out_loss, training x 0.5"].seconds == 6.0
    assert measured.proxies["ridge of losses and rfid, training x 0.5"].seconds == 9.0
    extrapolated = measured.proxies["held_out_loss extrapolated, training x 0.5"].values[:, 0]
    assert extrapolated == pytest.approx(levels[:, 0] / 8), "halved by each of three doublings"
    assert "held_out_loss of the reference" in found
