"""NNI's list of tuners: written once, by several at once too, and named where it is damaged."""

from __future__ import annotations

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
