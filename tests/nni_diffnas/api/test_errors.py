"""Messages of our errors."""

from __future__ import annotations

import pytest

from nni_diffnas.api.errors import DiffNASError, JobError, MemoryFileError


@pytest.mark.parametrize("kind", [DiffNASError, JobError, MemoryFileError])
def test_a_long_quotation_is_cut_and_the_remedy_stays(kind: type[DiffNASError]) -> None:
    said = str(kind(f"Field 'a' is {'9' * 5000}: give a number."))
    assert said.startswith("Field 'a' is 999")
    assert said.endswith("999: give a number.")
    assert len(said) < 2000
    assert str(kind("Field 'a' is 9: give 8.")) == "Field 'a' is 9: give 8."
