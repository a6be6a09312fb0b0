"""Rule 3 of the design: a tuner-door trial imports only what training needs, since it starts once per architecture."""

from __future__ import annotations

import sys

import pytest
import trial_overhead


def test_a_trial_has_imported_nothing_heavy_by_its_first_step_and_what_it_has_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = trial_overhead.NEEDED
    monkeypatch.setattr(sys, "argv", ["trial_overhead.py", "--pairs", "0"])
    monkeypatch.setattr(trial_overhead, "NEEDED", ())
    with pytest.raises(SystemExit, match=r"A trial imports .* by its first step: ") as refused:
        trial_overhead.main()
    named = str(refused.value).removeprefix("A trial imports ").split(" by its first step")[0]
    assert "diffusers" in named
    assert set(named.split(", ")) <= set(needed)
