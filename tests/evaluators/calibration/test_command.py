"""A small calibration as a user runs it: it ranks, recommends, draws, and goes on where it was killed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import BudgetError, JobError, TrialFailure
from nni_diffnas.evaluators import DiffusionEvaluation
from nni_diffnas.evaluators.calibration import measurements
from nni_diffnas.evaluators.calibration.command import calibrate
from nni_diffnas.evaluators.calibration.measurements import Journal, spread_over, within
from nni_diffnas.job import Job
from nni_diffnas.plugins import find_plugin

JOB: dict[str, Any] = {
    "space": {"type": "unet", "preset": "digits", "depths": [1], "attention": [False], "middle": ["none"]},
    "data": {"source": "digits"},
    "evaluator": {
        "type": "diffusion", "extractor": "random", "score_images": 40, "sampler_steps": 2, "curve_images": 20,
        "training": {"images": 128, "batch_size": 32},
    },
    "budget": {"macs": {"max": 4e6}},
}  # fmt: skip


def test_the_networks_are_spread_over_the_costs() -> None:
    family = find_plugin("spaces", "unet")(preset="digits")
    chosen = spread_over(family, Budget({"macs": Window(1e6, 8e6)}), 8)
    macs = [family.cost(each).macs for each in chosen]
    assert macs == sorted(macs)
    assert np.diff(np.log(macs)) == pytest.approx(np.full(7, np.log(8) / 7), abs=0.1)
    band = within(family, 2.9e6, 3.1e6, 5)
    assert all(2.9e6 <= family.cost(each).macs <= 3.1e6 for each in band)
    assert len({family.space.key_of(each) for each in band}) == 5
    with pytest.raises(BudgetError, match="within budget"):
        spread_over(family, Budget({"macs": Window(6.67e5, 6.69e5)}), 50)


@pytest.mark.slow
def test_a_calibration_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, trained, fit = Job.model_validate(JOB), [], DiffusionEvaluation.fit

    def killed_after(count: int) -> None:
        def call(self: DiffusionEvaluation, *arguments: Any) -> Any:
            if len(trained) == count:
                raise KeyboardInterrupt
            trained.append(arguments)
            return fit(self, *arguments)

        monkeypatch.setattr(DiffusionEvaluation, "fit", call)

    killed_after(5)
    with pytest.raises(KeyboardInterrupt):
        calibrate(job, tmp_path, networks=4, seeds=1, longer=3.0, wanted=0.6)
    with (tmp_path / "trainings.jsonl").open("a") as file:
        file.write('{"key": "cut sho')
    killed_after(12)
    shown: list[int] = []

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
        shown.append(total)
        yield shown.append

    monkeypatch.setattr(measurements, "progress_bar", bar)
    report = calibrate(job, tmp_path, networks=4, seeds=1, longer=3.0, wanted=-1.0)
    assert len(trained) == 12
    assert shown == [7] + 7 * [1], "what was trained before says nothing of the time left"
    assert "Recommended, as the cheapest protocol with a tau of -1 or more: rfid, training x 0.5, 10 images" in report
    assert "Set objective.metric to rfid, evaluator.score_images to 10, evaluator.sampler_steps to 2, and" in report
    assert "held_out_loss, training x 0.5 " in report
    assert "params" in report
    assert (tmp_path / "calibration.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads((tmp_path / "calibration.json").read_text())
    rapid = next(row for row in found["proxies"] if row["proxy"] == "rfid, training x 1, 40 images of 2 steps")
    assert rapid["networks"] == 4
    assert 0 < rapid["cost"] < 1
    assert "No protocol reaches a tau of 2" in calibrate(job, tmp_path, networks=4, seeds=1, longer=3.0, wanted=2.0)
    assert len(trained) == 12, "another report of the same trainings trains nothing"


def test_too_many_failures_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluator = {**JOB["evaluator"], "training": {"images": 128, "batch_size": 32, "learning_rate": 1.0, "clip": 1e9}}
    job = Job.model_validate({**JOB, "evaluator": evaluator})
    with pytest.raises(TrialFailure, match="Only 0 of 4 networks were trained"):
        calibrate(job, tmp_path, 4, 1, 3.0, 0.6)
    assert capsys.readouterr().err.count("A training failed: Training diverged") == 12
    assert all("failure" in record for record in Journal(tmp_path / "trainings.jsonl").records.values())


def test_what_cannot_be_calibrated(tmp_path: Path) -> None:
    job = Job.model_validate(JOB)
    with pytest.raises(JobError, match="four networks, one seed and a longer reference at least, not 2, 1 and 3 times"):
        calibrate(job, tmp_path, 2, 1, 3.0, 0.6)
    assert "12 trainings of 4 networks" in calibrate(job, tmp_path, 4, 1, 3.0, 0.6, dry_run=True)
    assert not (tmp_path / "trainings.jsonl").exists()
    assert measurements.REFERENCE_SEED == 1000
