"""Files of a search with comments: what is read again is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_diffnas.cli.writing import commented, run_command

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(NAMES, st.recursive(VALUES, lambda inner: st.dictionaries(NAMES, inner), max_leaves=8)))
def test_what_is_read_is_what_was_written(content: dict[str, Any]) -> None:
    notes = dict.fromkeys(content, "Said of it.")
    assert (yaml.safe_load("".join(commented(content, notes))) or {}) == content


def test_a_command_can_be_pasted_whatever_the_folder_is_called() -> None:
    assert run_command(Path("a b/config.yml")) == "nni-diffnas run 'a b/config.yml'"
    assert run_command(Path("-/config.yml")) == "nni-diffnas run ./-/config.yml"


def test_a_comment_stands_above_its_field() -> None:
    content = {"a": {"b": {"c": 1}, "d": [1, 2]}}
    lines = "".join(commented(content, {"a": "First.", "a.b.c": "Deep.", "a.d": "Last."})).splitlines()
    assert lines == ["# First.", "a:", "  b:", "    # Deep.", "    c: 1", "  # Last.", "  d:", "  - 1", "  - 2"]
