"""Which trial a job really ran: NNI's records may be those of the job that was started beside it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nni_diffnas.api.ending import Ending
from nni_diffnas.doors.experiment import TrialJobs
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.trial.result_file import RESULT_FILE, TrialRecord


def job(folder: Path, name: str, status: str, recorded: str, claimed: str = "", reported: Any = None) -> Any:
    """A job that NNI ascribes to ``recorded`` and that ran ``claimed``; ``reported`` is a parameter id and a score."""
    output = folder / "environments" / "local-env" / "trials" / name
    output.mkdir(parents=True)
    if claimed:
        TrialRecord(output, claimed).claim()
    given = SimpleNamespace(parameter_id=int(name[1:]), parameters={"run.trial": recorded})
    final = [SimpleNamespace(parameterId=reported[0], data={"rfid": reported[1]})] if reported else []
    return SimpleNamespace(trialJobId=name, status=status, hyperParameters=[given], finalMetricData=final)


def test_swapped_jobs_are_settled_by_what_the_trials_wrote(tmp_path: Path) -> None:
    listed = [job(tmp_path, "j0", "FAILED", "t0", claimed="t1"), job(tmp_path, "j1", "RUNNING", "t1", claimed="t0")]
    (tmp_path / "environments/local-env/trials/j0" / RESULT_FILE).write_text('{"trial": "t1", "failure": "diverged"}')
    jobs = TrialJobs(ExperimentFolder(tmp_path), listed)
    assert jobs.ended() == {"t1": "diverged"}
    assert jobs.to_run_again() == {"t1"}


def test_a_job_that_never_said_who_it_is_goes_by_nni_s_record(tmp_path: Path) -> None:
    listed = [job(tmp_path, "j0", "FAILED", "t0"), job(tmp_path, "j1", "SUCCEEDED", "t1", claimed="t1")]
    assert TrialJobs(ExperimentFolder(tmp_path), listed).ended() == {"t0": Ending.CRASHED, "t1": ""}


def test_a_silent_job_is_not_taken_for_a_trial_that_runs_elsewhere(tmp_path: Path) -> None:
    listed = [job(tmp_path, "j0", "FAILED", "t0"), job(tmp_path, "j1", "RUNNING", "t1", claimed="t0")]
    assert TrialJobs(ExperimentFolder(tmp_path), listed).ended() == {}


def test_what_an_interrupted_attempt_left_does_not_end_a_trial_that_runs_again(tmp_path: Path) -> None:
    listed = [job(tmp_path, "j0", "USER_CANCELED", "t0", "t1"), job(tmp_path, "j1", "RUNNING", "t1", "t1")]
    (tmp_path / "environments/local-env/trials/j0" / RESULT_FILE).write_text('{"trial": "t1", "failure": "stopped"}')
    assert TrialJobs(ExperimentFolder(tmp_path), listed).ended() == {}


def test_results_of_swapped_jobs_are_told_apart_by_the_parameters_with_which_they_reported(tmp_path: Path) -> None:
    """On other machines, whose output folders are not here."""
    listed = [job(tmp_path, "j0", "SUCCEEDED", "t0", reported=(1, 0.5)), job(tmp_path, "j1", "RUNNING", "t1")]
    assert TrialJobs(ExperimentFolder(tmp_path), listed).results() == {"t1": ("j0", {"rfid": 0.5})}


def test_the_output_of_a_trial_that_ran_twice_is_the_one_with_its_result(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path)
    assert folder.output("t0") is None
    for name in ("j0", "j1", "j2"):
        job(tmp_path, name, "FAILED", "t1", claimed="t0")
    TrialRecord(tmp_path / "environments/local-env/trials/j1", "t0").succeed({"metrics": {"rfid": 0.5}})
    assert folder.output("t0") == tmp_path / "environments/local-env/trials/j1"


def test_a_trial_that_was_killed_between_its_result_and_its_report_has_succeeded(tmp_path: Path) -> None:
    listed = [job(tmp_path, "j0", "USER_CANCELED", "t0", claimed="t0")]
    TrialRecord(tmp_path / "environments/local-env/trials/j0", "t0").succeed({"metrics": {"rfid": 0.5}})
    assert TrialJobs(ExperimentFolder(tmp_path), listed).results() == {"t0": ("j0", {"rfid": 0.5})}
