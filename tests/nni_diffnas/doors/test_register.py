"""NNI's list of tuners: written once, by several at once too, and named where it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nni_diffnas.api.errors import JobError
from nni_diffnas.doors.doctor import check_environment
from nni_diffnas.doors.register import register_tuners, registered_tuners
from nni_diffnas.plugins import plugin_names


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path))
    return tmp_path / "registered_algorithms.yml"


def test_what_is_registered_is_not_written_again(listed: Path) -> None:
    assert register_tuners() == registered_tuners() == plugin_names("strategies")
    written = listed.stat()
    register_tuners()
    assert (listed.stat().st_mtime_ns, listed.stat().st_ino) == (written.st_mtime_ns, written.st_ino)


def test_two_processes_that_register_at_once_lose_nothing(listed: Path) -> None:
    one = "from nni_diffnas.doors.register import register_tuners; print(register_tuners())"
    both = [subprocess.Popen([sys.executable, "-c", one], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert registered_tuners() == plugin_names("strategies")


@pytest.mark.parametrize("text", ["", "tuners: [", "[1]", "tuners: [{}]"])
def test_a_damaged_list_is_named_with_the_remedy(listed: Path, text: str) -> None:
    listed.write_text(text)
    said = r"registered_algorithms\.yml', is damaged: delete it, and run 'nni-diffnas register'"
    with pytest.raises(JobError, match=said):
        register_tuners()
    assert any(finding.level == "FAIL" and "is damaged" in finding.text for finding in check_environment())
    listed.unlink()
    assert register_tuners() == registered_tuners()


# As in a container without a virtual environment, where NNI looks for its configuration below the user's home.
HOMELESS = """
import os, sys
import nni.tools.package_utils
from nni_diffnas.doors.doctor import check_environment
from nni_diffnas.doors.register import register_tuners
sys.prefix = sys.base_prefix = "/nowhere"
os.setuid(54321)
for finding in check_environment():
    if finding.level == "FAIL":
        print(finding)
try:
    register_tuners()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("named", ["", "closed/nni"])
def test_a_user_who_can_keep_no_configuration_is_told_what_to_set(named: str, tmp_path: Path) -> None:
    """Neither HOME nor an entry in passwd; or a folder that belongs to somebody else."""
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    environment = {"PATH": os.environ["PATH"], **({"NNI_CONFIG_DIR": str(tmp_path / named)} if named else {})}
    ended = subprocess.run([sys.executable, "-c", HOMELESS], env=environment, capture_output=True, text=True)
    said = [line for line in ended.stdout.splitlines() if "NNI" in line and "CACHE" not in line]
    assert [line.split()[0] for line in said] == ["FAIL", "JobError"], ended.stderr
    for line in said:
        assert "configuration cannot be kept" in line
        assert "set NNI_CONFIG_DIR to a folder that you may write to, and run 'nni-diffnas register'." in line
