"""`GPTProposer` through both doors: a live search, its replay without a server, and keys that are missing or wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from nni_experiment import BIN, created, environment_of, run_script, write_config
from stand_ins import MutatingModel

from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import load_job
from nni_diffnas.language_model.transcript import read_transcript
from nni_diffnas.memory import SearchMemory

pytestmark = pytest.mark.nni

TOY = {
    "space": {"type": "mlp"},
    "evaluator": {"type": "denoise2d", "steps": 20},
    "objective": {"metric": "error", "direction": "minimize"},
    "budget": {"params": {"min": 100, "max": 4000}},
}
SEARCH = """
from pathlib import Path
from nni.nas.experiment import NasExperiment
from nni_diffnas.evaluators import DiffusionEvaluator
from nni_diffnas.search_spaces import UNetSpace
from nni_diffnas.strategies import GPTProposer

evaluator = DiffusionEvaluator({"source": "digits"}, training={"images": 256}, score_images=32, sampler_steps=2,
                               curve_points=0)
evaluator.prepare()
strategy = GPTProposer(base_url="URL", transcript="transcript.jsonl")
experiment = NasExperiment(UNetSpace(preset="digits"), evaluator, strategy)
experiment.config.max_trial_number = 3
experiment.config.experiment_working_directory = str(Path("exp").resolve())
experiment.run(port=PORT)
print([trial.origin.kind for trial in strategy.search.trials])
experiment.stop()
"""


def tuner(**arguments: Any) -> dict[str, Any]:
    shared = {"job": "job.yml", "optimize_mode": "minimize", "train_first": "none"}
    return {"name": "GPTProposer", "classArgs": {**shared, **arguments}}


def search(folder: Path, **arguments: Any) -> tuple[list[Any], Path]:
    """Run four trials through ``nnictl create`` to the end; return them and the experiment's folder."""
    folder.mkdir()
    with created(write_config(folder, TOY, tuner=tuner(**arguments))) as experiment:
        experiment.wait("DONE")
        home = folder / "exp" / experiment.id
    with SearchMemory(home / "memory.sqlite", create=False) as memory:
        return memory.trials(), home


@pytest.mark.parametrize("door", ["one process", pytest.param("nnictl", marks=pytest.mark.slow)])
def test_a_live_search_reaches_done_and_its_replay_trains_the_same(
    door: str, tmp_path: Path, plugin_site: Path
) -> None:
    with ChatServer(MutatingModel(0), name="stand-in") as server:
        live, home = search(tmp_path / "live", base_url=server.url)
    assert [trial.origin.kind for trial in live] == ["proposal"] * 4
    with SearchMemory(home / "memory.sqlite", create=False) as memory:
        assert len(memory.events("ledger")) == len(server.requests)
    events = [entry["event"] for entry in read_transcript(home / "transcript.jsonl")]
    assert events.count("ended") == 4
    options = {"replay": str(home / "transcript.jsonl"), "train_first": "none"}
    if door == "nnictl":
        replayed, _ = search(tmp_path / "replay", **options)
    else:
        replayed = run_search(load_job(tmp_path / "live" / "job.yml"), "GPTProposer", tmp_path / "replay", 4, options)
    assert [trial.architecture for trial in replayed] == [trial.architecture for trial in live]


@pytest.mark.slow
@pytest.mark.parametrize("key", [None, "sk-wrong-0123456789abcdef"])
def test_a_key_that_does_not_serve_is_told_before_anything_trains(
    tmp_path: Path, plugin_site: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with ChatServer(MutatingModel(0), key="another") as server:
        config = write_config(tmp_path, TOY, tuner=tuner(**({} if key is None else {"base_url": server.url})))
        command = [str(BIN / "nni-diffnas"), "doctor", str(config)]
        doctor = subprocess.run(command, env=environment_of(tmp_path), capture_output=True, text=True, timeout=120)
        assert doctor.returncode == 1
        with created(config) as experiment:
            experiment.wait("ERROR", timeout=90)
            assert experiment.trials() == []
            identity = experiment.id
    log = (tmp_path / "exp" / identity / "log" / "nnictl_stderr.log").read_text()
    for text in (doctor.stdout, log):
        assert "OPENAI_API_KEY" in text
        assert "base_url" in text
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert key is None or not any(key.encode() in content for content in written)


@pytest.mark.slow
def test_nas_experiment(tmp_path: Path) -> None:
    with ChatServer(MutatingModel(0)) as server:
        said = run_script(tmp_path, SEARCH.replace("URL", server.url))
    assert "['default', 'proposal', 'proposal']" in said
    assert "2 questions to gpt-4 will take about " in said
    assert read_transcript(tmp_path / "transcript.jsonl")[0]["model"] == "gpt-4"
