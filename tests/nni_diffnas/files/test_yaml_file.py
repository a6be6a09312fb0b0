from __future__ import annotations

import os
from pathlib import Path

import pytest

from nni_diffnas.api.errors import JobError
from nni_diffnas.files.yaml_file import read_yaml

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 10)}]\n" for before, after in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"seed: 1\nseed: 2\n", "'seed' is given twice: leave one.*line 2"),
        (b"data: {source: a, source: b}\n", "'source' is given twice"),
        (b"seed: 0123\n", "0123 begins with a zero, which YAML reads as octal"),
        (b"seed: 1:30\n", "1:30 is a number of base 60 to YAML: write it in one unit"),
        (b"macs: 1:30.5\n", r"1:30\.5 is a number of base 60"),
        (b'data: {source: ["a\\0b"]}\n', r"a zero byte in 'data\.source\[0\]'"),
        (rb'data: {source: "\ud83d\ude00"}', r"half of a character .* in 'data\.source': write the character"),
        (b"when: 2026-13-45\n", "is not YAML: month must be"),
        (b"seed: " + b"9" * 5000, "is not YAML"),
        (b"a: [", "is not YAML"),
        (b"a: " + b"[" * 50_000, "is not YAML"),
        (b"a: &a [*a]\n", "an anchor within itself"),
        (BOMB.encode(), "more than 100,000 values"),
        ("a: é".encode("latin-1"), "is not UTF-8"),
        ("a: 1".encode("utf-16"), "is not UTF-8"),
        (b"a: !!python/object/apply:os.getcwd []", "is not YAML"),
        (b"a: 1\n---\na: 2\n", "is not YAML"),
    ],
)
def test_what_nobody_means_is_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_bytes(content)
    with pytest.raises(JobError, match=said) as caught:
        read_yaml(file, "Job file")
    assert str(caught.value).startswith("Job file '")
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_what_people_write_is_read(tmp_path: Path) -> None:
    file = tmp_path / "job.yml"
    file.write_text(
        "\ufeffa: &all {x: 1, y: 0}\r\nb: {<<: *all, y: 10}\r\nc: [1_000, -3, 0x10, 1.5]\r\n", encoding="utf-8"
    )
    assert read_yaml(file, "Job file") == {"a": {"x": 1, "y": 0}, "b": {"x": 1, "y": 10}, "c": [1000, -3, 16, 1.5]}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.yml")
    with pytest.raises(JobError, match="is no file: check the path"):
        read_yaml(tmp_path / "job.yml", "Job file")
