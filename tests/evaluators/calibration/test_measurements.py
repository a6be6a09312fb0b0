"""The journal of a calibration."""

from __future__ import annotations

from pathlib import Path

import pytest

from nni_diffnas.api.errors import JobError
from nni_diffnas.evaluators.calibration.measurements import Journal


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"value": 1}', b'{"key": []}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_line_is_named_and_one_that_a_kill_cut_short_is_not(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "trainings.jsonl"
    file.write_bytes(b'{"key": "a"}\n' + line + b'\n{"key": "b"}\n')
    with pytest.raises(JobError, match=r"Line 2 of '.*trainings\.jsonl' is damaged: delete it"):
        Journal(file)
    file.write_bytes(b'{"key": "a"}\n' + line)
    assert list(Journal(file).records) == ["a"]
