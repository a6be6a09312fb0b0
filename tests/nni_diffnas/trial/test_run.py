"""What a trial records of itself: nothing counts as a result before it has been checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nni
import numpy as np
import pytest

from nni_diffnas.api.errors import JobError, TrialFailure
from nni_diffnas.evaluators.tabular import TabularEvaluation
from nni_diffnas.job import Job
from nni_diffnas.trial.result_file import RESULT_FILE
from nni_diffnas.trial.run import run_trial


@pytest.fixture
def final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What NNI is told in the end of a trial that it has started."""
    told: list[dict[str, Any]] = []
    monkeypatch.setenv("NNI_PLATFORM", "local")
    monkeypatch.setattr(nni, "get_next_parameter", lambda: {"a": 0, "b": 1, "run.trial": "t-0"})
    monkeypatch.setattr(nni, "report_final_result", told.append)
    np.savez(tmp_path / "t.npz", labels=["a", "b"], choices=[[0, 1], [1, 0]], metrics=["acc"], values=[[0.5], [0.25]])
    return told


def job(folder: Path, metric: str) -> Job:
    table = str(folder / "t.npz")
    return Job.model_validate(
        {
            "space": {"type": "table", "path": table},
            "data": {"path": table},
            "evaluator": {"type": "tabular"},
            "objective": {"metric": metric},
        }
    )


def written(folder: Path) -> Any:
    return json.loads((folder / RESULT_FILE).read_text())


def test_a_trial_without_the_objective_has_failed(tmp_path: Path, final: list[Any]) -> None:
    with pytest.raises(JobError, match="objective is 'rfid', but the trial reports acc"):
        run_trial(job(tmp_path, "rfid"), output=tmp_path / "trial")
    assert "objective is 'rfid'" in written(tmp_path / "trial")["failure"]
    assert "metrics" not in written(tmp_path / "trial")
    assert final == []


def test_numbers_of_numpy_are_a_result_like_others(
    tmp_path: Path, final: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {"acc": np.float32(0.5), "count": np.int64(3), "curve": [np.float64(0.25)]}
    monkeypatch.setattr(TabularEvaluation, "evaluate", lambda *arguments: numbers)
    metrics = run_trial(job(tmp_path, "acc"), output=tmp_path / "trial")
    assert written(tmp_path / "trial")["metrics"] == metrics
    assert {name: metrics[name] for name in numbers} == {"acc": 0.5, "count": 3.0, "curve": [0.25]}
    assert final[0]["default"] == 0.5


def test_what_is_no_number_is_refused_by_name(
    tmp_path: Path, final: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TabularEvaluation, "evaluate", lambda *arguments: {"acc": 0.5, "note": "fine"})
    with pytest.raises(TrialFailure, match="numbers only"):
        run_trial(job(tmp_path, "acc"), output=tmp_path / "trial")
    assert "fine" in written(tmp_path / "trial")["failure"]
