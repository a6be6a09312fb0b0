"""The command: what it prints and how it ends; where the process matters, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import command

from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.memory import SearchMemory

JOB = {
    "space": {"type": "mlp"},
    "evaluator": {"type": "denoise2d", "steps": 5},
    "objective": {"metric": "error", "direction": "minimize"},
    "budget": {"params": {"max": 600}},
}


def process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nni_diffnas.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def folder(plugin_site: Path, tmp_path: Path) -> Path:
    (tmp_path / "job.yml").write_text(yaml.safe_dump(JOB))
    return tmp_path


def test_trial_prints_json_in_its_last_line(folder: Path) -> None:
    done = process(folder, "trial", "job.yml", "--output", "out")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert {"error", "macs", "params", "seconds"} <= metrics.keys()
    assert json.loads((folder / "out" / "result.json").read_text())["metrics"] == metrics


def test_dry_run_trains_nothing(folder: Path) -> None:
    done = command(folder, "trial", "job.yml", "--dry-run")
    assert json.loads(done.stdout)["cost"] == {"macs": 40, "params": 50}
    assert not (folder / "trial-output").exists()


def test_dry_run_resolves_the_recipe(tmp_path: Path) -> None:
    job = """
    space: {type: unet, preset: digits, learned_sigma: true}
    data: {source: digits}
    evaluator: {type: diffusion, extractor: random, training: {recipe: iddpm, images: 100, learning_rate: 0.0003}}
    """
    (tmp_path / "job.yml").write_text(job)
    plan = json.loads(command(tmp_path, "trial", "job.yml", "--dry-run").stdout)
    training = plan["evaluator"]["training"]
    assert (training["timesteps"], training["learned_sigma"], training["learning_rate"]) == (4000, True, 0.0003)
    assert plan["scheduler"]["variance_type"] == "learned_range"
    assert plan["computing"]["processes"] == 1


def test_space_writes_nni_s_json_and_says_the_size(folder: Path) -> None:
    done = command(folder, "space", "job.yml", "--output", "space.json")
    written = json.loads((folder / "space.json").read_text())
    assert written["depth"] == {"_type": "choice", "_value": [1, 2, 3]}
    assert json.loads(done.stdout) == written
    assert "168 architectures" in done.stderr


def test_cost_lists_default_given_and_random(folder: Path) -> None:
    (folder / "wide.json").write_text('{"depth": 1, "activation": "relu", "layer0.width": 64}')
    done = command(folder, "cost", "job.yml", "--arch", "wide.json", "--random", "2")
    assert done.stdout.count("params") == 4
    assert "320MACs, 386 params" in done.stdout


def test_networks_of_a_budget_have_names(tmp_path: Path) -> None:
    job = {"space": {"type": "unet", "preset": "pixels8"}, "data": {"source": "patches"}, "seed": 0}
    job |= {"evaluator": {"type": "diffusion", "extractor": "random"}, "budget": {"macs": {"max": 2.9e6}}}
    (tmp_path / "job.yml").write_text(yaml.safe_dump(job))
    listed = command(tmp_path, "cost", "job.yml", "--random", "0").stdout.splitlines()
    at = next(number for number, line in enumerate(listed) if line.startswith("recommended: wide ConvNeXt "))
    assert any(line.startswith("by hand: narrower ") for line in listed)
    recommended = json.loads(listed[at + 1])
    for arguments in (["train", "job.yml", "--output", "out"], ["trial", "job.yml"]):
        planned = command(tmp_path, *arguments, "--dry-run", "--arch", "wide ConvNeXt")
        assert json.loads(planned.stdout)["architecture"] == recommended
    refused = command(tmp_path, "train", "job.yml", "--output", "out", "--arch", "wider")
    assert refused.returncode == 2
    assert "'wider' is no architecture file: name one, or a network of the job's budget: 'narrower'," in refused.stderr
    refused = command(tmp_path, "trial", "job.yml", "--arch", "a" * 5000)
    assert "is no architecture file: name one" in refused.stderr
    (tmp_path / "narrower").write_text(json.dumps(recommended))
    planned = command(tmp_path, "trial", "job.yml", "--dry-run", "--arch", "narrower")
    assert json.loads(planned.stdout)["architecture"] == recommended, "a file of this name comes first"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trial", "none.yml"], "none.yml"),
        (["trial", "job.yml", "--arch", "bad.json"], "layer9.width"),
        (["export", "nonesuch"], "nonesuch"),
        (["verdict", "."], "no search of nni-diffnas"),
        (["verdict", ".", "--seeds", "few"], "--seeds is 'few': give a number from 2 to 1000, or auto"),
        (["verdict", ".", "--seeds", "1"], "--seeds is '1': give a number from 2 to 1000, or auto"),
        (["verdict", ".", "--seeds", "9" * 5000], "give a number from 2 to 1000, or auto"),
        (["report", "~nobody-of-this-name/search"], "is neither a folder nor an id that NNI knows"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_two(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "bad.json").write_text('{"depth": 1, "layer9.width": 64}')
    done = command(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["cost", "job.yml", "--seed", "-1"], "--seed"),
        (["trial", "job.yml", "--seed", "99999999999999999999"], "--seed"),
        (["train", "job.yml", "--output", "out", "--seed", "-1"], "--seed"),
        (["calibrate", "job.yml", "--output", "out", "--tau", "2"], "--tau"),
    ],
)
def test_numbers_that_nobody_can_mean_are_refused_by_option(folder: Path, arguments: list[str], option: str) -> None:
    done = command(folder, *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"Invalid value for '{option}'" in done.stderr
    assert not (folder / "out").exists()


def test_a_full_disk_is_one_sentence(folder: Path) -> None:
    """No file may grow beyond what a quota leaves; images, weights and pictures are written by different libraries."""
    unet = {"space": {"type": "unet", "preset": "digits"}, "data": {"source": "digits"}}
    brief = {"type": "diffusion", "extractor": "random", "training": {"steps": 1}, "score_images": 8}
    (folder / "unet.yml").write_text(yaml.safe_dump({**unet, "evaluator": brief}))
    limited = f"ulimit -f 200; exec {sys.executable} -m nni_diffnas.cli train unet.yml --longer 1 --output out"
    done = subprocess.run(["bash", "-c", limited], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("nni-diffnas: the disk is full: ")
    assert last.endswith("mend that, and give the same command again.")


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["space", "job.yml", "--output"], "missing/out"),
        (["report", "memory.sqlite", "--job", "job.yml", "--output"], "missing/out"),
        (["compare", "memory.sqlite", "other.sqlite", "--job", "job.yml", "--output"], "missing/out"),
        (["trial", "job.yml", "--output"], "job.yml/out"),
        (["train", "unet.yml", "--output"], "job.yml/out"),
        (["calibrate", "job.yml", "--output"], "job.yml/out"),
        (["evaluate", "pipeline", "--data", "digits", "--output"], "job.yml/out"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_sentence(folder: Path, arguments: list[str], there: str) -> None:
    unet = {"space": {"type": "unet", "preset": "digits"}, "evaluator": {"type": "diffusion"}}
    (folder / "unet.yml").write_text(yaml.safe_dump({**unet, "data": {"source": "digits"}}))
    for name in ("memory", "other"):
        trial = Trial(f"{name}-0000", name, {"depth": 1}, Origin("s", "random")).succeeded({"error": 1.0})
        with SearchMemory(folder / f"{name}.sqlite") as memory:
            memory.add(trial, Space({"depth": (1, 2)}))
    done = command(folder, *arguments, there)
    assert done.returncode == 2
    assert done.stderr.startswith(f"nni-diffnas: '{there}' cannot be written (")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_process_that_cannot_go_on_prints_one_sentence_and_nothing_else(folder: Path) -> None:
    done = process(folder, "evaluate", "pipeline", "--data", "digits", "--output", "job.yml/out")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_budget_that_nobody_meets_names_the_nearest_cost(folder: Path) -> None:
    (folder / "job.yml").write_text(yaml.safe_dump({**JOB, "budget": {"params": {"max": 10}}}))
    done = command(folder, "cost", "job.yml")
    assert done.returncode == 2
    assert "params 50 is" in done.stderr
