"""A key in the environment is in no file, answer or log of an experiment; nothing that travels is code."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import pytest
from chat_server import ChatServer
from nni_experiment import created, write_config
from stand_ins import MutatingModel

from nni_diffnas.memory.experiment_folder import ExperimentFolder

KEY = "sk-planted-4f1c9a0be7d2583361"
PLANTED = {"OPENAI_API_KEY": KEY, "HF_TOKEN": "hf_planted0be7d258", "AWS_SECRET_ACCESS_KEY": "wJalrplanted/K7MDENG"}
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.nni
def test_a_planted_key_is_nowhere(tmp_path: Path, plugin_site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)
    job = {
        "space": {"type": "mlp"},
        "evaluator": {"type": "denoise2d", "steps": 20},
        "objective": {"metric": "error", "direction": "minimize"},
    }
    with ChatServer(MutatingModel(0), key=KEY) as server:
        arguments = {"job": "job.yml", "optimize_mode": "minimize", "base_url": server.url}
        config = write_config(
            tmp_path, job, maxTrialNumber=2, logLevel="debug", tuner={"name": "GPTProposer", "classArgs": arguments}
        )
        with created(config) as experiment:
            experiment.wait("DONE")
            answers = []
            for path in ("/experiment", "/check-status", "/trial-jobs", "/metric-data", "/experiments-info"):
                with urllib.request.urlopen(f"http://localhost:{experiment.port}/api/v1/nni{path}") as answer:
                    answers.append(answer.read())
        assert server.requests, "the key was not used"
    assert len(answers) == 5
    assert not [answer for answer in answers for secret in PLANTED.values() if secret.encode() in answer]
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) > 15
    assert not [file for file in written for secret in PLANTED.values() if secret.encode() in file.read_bytes()]


def test_nothing_is_unpickled() -> None:
    """Files travel between machines and people: JSON, npz without pickles, safetensors, weights_only."""
    wings = ("nni_diffnas", "strategies", "evaluators", "search_spaces")
    code = [file for wing in wings for file in (ROOT / wing).rglob("*.py")]
    assert len(code) > 80
    for file in code:
        text = file.read_text()
        assert not re.search(r"\b(pickle|marshal|shelve|dill|cloudpickle)\.\w*load|\bUnpickler\(", text), file
        assert "allow_pickle=True" not in text, file
        for call in re.findall(r"torch\.load\(.*", text):
            assert "weights_only=True" in call, (file, call)


@pytest.mark.parametrize("job_id", ["..", "../../secret", "/etc", "*", ""])
def test_a_job_id_of_a_memory_that_came_from_elsewhere_cannot_escape(job_id: str, tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path / "exp" / "e1")
    (folder.path / "trials").mkdir(parents=True)
    (tmp_path / "exp" / "secret").mkdir()
    (folder.path / "environments" / "local-env" / "trials" / "abc").mkdir(parents=True)
    assert folder.job_output(job_id) is None
    assert folder.job_output("abc") is not None
