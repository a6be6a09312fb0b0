"""Files that strangers made: nothing that they name is read, written or run outside the folders it is meant for."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from tuner_door import table_job

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import JobError
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.evaluators.images.image_set import images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.files.pipeline_parts import read_index, refuse_links
from nni_diffnas.job import load_job
from nni_diffnas.language_model.reading import render_transcript
from nni_diffnas.language_model.transcript import FORMAT
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source, render_report
from nni_diffnas.results.remote import fetch_output
from nni_diffnas.results.verdict import Verdict
from nni_diffnas.trial.result_file import RESULT_FILE, TrialRecord

HOSTILE = "<script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'"
SECRET = b"the user's own"


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentFolder:
    run_search(load_job(table_job(tmp_path) / "job.yml"), "RandomSearch", tmp_path / "exp" / "one", 3)
    return ExperimentFolder(tmp_path / "exp" / "one")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the user's that is nobody's business."""
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    return file


def output_of_best(experiment: ExperimentFolder) -> Path:
    best = read_source(str(experiment.path)).outcome.best
    assert best is not None
    output = experiment.output(best.id)
    assert output is not None
    return output


def test_a_report_shows_no_file_that_a_link_leads_to(experiment: ExperimentFolder, secret: Path) -> None:
    output = output_of_best(experiment)
    (output / "samples.png").write_bytes(SECRET)
    assert base64.b64encode(SECRET).decode() in render_report(read_source(str(experiment.path)))
    (output / "samples.png").unlink()
    (output / "samples.png").symlink_to(secret)
    assert base64.b64encode(SECRET).decode() not in render_report(read_source(str(experiment.path)))


def test_an_output_folder_elsewhere_is_none_of_the_experiments(experiment: ExperimentFolder, tmp_path: Path) -> None:
    output = output_of_best(experiment)
    shutil.move(output, tmp_path / "elsewhere")
    output.symlink_to(tmp_path / "elsewhere")
    assert experiment.job_output(output.name) is None
    assert experiment.trial_result(output.name) == {}
    source = read_source(str(experiment.path))
    assert source.outcome.best is not None
    assert source.output(source.outcome.best) is None


@pytest.mark.parametrize("named", ["../two/memory.sqlite", "../../exp/two/memory.sqlite"])
def test_a_memory_with_dots_in_its_name_is_not_read(experiment: ExperimentFolder, named: str) -> None:
    shutil.copytree(experiment.path, experiment.path.parent / "two")
    (experiment.path / "memory.sqlite").unlink()
    (experiment.path / "diffnas.json").write_text(json.dumps({"memory": named, "experiment": "one"}))
    with pytest.raises(JobError, match="which is not there: copy it to"):
        _ = experiment.memory


def test_a_result_stays_in_its_folder_whatever_its_trial_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "exp" / "trials" / "j1"
    folder.mkdir(parents=True)
    (folder / RESULT_FILE).write_text(json.dumps({"trial": "/../../../../stolen", "metrics": {"rfid": 1.0}}))
    before = set(tmp_path.rglob("*"))
    TrialRecord(folder, "t1").claim()
    (new,) = set(tmp_path.rglob("*")) - before
    assert new.parent == folder
    assert TrialRecord.read(new)["metrics"] == {"rfid": 1.0}


@pytest.mark.parametrize(
    "content",
    [
        {"trial": ["t1"]},
        {"trial": "t1", "metrics": "none"},
        {"trial": "t1", "metrics": {"rfid": "low"}},
        {"failure": 5},
        [1],
        "x",
    ],
)
def test_a_result_that_no_trial_writes_is_none(content: object, tmp_path: Path) -> None:
    (tmp_path / RESULT_FILE).write_text(json.dumps(content))
    assert TrialRecord.read(tmp_path / RESULT_FILE) == {}
    assert TrialRecord(tmp_path, "t1").earlier() is None


def test_a_result_of_endless_depth_is_none(tmp_path: Path) -> None:
    (tmp_path / RESULT_FILE).write_text("[" * 200_000)
    assert TrialRecord.read(tmp_path / RESULT_FILE) == {}


def test_a_verdict_names_no_folder_elsewhere(tmp_path: Path) -> None:
    judged = {"name": "winner", "kind": "winner", "scores": [1.0, 2.0], "cost": None, "runs": ["../secret"]}
    body = {"objective": {"metric": "rfid", "direction": "minimize"}, "networks": [judged], "quantity": "macs"}
    file = tmp_path / "verdict.json"
    file.write_text(json.dumps({**body, "paired": False, "looks": [3], "longer": 1.0}))
    with pytest.raises(JobError, match="cannot be read: compute it again"):
        Verdict.load(file)
    file.write_text(file.read_text().replace("../secret", "secret"))
    assert Verdict.load(file).winner.runs == ("secret",)


@pytest.mark.parametrize(
    "entry",
    [
        {"../unet": ["diffusers", "UNet2DModel"]},
        {"unet": ["../../code", "UNet2DModel"]},
        {"unet": ["diffusers", "/etc/passwd"]},
        {"_class_name": ["../code", "Pipeline"]},
    ],
)
def test_parts_of_a_pipeline_lie_within_it(entry: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", **entry}))
    with pytest.raises(JobError, match="lies outside the pipeline"):
        read_index(tmp_path)


def test_hugging_faces_own_names_and_links_are_no_harm(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs" / "abc").write_text("{}")
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "unet" / "config.json").symlink_to("../../../blobs/abc")
    (snapshot / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", "_name_or_path": "a/b"}))
    assert read_index(snapshot)["_name_or_path"] == "a/b"
    refuse_links(snapshot)


def test_a_pipeline_that_is_copied_takes_no_file_of_the_users_along(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "teacher" / "vae").mkdir(parents=True)
    (tmp_path / "teacher" / "vae" / "notes.txt").symlink_to(secret)
    with pytest.raises(JobError, match=r"notes\.txt' is a link out of its pipeline"):
        refuse_links(tmp_path / "teacher")


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 128).save(buffer, "png")
    return buffer.getvalue()


def test_members_of_a_zip_are_written_nowhere(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "down"
    place.mkdir(parents=True)
    names = ("../../escaped.png", "/tmp/escaped-absolute.png", "..\\escaped.png", "one.png", "two.png")
    with zipfile.ZipFile(place / "pictures.zip", "w") as archive:
        for name in names:
            archive.writestr(name, picture())
    before = set(tmp_path.rglob("*"))
    found = images(DataSettings(source=str(place / "pictures.zip"), held_out=0))
    assert len(found.pixels) == 2
    assert "3 that are named as lying outside" in found.left_out
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/escaped-absolute.png").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_lead_to_none_of_the_users_files(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(picture())
    with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
        for name in ("a.png", "b.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture())
            archive.addfile(member, io.BytesIO(picture()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = kind, str(tmp_path / "private.png")
        archive.addfile(link)
    found = images(DataSettings(source=str(tmp_path / "pictures.tar"), held_out=0))
    assert len(found.pixels) == 2


def test_a_report_of_a_strangers_memory_runs_no_script_of_his(tmp_path: Path) -> None:
    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        space = Space({HOSTILE: (1, 2), "other": (HOSTILE, "plain")})
        for number, name in enumerate((f"a{HOSTILE}", "b", "c")):
            origin = Origin(HOSTILE, HOSTILE, parent=HOSTILE)
            trial = Trial(
                name,
                HOSTILE,
                {HOSTILE: 1 + number % 2, "other": HOSTILE},
                origin,
                cost=Cost(5 + number, 5),
                protocol=HOSTILE,
            )
            memory.add(trial, space)
            ended = trial.failed(HOSTILE) if number == 2 else trial.succeeded({"rfid": 1.0 + number, HOSTILE: 3.0})
            memory.update(ended)
    page = render_report(read_source(str(tmp_path / "memory.sqlite")))
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert len(scripts) == 2
    assert "alert(1)" in scripts[0], "the trials' JSON holds it as text"
    assert "<" not in scripts[0]
    assert "alert" not in scripts[1]
    assert "<img src=x" not in page
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    assert "default-src 'none'" in policy
    assert re.findall(r"script-src ([^;]*)", policy) == [
        f"'sha256-{base64.b64encode(hashlib.sha256(scripts[1].encode()).digest()).decode()}'"
    ]


def test_a_transcript_cannot_move_the_terminals_cursor(tmp_path: Path) -> None:
    head = {"n": 0, "event": "head", "format": FORMAT, "model": "m\x1b]0;title\x07", "server": "s"}
    said = {"n": 1, "event": "rejected", "proposal": "\x1b[2J\x9b1A‮", "why": "because"}
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(line) for line in (head, said)))
    printed = render_transcript(tmp_path / "t.jsonl")
    assert "because" in printed
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f‮]", printed)


def test_no_machine_is_asked_that_a_strangers_folder_names(
    experiment: ExperimentFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path / "nni"))
    config = {
        "experimentType": "hpo",
        "trainingService": {
            "platform": "remote",
            "machineList": [{"host": "127.0.0.1", "port": 9, "user": "u", "sshKeyFile": str(tmp_path / "key")}],
        },
    }
    (experiment.path / "db").mkdir()
    with closing(sqlite3.connect(experiment.path / "db" / "nni.sqlite")) as records:
        records.execute("CREATE TABLE ExperimentProfile (params text, id text, revision integer)")
        records.execute("INSERT INTO ExperimentProfile VALUES (?, 'one', 1)", (json.dumps(config),))
        records.commit()
    with pytest.raises(JobError, match="copy the output by hand"):
        fetch_output(experiment, "abc")


PLUGIN = """
import os
from nni_diffnas.job import load_job
from nni_diffnas.trial.result_file import reason_of
token, key = os.environ["HF_TOKEN"], os.environ["AWS_SECRET_ACCESS_KEY"]
print(reason_of(RuntimeError(f"403 at https://user:{token}@host with {key}")))
try:
    load_job("job.yml")
except Exception as error:
    print(error)
"""


def test_secrets_of_the_environment_are_in_no_reason_and_no_job(tmp_path: Path) -> None:
    secrets = {"HF_TOKEN": "hf_plantedplanted123", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPx"}
    (tmp_path / "job.yml").write_text(
        f"space: {{type: unet, preset: digits}}\ndata: {{source: 'https://h/?t={secrets['HF_TOKEN']}'}}\n"
        "evaluator: {type: diffusion}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", PLUGIN], env={**os.environ, **secrets}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.count("[key removed]") == 2
    assert "looks like a secret in 'data.source'" in done.stdout
    assert not [value for value in secrets.values() if value in done.stdout + done.stderr]
