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
import pytest

from nni_diffnas.api.cost import Cost

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


@pytest.mark.parametrize(("seeds", "code", "said"), [(1, 0, "no bar is judged"), (2, 1, "MISSED")])
def test_controls_of_one_seed_judge_nothing(
    seeds: int, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(family: Any, name: str, part: str, seed: int, given: Any) -> gpt_controls.Result:
        return gpt_controls.Result(float(len(name) + seed), 1, 1, 1)

    monkeypatch.setattr(gpt_controls, "CellFamily", lambda path: SimpleNamespace(_costs={"cell": Cost(1, 1)}, best=1.0))
    monkeypatch.setattr(gpt_controls, "DATA", Path(__file__))
    monkeypatch.setattr(gpt_controls, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpt_controls.py", "--seeds", str(seeds)])
    assert gpt_controls.main() == code
    assert said in capsys.readouterr().out
