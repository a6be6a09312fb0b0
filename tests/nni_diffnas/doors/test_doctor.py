from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from blockwise_teachers import QUICK, save_teacher
from chat_server import ChatServer
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.cli import app
from nni_diffnas.doors.doctor import Finding, check_config, check_environment
from nni_diffnas.doors.register import register_tuners
from nni_diffnas.job import load_job
from nni_diffnas.memory import SearchMemory


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
    told = next(f.text for f in findings if "questions to mine" in f.text)
    assert f"model mine at {server.url} answered" in told
    assert "3 questions to mine will take about" in told
    assert "USD" not in told
    assert "price" not in told, "a server of one's own asks for none"


def test_a_warm_start_none_of_whose_trials_counts_is_told(config: Path, tmp_path: Path) -> None:
    job = yaml.safe_load((tmp_path / "job.yml").read_text())
    (tmp_path / "job.yml").write_text(yaml.safe_dump({**job, "warm_start": ["old.sqlite"]}))
    trial = Trial("old-0", "old", {"depth": 1}, Origin("s", "random"), protocol="other").succeeded({"error": 1.0})
    with SearchMemory(tmp_path / "old.sqlite") as memory:
        memory.add(trial, Space({"depth": (1, 2)}))
    notes = [finding.text for finding in check_config(config, port=1) if finding.level == "note"]
    assert any(note.startswith("of 1 trials of warm_start 0 count: ") and "as by 'other'" in note for note in notes)


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        (".", "is a folder or a device: name a file"),
        ("missing/memory.sqlite", "does not exist: create it first"),
        ("job.yml", "is not a search memory: it is left as it is, name another file"),
        ("new.sqlite", ""),
    ],
)
def test_a_memory_that_no_search_could_keep_is_found(config: Path, tmp_path: Path, memory: str, said: str) -> None:
    job = yaml.safe_load((tmp_path / "job.yml").read_text())
    (tmp_path / "job.yml").write_text(yaml.safe_dump({**job, "memory": memory}))
    failed = failures(list(check_config(config, port=1)))
    assert said in " ".join(failed)
    assert bool(said) == bool(failed)
    assert not (tmp_path / "new.sqlite").exists()


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


def test_a_search_that_ends_by_time_is_tried_too(config: Path, tmp_path: Path) -> None:
    """A teacher is damaged, which is seen when a few steps are timed."""
    change(config, maxTrialNumber=None, maxExperimentDuration="1h")
    findings = list(check_config(config, port=1))
    assert failures(findings) == []
    assert any("forecast, without a maxTrialNumber: 2 trials" in finding.text for finding in findings)
    teacher = save_teacher(tmp_path / "teacher")
    weights = teacher / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(weights), "conv_out.bias": torch.full((1,), float("nan"))}, weights, {"format": "pt"})
    job = {
        "space": {"type": "blockwise", "teacher": "teacher"},
        "data": {"source": "digits"},
        "evaluator": {"type": "blockwise", **QUICK},
    }
    (tmp_path / "job.yml").write_text(yaml.safe_dump(job))
    space = load_job(tmp_path / "job.yml").make_family().space
    (tmp_path / "search_space.json").write_text(json.dumps(space.to_nni()))
    change(config, tuner={"name": "BlockwiseLocalSearch", "classArgs": GIVEN})
    (found,) = failures(list(check_config(config, port=1)))
    assert "teacher/unet' hold numbers that are not finite, the first in 'conv_out.bias'" in found


def test_a_port_in_use_is_named(config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = f"Port {port} is in use: choose another by --port."
        assert said in failures(list(check_config(config, port=port)))


def test_a_halving_that_never_stops_a_trial_is_found(config: Path) -> None:
    arguments = {"job": "job.yml", "optimize_mode": "minimize", "halving": 2}
    change(config, tuner={"name": "RandomSearch", "classArgs": arguments})
    (found,) = failures(list(check_config(config, port=1)))
    assert found.startswith("halving is 2, but the evaluator does not measure error while it trains")


@pytest.fixture
def own_images(config: Path) -> Path:
    """The config's job learns from a folder of images, some of which are left out."""
    folder = config.parent / "pictures"
    for kind in ("cat", "dog"):
        (folder / kind / "more").mkdir(parents=True)
        for index in range(20):
            pixels = np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{index}.png")
        Image.fromarray(pixels).save(folder / kind / "more" / "deep.png")
    job = {
        "space": {"type": "unet", "preset": "digits"},
        "data": {"source": "pictures"},
        "evaluator": {"type": "diffusion", "extractor": "random", "training": {"steps": 1}, "score_images": 10},
    }
    (config.parent / "job.yml").write_text(yaml.safe_dump(job))
    space = load_job(config.parent / "job.yml").make_family().space
    (config.parent / "search_space.json").write_text(json.dumps(space.to_nni()))
    return config


def test_the_data_is_described_and_shown(own_images: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheets" / "data.png"
    findings = list(check_config(own_images, 1, sheet))
    assert failures(findings) == []
    told = {finding.text: finding.level for finding in findings if finding.text.startswith("data: ")}
    first, classes, left_out = told
    assert first.startswith("data: 40 images of 8x8 pixels in grey, ")
    assert "pixels are 0 to 255, 1" in first
    assert classes == "data: 2 classes: cat as 0, dog as 1"
    assert left_out.endswith("2 in folders within class folders (cat/more/deep.png, dog/more/deep.png)")
    assert told[left_out] == "note"
    with Image.open(sheet) as picture:
        assert min(picture.size) > 300


def test_an_objective_that_the_data_do_not_allow_is_found(own_images: Path) -> None:
    """A quarter of the held-out images ranks by this loss, and of three that is none."""
    job = yaml.safe_load((own_images.parent / "job.yml").read_text())
    job |= {"objective": {"metric": "held_out_loss"}, "data": {**job["data"], "held_out": 0.08, "split": "position"}}
    (own_images.parent / "job.yml").write_text(yaml.safe_dump(job))
    (found,) = failures(list(check_config(own_images, port=1)))
    said = "objective.metric is 'held_out_loss', which the evaluator does not measure on these data: name one of rfid"
    assert found.startswith(said)


def test_pictures_of_data_that_has_none(config: Path, tmp_path: Path) -> None:
    assert "leave out --pictures" in failures(list(check_config(config, 1, tmp_path / "data.png")))[0]
    assert not (tmp_path / "data.png").exists()


def test_a_proxy_between_nni_and_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://somebody:secret@127.0.0.1:9")
    (told,) = [text for text in failures(list(check_environment())) if "proxy" in text]
    assert "export no_proxy=localhost,127.0.0.1" in told
    assert "secret" not in told
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert not [text for text in failures(list(check_environment())) if "proxy" in text]
