from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chat_server import ChatServer
from typer.testing import CliRunner

from nni_diffnas.cli import app
from nni_diffnas.doors.doctor import Finding, check_config, check_environment
from nni_diffnas.doors.register import register_tuners
from nni_diffnas.job import load_job


@pytest.fixture
def config(plugin_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path / "nni"))
    register_tuners()
    job = {
        "space": {"type": "mlp"},
        "evaluator": {"type": "denoise2d", "steps": 5},
        "objective": {"metric": "error", "direction": "minimize"},
    }
    (tmp_path / "job.yml").write_text(yaml.safe_dump(job))
    space = load_job(tmp_path / "job.yml").make_family().space
    (tmp_path / "search_space.json").write_text(json.dumps(space.to_nni()))
    content = {
        "searchSpaceFile": "search_space.json",
        "trialCommand": "nni-diffnas trial job.yml",
        "trialCodeDirectory": ".",
        "trialConcurrency": 2,
        "maxTrialNumber": 4,
        "tuner": {"name": "RandomSearch", "classArgs": {"job": "job.yml", "optimize_mode": "minimize"}},
        "trainingService": {"platform": "local"},
    }
    file = tmp_path / "config.yml"
    file.write_text(yaml.safe_dump(content))
    return file


def change(config: Path, **changes: object) -> None:
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, **changes}))


def failures(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level == "FAIL"]


def test_a_good_config_has_no_failure_and_a_forecast(config: Path) -> None:
    findings = list(check_config(config, port=1))
    assert failures(findings) == []
    assert any("forecast" in finding.text for finding in findings)
    assert any("no password" in finding.text for finding in findings)


def test_what_a_language_model_will_cost_is_forecast(config: Path) -> None:
    with ChatServer(lambda messages: "ready") as server:
        arguments = {"job": "job.yml", "optimize_mode": "minimize", "base_url": server.url, "model": "mine"}
        change(config, tuner={"name": "GPTProposer", "classArgs": arguments})
        findings = list(check_config(config, port=1))
    assert failures(findings) == []
    assert any("forecast: 3 questions to mine" in f.text and "price is not known" in f.text for f in findings)


def test_the_environment_is_checked(config: Path) -> None:
    findings = list(check_environment())
    assert failures(findings) == []
    assert any("RegularizedEvolution" in finding.text for finding in findings)


def test_what_is_found_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def slow(*arguments: object) -> Iterator[Finding]:
        yield Finding("ok", "NNI accepts it")
        raise KeyboardInterrupt  # nobody waits for the forecast

    monkeypatch.setattr("nni_diffnas.doors.doctor.check_config", slow)
    done = CliRunner().invoke(app, ["doctor", str(tmp_path / "config.yml")])
    assert "ok   Python" in done.output
    assert "NNI accepts it" in done.output


def test_a_tuner_that_nni_does_not_know_is_named(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path / "empty"))
    assert any("nni-diffnas register" in text for text in failures(list(check_environment())))


GIVEN = {"job": "job.yml", "optimize_mode": "minimize"}
MISSPELT = "no option 'populaton': choose among population, sample, train_first, halving."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trialConcurrency": "many"}, "NNI does not accept"),
        ({"tuner": {"name": "TPE"}}, "none of ours"),
        ({"tuner": {"name": "RandomSearch", "classArgs": {"optimize_mode": "minimize"}}}, "no 'job'"),
        ({"tuner": {"name": "RandomSearch", "classArgs": {"job": "job.yml"}}}, "optimize_mode"),
        ({"tuner": {"name": "RegularizedEvolution", "classArgs": {**GIVEN, "populaton": 9}}}, MISSPELT),
        ({"searchSpaceFile": None, "searchSpace": {"a": {"_type": "choice", "_value": [1]}}}, "nni-diffnas space"),
        (
            {"trialGpuNumber": 1, "trainingService": {"platform": "local", "useActiveGpu": False}},
            "NNI never places",
        ),
    ],
)
def test_what_would_go_wrong_is_said_in_one_sentence(config: Path, changes: dict[str, object], said: str) -> None:
    change(config, **changes)
    found = failures(list(check_config(config, port=1)))
    assert len(found) == 1
    assert said in found[0]
    assert "\n" not in found[0]


def test_a_port_in_use_is_named(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert any(str(port) in text for text in failures(list(check_config(config, port=port))))


def test_a_halving_that_never_stops_a_trial_is_found(config: Path) -> None:
    arguments = {"job": "job.yml", "optimize_mode": "minimize", "halving": 2}
    change(config, tuner={"name": "RandomSearch", "classArgs": arguments})
    (found,) = failures(list(check_config(config, port=1)))
    assert found.startswith("halving is 2, but the evaluator does not measure error while it trains")
