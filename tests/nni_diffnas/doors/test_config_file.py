from __future__ import annotations

from pathlib import Path

import pytest

from nni_diffnas.api.errors import JobError
from nni_diffnas.doors.config_file import check_command, read_config

GOOD = """
searchSpaceFile: space.json
trialCommand: nni-diffnas trial job.yml
trialCodeDirectory: .
trialConcurrency: 1
maxTrialNumber: 2
tuner: {name: RandomSearch, classArgs: {job: job.yml}}
trainingService: {platform: local}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "space.json").write_text("{}")
    file = folder / "config.yml"
    file.write_text(text)
    return file


def test_a_config_is_read_as_nni_reads_it(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "\ufeff" + GOOD))
    assert config.max_trial_number == 2
    assert config.trial_code_directory == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "maxTrialNumber: 3\n", "'maxTrialNumber' is given twice"),
        (GOOD.replace("maxTrialNumber: 2", "maxTrialNumber: 0"), r"\(it wants: .*> 0.*\): correct it there"),
        (GOOD.replace("maxTrialNumber", "maxTrialNum"), "does not have field"),
        ("trainingServicePlatform: local\ntrialConcurrency: 1\n", "format of NNI 1"),
        ("space: {type: unet}\nevaluator: {type: diffusion}\n", "is a job file: give the NNI config"),
        ("[1, 2]", "must hold fields"),
    ],
)
def test_what_is_no_config_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=said):
        read_config(write(tmp_path, text))
    assert read_config(write(tmp_path, GOOD)).max_trial_number == 2, "nothing of it is left in this process"


@pytest.mark.parametrize(
    ("command", "remark"),
    [
        ("nni-diffnas trial job.yml", ""),
        ("/env/bin/nni-diffnas trial --seed 3 ./job.yml", ""),
        ("accelerate launch --num_processes 4 -m nni_diffnas.cli trial job.yml", ""),
        ("python3 trial.py", "is not 'nni-diffnas trial JOB'"),
    ],
)
def test_commands_that_train_the_job(command: str, remark: str, tmp_path: Path) -> None:
    assert remark in check_command(command, tmp_path, tmp_path / "job.yml")


@pytest.mark.parametrize("command", ["nni-diffnas trial other.yml", "nni-diffnas trial", "nni-diffnas trial 'job.yml"])
def test_a_command_that_trains_another_job_is_refused(command: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="trialCommand"):
        check_command(command, tmp_path, tmp_path / "job.yml")
