"""Whatever a file holds, cut, shuffled, oversized or of other types: a sentence or a result, no traceback and no hang.

The brief tests are for every day; with the marker ``slow`` the same run for many more examples (`.ci/full`).
"""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tuner_door import Manager, table_job

from nni_diffnas.api.errors import DiffNASError
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.evaluators.images.image_set import images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.job import load_job
from nni_diffnas.language_model.reading import render_transcript
from nni_diffnas.language_model.replay import ReplayedModel
from nni_diffnas.memory import SearchMemory
from nni_diffnas.report import read_source, render_report
from nni_diffnas.results.verdict import Verdict
from nni_diffnas.searching.narrowing import narrow_family
from nni_diffnas.trial.result_file import RESULT_FILE, TrialRecord

ROOT = Path(__file__).resolve().parents[2]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["9" * 5000, "\0", "x" * 300_000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
"""What JSON and YAML can hold."""


def brief(examples: int) -> Any:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )


def places(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Ways to every value of nested JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [at, *(place for key, value in items for place in places(value, (*at, key)))]


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """Sound content of which a few values are replaced, or left out."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(content)))
        value = draw(JSON)
        if not place:
            return value
        inner = content
        for key in place[:-1]:
            inner = inner[key]
        if draw(st.booleans()) and isinstance(inner, dict):
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
    return content


@st.composite
def mangled(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that were cut, shuffled, overwritten or added to."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 16, 200))
        match rng.randrange(4):
            case 0:
                del out[at:]
            case 1:
                out[at : at + length] = rng.randbytes(length)
            case 2:
                out[at:at] = out[at // 2 : at // 2 + length]
            case 3:
                del out[at : at + length]
    return bytes(out)


def refused_or_done(call: Callable[[], Any]) -> None:
    said = "a sentence, not too long"
    try:
        call()
    except DiffNASError as error:
        said = str(error)
    assert 10 < len(said) < 3000


JOB = {
    "space": {"type": "unet", "preset": "digits", "sample_size": 8},
    "data": {"source": "digits", "held_out": 0.1, "size": 8, "channels": 1, "split_seed": 3},
    "evaluator": {"type": "diffusion", "training": {"images": 64, "learning_rate": 0.001}, "score_images": 32},
    "objective": {"metric": "rfid", "direction": "minimize"},
    "budget": {"macs": {"min": 1.0, "max": 2.0e6}},
    "seed": 1,
    "max_trial_seconds": 5.0,
    "memory": "memory.sqlite",
    "warm_start": ["other.sqlite"],
}


def read_job(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.yml"
        file.write_bytes(content)

        def read() -> None:
            job = load_job(file)
            job.make_budget(), job.make_objective(), job.make_family(), job.make_evaluation()

        refused_or_done(read)


def check_jobs(content: Any) -> None:
    read_job(json.dumps(content).encode())  # JSON is YAML


def check_job_texts(content: bytes) -> None:
    read_job(content)


SPACE: dict[str, Any] = {"a": {"_type": "choice", "_value": [0, 1, 2]}, "b": {"_type": "choice", "_value": [0, 1]}}


def check_spaces(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        family = load_job(table_job(Path(folder)) / "job.yml").make_family()
        refused_or_done(lambda: narrow_family(family, content))


TRANSCRIPT = [json.loads(line) for line in (ROOT / "examples/story/transcript.jsonl").read_text().splitlines()[:12]]


def check_transcripts(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "transcript.jsonl"
        lines = content if isinstance(content, list) else [content]
        file.write_text("\n".join(json.dumps(line) for line in lines))
        refused_or_done(lambda: render_transcript(file))
        refused_or_done(lambda: ReplayedModel(file))


RESULT = {
    "trial": "t1", "process": "p", "architecture": {"a": 1}, "metrics": {"rfid": 1.5, "front": [[1, 2.0]]},
    "protocol": "x", "seed": 3,
}  # fmt: skip


def check_results(content: Any) -> None:
    """A trial that finds any file claims its folder, and what NNI lists is settled."""
    with tempfile.TemporaryDirectory() as name:
        manager = Manager(Path(name))
        output = manager.folder.path / "trials" / "j1"
        output.mkdir(parents=True)
        (output / RESULT_FILE).write_text(json.dumps(content))
        manager.record(1, {"run.trial": "t1"}, "SUCCEEDED", 2.0)
        found = manager.jobs().results()
        assert "t1" in found, "a trial is lost"
        manager.jobs().ended()
        record = TrialRecord(output, "t2")
        record.earlier()
        record.claim()
        record.fail("because")
        assert TrialRecord.read(output / RESULT_FILE)["failure"] == "because"


VERDICT = {
    "objective": {"metric": "rfid", "direction": "minimize"},
    "networks": [
        {"name": "winner", "kind": "winner", "scores": [1.0, 2.0], "cost": {"macs": 1, "params": 2}, "runs": ["a", "b"]}
    ],
    "quantity": "macs", "paired": False, "looks": [3], "longer": 1.0,
}  # fmt: skip


def check_verdicts(content: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verdict.json"
        file.write_text(json.dumps(content))
        refused_or_done(lambda: Verdict.load(file))


def pictures() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    found = []
    for suffix, mode in (("png", "RGB"), ("png", "P"), ("jpg", "RGB"), ("gif", "P"), ("tif", "RGB"), ("webp", "RGB"),
                         ("bmp", "L"), ("ppm", "RGB"), ("png", "LA")):  # fmt: skip
        buffer = io.BytesIO()
        image = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).convert(mode)
        image.save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
        found.append((suffix, buffer.getvalue()))
    return found


PICTURES = pictures()


def archive_of(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        for number, (suffix, data) in enumerate(PICTURES[:4]):
            place = Path(folder) / "in" / "cat"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.{suffix}").write_bytes(data)
        return Path(shutil.make_archive(str(Path(folder) / "out"), kind, Path(folder) / "in")).read_bytes()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.arange(8 * 64, dtype=np.uint8).reshape(8, 8, 8), labels=np.arange(8))
    return buffer.getvalue()


SOURCES = [
    *PICTURES,
    ("zip", archive_of("zip")),
    ("tar", archive_of("tar")),
    ("gz", archive_of("gztar")),
    ("npz", npz()),
]


def check_sources(kind: int, content: bytes) -> None:
    suffix, _ = SOURCES[kind]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        place.mkdir()
        (place / f"c.{suffix}").write_bytes(content)
        inside = kind < len(PICTURES)
        for name in "ab" if inside else "":
            (place / f"{name}.{suffix}").write_bytes(SOURCES[kind][1])
        source = place if inside else place / f"c.{suffix}"
        options = {"on_corrupt": "skip", "size": 8, "channels": 3} if inside else {"size": 8, "channels": 3}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NNI_DIFFNAS_CACHE", folder)
            refused_or_done(
                lambda: images(DataSettings.model_validate({"source": str(source), "held_out": 0, **options}))
            )


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    run_search(load_job(table_job(folder) / "job.yml"), "RandomSearch", folder / "one", 4)
    with closing(sqlite3.connect(folder / "one" / "memory.sqlite")) as rows:
        rows.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "one" / "memory.sqlite"


def read_memory(file: Path) -> None:
    def read() -> None:
        render_report(read_source(str(file)))
        with SearchMemory.reading(file) as opened:
            opened.trials(), opened.events(), opened.spaces()

    refused_or_done(read)


def check_memory_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "memory.sqlite").write_bytes(content)
        read_memory(Path(folder) / "memory.sqlite")


def check_memory_rows(memory: Path, table: str, number: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(shutil.copy(memory, folder))
        with closing(sqlite3.connect(file)) as rows:
            key = "key" if table == "spaces" else "number"
            listed = rows.execute(f"SELECT {key}, body FROM {table}").fetchall()
            row, body = listed[number % len(listed)]
            new = json.dumps(data.draw(changed(json.loads(body))))
            rows.execute(f"UPDATE {table} SET body = ? WHERE {key} = ?", [new, row])
            rows.commit()
        read_memory(file)


@pytest.mark.parametrize("examples", [25, pytest.param(2000, marks=pytest.mark.slow)])
class TestFuzz:
    def test_job_files(self, examples: int) -> None:
        brief(examples)(given(changed(JOB) | JSON)(check_jobs))()

    def test_texts_of_job_files(self, examples: int) -> None:
        text = yaml.safe_dump(JOB).encode()
        brief(examples)(given(mangled(text) | st.binary(max_size=200))(check_job_texts))()

    def test_search_spaces(self, examples: int) -> None:
        brief(examples)(given(changed(SPACE) | JSON)(check_spaces))()

    def test_transcripts(self, examples: int) -> None:
        brief(examples)(given(changed(TRANSCRIPT) | JSON)(check_transcripts))()

    def test_results(self, examples: int) -> None:
        brief(examples)(given(changed(RESULT) | JSON)(check_results))()

    def test_verdicts(self, examples: int) -> None:
        brief(examples)(given(changed(VERDICT) | JSON)(check_verdicts))()

    def test_pictures_and_archives(self, examples: int) -> None:
        kinds = st.integers(0, len(SOURCES) - 1).flatmap(
            lambda kind: st.tuples(st.just(kind), mangled(SOURCES[kind][1]))
        )
        brief(examples)(given(kinds)(lambda kind: check_sources(*kind)))()

    def test_bytes_of_memories(self, examples: int, memory: Path) -> None:
        brief(examples)(given(mangled(memory.read_bytes()))(check_memory_bytes))()

    def test_rows_of_memories(self, examples: int, memory: Path) -> None:
        tables = st.sampled_from(["trials", "events", "spaces"])

        def check(table: str, number: int, data: st.DataObject) -> None:
            check_memory_rows(memory, table, number, data)

        brief(examples)(given(tables, st.integers(0, 20), st.data())(check))()
