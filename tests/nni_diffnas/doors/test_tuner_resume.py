"""The tuner door's driver after a resume: trials that ended meanwhile or run again, a limit that is raised."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuner_door import (
    MANAGER_STARTED,
    Manager,
    earlier,
    old,
    quiet,
    result,
    rfid,
    start,
    table_job,
    taken_up,
    without_id,
)

from nni_diffnas.api.ending import Ending as TrialEnding
from nni_diffnas.trial.parameters import TRIAL_ID
from nni_diffnas.trial.result_file import TrialRecord


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return table_job(tmp_path)


def undisturbed(folder: Path, count: int) -> list[dict[str, Any]]:
    """Parameters of a search at concurrency 1 without any interruption."""
    driver = start(Manager(folder / "other", concurrency=1))
    seen = []
    for number in range(count):
        (parameters,) = driver.ask([number], None)
        seen.append(parameters)
        driver.tell(parameters, result(parameters), f"j{number}")
    driver.close()
    return seen


@pytest.fixture
def other(folder: Path) -> Path:
    (folder / "other").mkdir()
    for name in ("job.yml", "table.npz"):
        (folder / "other" / name).write_bytes((folder / name).read_bytes())
    return folder / "other"


Ending = Callable[[Manager, dict[str, Any]], None]


def was_running(manager: Manager, parameters: dict[str, Any]) -> None:
    manager.record(3, parameters, "RUNNING")


def had_reported(manager: Manager, parameters: dict[str, Any]) -> None:
    manager.record(3, parameters, "SUCCEEDED", rfid(parameters))


def had_reported_and_runs_again(manager: Manager, parameters: dict[str, Any]) -> None:
    manager.record(3, parameters, "RUNNING", rfid(parameters))


def never_reached_nni(manager: Manager, parameters: dict[str, Any]) -> None:
    """The dispatcher died between its memory and the manager."""


def is_listed_as_resumed(manager: Manager, parameters: dict[str, Any], at: float = MANAGER_STARTED + 1.0) -> None:
    """So NNI lists what was running when the search was stopped, until it runs again."""
    manager.record(3, parameters, "ADD_RESUMED")
    taken_up(manager.folder.path, "j3", at)
    output = manager.folder.path / "environments" / "local-env" / "trials" / "j3"
    output.mkdir(parents=True)
    TrialRecord(output, parameters[TRIAL_ID]).fail(TrialEnding.STOPPED)


def was_forgotten(manager: Manager, parameters: dict[str, Any]) -> None:
    """The manager of an earlier resume was killed before it ran the job again, and no other one will."""
    is_listed_as_resumed(manager, parameters, at=MANAGER_STARTED - 1.0)


def had_ended_and_was_forgotten(manager: Manager, parameters: dict[str, Any]) -> None:
    """Its result has reached nobody."""
    was_forgotten(manager, parameters)
    output = manager.folder.job_output("j3")
    assert output is not None
    TrialRecord(output, parameters[TRIAL_ID]).succeed({"metrics": result(parameters)})


@pytest.mark.parametrize(
    "ending",
    [
        was_running,
        had_reported,
        had_reported_and_runs_again,
        never_reached_nni,
        is_listed_as_resumed,
        was_forgotten,
        had_ended_and_was_forgotten,
    ],
)
def test_after_a_resume_the_suggestions_are_those_of_an_undisturbed_search(
    ending: Ending, folder: Path, other: Path
) -> None:
    expected = without_id(undisturbed(folder, 8))
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    seen = []
    for number in range(4):
        (parameters,) = driver.ask([number], None)
        seen.append(parameters)
        if number < 3:
            driver.tell(parameters, result(parameters), f"j{number}")
            manager.record(number, parameters, "SUCCEEDED", rfid(parameters))
    driver.search.memory.close()  # killed
    ending(manager, seen[3])

    manager.resumed = True
    driver = start(manager)
    sent = quiet(driver)
    driver.import_results([])
    asked = driver.ask([4], driver._send)  # NNI asks for all its workers, whatever it runs again
    if ending in (was_running, is_listed_as_resumed, had_reported_and_runs_again):
        assert asked == []
        driver.import_results([{"parameter": seen[3], "value": result(seen[3])}])
        asked = driver.ask([5], driver._send)
    elif ending in (never_reached_nni, was_forgotten):
        assert asked == [seen[3]]
        driver.tell(seen[3], result(seen[3]), "j4")
        asked = driver.ask([5], driver._send)
    asked += [parameters for _, parameters in sent]
    for number in range(6, 10):
        (parameters,) = asked
        seen.append(parameters)
        driver.tell(parameters, result(parameters), f"j{number}")
        sent.clear()
        asked = driver.ask([number], driver._send) + [parameters for _, parameters in sent]
    assert without_id(seen) == expected
    assert all(trial.status == "succeeded" for trial in driver.search.trials[:8])
    driver.close()


def test_a_finished_search_goes_on_when_its_limit_is_raised(folder: Path) -> None:
    manager = Manager(folder, concurrency=2, max_trials=2)
    driver = start(manager)
    sent: list[dict[str, Any]] = []
    asked = driver.ask([0, 1], lambda number, parameters: sent.append(parameters))
    for number, parameters in enumerate(asked):
        driver.tell(parameters, result(parameters), f"j{number}")
    time.sleep(2.5)
    assert sent == []
    manager.max_trials = 22
    until = time.monotonic() + 10
    while len(sent) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(sent) == 2
    assert len({str(one) for one in without_id([*asked, *sent])}) == 4
    driver.close()


def test_failures_of_others_and_from_before_a_resume_do_not_end_the_search(folder: Path) -> None:
    earlier(folder, *(old(number).failed("the data is missing") for number in range(5)))
    manager = Manager(folder, concurrency=1)
    driver = start(manager)
    for number in range(4):
        (parameters,) = driver.ask([number], None)
        manager.record(number, parameters, "FAILED")
        driver.ended(success=False)
        assert manager.ended_after is None
    (parameters,) = driver.ask([4], None)
    driver.search.memory.close()  # killed
    manager.record(4, parameters, "FAILED")
    manager.resumed = True
    driver = start(manager)
    assert [trial.status for trial in driver.search.trials[-5:]] == ["failed"] * 5
    assert manager.ended_after is None
    for number in range(5, 10):
        assert manager.ended_after is None
        (parameters,) = driver.ask([number], None)
        manager.record(number, parameters, "FAILED")
        driver.ended(success=False)
    assert manager.ended_after == 10
    driver.close()
