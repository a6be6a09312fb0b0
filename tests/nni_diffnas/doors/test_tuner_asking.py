"""`Driver` without NNI's manager: what is asked when, and that nobody waits for the memory meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from memories import assert_nobody_writes

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.space import Value
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors import tuner
from nni_diffnas.doors.experiment import ManagerInfo
from nni_diffnas.doors.strategy import AskTellStrategy
from nni_diffnas.doors.tuner import Driver
from nni_diffnas.job import load_job
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.searching import open as opening

JOB = {
    "space": {"type": "mlp"},
    "evaluator": {"type": "denoise2d", "steps": 20},
    "objective": {"metric": "error", "direction": "minimize"},
}


class OneAtATime(AskTellStrategy):
    """Nobody may have to wait while it suggests; it has nothing to suggest while a trial is under way."""

    counts: ClassVar[list[int]] = []

    def suggest(self, count: int) -> Sequence[Suggestion]:
        assert self.search.about.folder is not None
        assert_nobody_writes(self.search.about.folder / "memory.sqlite")
        self.counts.append(count)
        found = None if self.search.pending else self.search.draw()
        return () if found is None else [Suggestion(found, "random")]

    def update(self, trials: Sequence[Trial]) -> None:
        """Remember nothing."""


KEY = "sk-planted-0123456789abcdefghij"


def make_driver(folder: Path, **options: Any) -> Driver:
    (folder / "job.yml").write_text(yaml.safe_dump(JOB))
    space = load_job(folder / "job.yml").make_family().space.to_nni()
    (folder / "exp").mkdir()
    manager = ManagerInfo(ExperimentFolder(folder / "exp"), folder, 10, 3, None, False)
    return Driver(manager, "job.yml", "any", "minimize", options, json.loads(json.dumps(space)))


@pytest.fixture
def driver(tmp_path: Path, plugin_site: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    OneAtATime.counts.clear()
    for module in (opening, tuner):
        monkeypatch.setattr(module, "find_plugin", lambda group, name: OneAtATime)
    return make_driver(tmp_path, train_first="none")


def test_what_is_slow_is_done_before_the_memory_is_locked(driver: Driver) -> None:
    sent: list[tuple[int, dict[str, Any]]] = []

    def send(parameter_id: int, parameters: dict[str, Value]) -> None:
        sent.append((parameter_id, parameters))

    asked = driver.ask([0, 1, 2], send)
    assert len(asked) == 1
    driver.tell(asked[0], {"error": 0.5}, "job0")
    assert [number for number, _ in sent] == [1], "the worker that was owed a trial is served when a result arrives"
    driver.tell(sent[0][1], {"error": 0.4}, "job1")
    assert [number for number, _ in sent] == [1, 2]
    driver.ended(success=True)
    assert OneAtATime.counts == [3, 2, 2, 1, 1]
    memory = driver.search.memory
    assert memory is not None
    assert [trial.status for trial in memory.trials()] == ["succeeded", "succeeded", "pending"]
    driver.close()


@pytest.mark.parametrize(
    "options", [{"api_key": "short"}, {"note": KEY}, {"headers": {"Authorization": "x"}}, {"more": [f"Bearer {KEY}"]}]
)
def test_a_key_in_class_args_is_refused_and_not_repeated(
    tmp_path: Path, plugin_site: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(JobError, match=r"classArgs.*OPENAI_API_KEY") as caught:
        make_driver(tmp_path, **options)
    assert KEY not in str(caught.value)
    assert not list((tmp_path / "exp").iterdir()), "nothing was started"
