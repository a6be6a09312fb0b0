"""Block-wise search through both doors: the examples in pixels and latents, and a search that is killed and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from blockwise_teachers import QUICK, example_with_teachers, save_teacher
from nni.tools.nnictl.config_utils import Experiments
from nni_experiment import Running, created, environment_of, free_port, resumed, run, write_config

from nni_diffnas.api.trial import Trial
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.results.read import read_search

pytestmark = [pytest.mark.nni, pytest.mark.slow]

TUNER = {"name": "BlockwiseLocalSearch", "classArgs": {"job": "job.yml", "optimize_mode": "minimize"}}
EXAMPLE_CONFIGS = [
    ("blockwise", "config.yml", 8),
    ("blockwise_latent", "config_latent.yml", 16),
    ("blockwise_latent", "config_text.yml", 16),
]
DRAW = """
import sys
sys.modules["nni_diffnas"] = None
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
arguments = {"prompt": ["the digit two"]} if "text" in sys.argv[2] else {"batch_size": 1}
(image,) = pipeline(**arguments, num_inference_steps=2).images
print(image.size[0], sum(parameter.numel() for parameter in pipeline.unet.parameters()))
"""


def block_runs(folder: Path) -> Counter[str]:
    """How often each block's training came to its end, by what the trials left on disk."""
    runs: Counter[str] = Counter()
    for file in folder.glob("environments/*/trials/*/evaluation.json"):
        settings = json.loads(file.read_text()).get("settings", {})
        if settings.get("task") == "block":
            runs[settings["block"]] += 1
    return runs


def kill(identity: str) -> None:
    """End the manager of one experiment, its tuner and its trials at once, as a lost machine would."""
    manager = psutil.Process(Experiments().get_all_experiments()[identity]["pid"])
    processes = [*manager.children(recursive=True), manager]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=20)


def test_a_killed_search_resumes_without_training_finished_blocks_again(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher")
    job = {
        "space": {"type": "blockwise", "teacher": "teacher"},
        "data": {"source": "digits"},
        "evaluator": {"type": "blockwise", **QUICK},
    }
    config = write_config(tmp_path, job, maxTrialNumber=12, tuner=TUNER)
    environment, port = environment_of(tmp_path), free_port()
    run(["nnictl", "create", "--config", str(config), "--port", str(port)], environment, tmp_path)
    identity = Running(port, environment, tmp_path).id
    folder = tmp_path / "exp" / identity
    finished: dict[str, Any] = {}
    try:
        with SearchMemory(folder / "memory.sqlite") as memory:
            until = time.monotonic() + 300
            while len(finished) < 2 and time.monotonic() < until:
                time.sleep(0.2)
                trials = memory.trials(status="succeeded")
                finished = {t.id: t for t in trials if t.settings.get("task") == "block"}
    finally:
        kill(identity)
    assert 2 <= len(finished) < 5, "the search was killed before all blocks were done"
    with resumed(identity, tmp_path) as experiment:
        experiment.wait("DONE", timeout=400)
    search = read_search(ExperimentFolder(folder))
    blocks = [t for t in search.trials if t.settings.get("task") == "block" and t.status == "succeeded"]
    assert sorted(t.settings["block"] for t in blocks) == ["down0", "down1", "middle", "up0", "up1"]
    assert [t for t in blocks if t.id in finished] == list(finished.values()), "what was measured stays as it was"
    runs = block_runs(folder)
    assert {block: runs[block] for block in (t.settings["block"] for t in finished.values())} == {
        t.settings["block"]: 1 for t in finished.values()
    }
    assert search.best.settings["task"] == "retrain"
    assert (folder / "winner" / "model_index.json").is_file()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two examples, with teachers that were trained for a moment."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("blockwise", "blockwise_latent"):
        example_with_teachers(name, folder / name)
    return folder


def is_complete(trials: Sequence[Trial]) -> bool:
    """Whether teacher, five blocks and one student have all succeeded."""
    tasks = Counter(trial.settings["task"] for trial in trials if trial.status == "succeeded")
    return len(trials) == 7 and tasks == {"teacher": 1, "block": 5, "retrain": 1}


@pytest.mark.parametrize(("name", "config", "size"), EXAMPLE_CONFIGS)
def test_an_example_reaches_done_and_its_student_draws(
    name: str, config: str, size: int, examples: Path, tmp_path: Path
) -> None:
    example = examples / name
    content = yaml.safe_load((example / config).read_text())
    file = example / content["tuner"]["classArgs"]["job"]
    job = yaml.safe_load(file.read_text())
    job["evaluator"] |= QUICK
    file.write_text(yaml.safe_dump(job))
    content["experimentWorkingDirectory"] = str(tmp_path / "exp")
    (example / config).write_text(yaml.safe_dump(content))
    environment = {**environment_of(tmp_path), "NNI_CONFIG_DIR": str(example / "nni")}
    run(["nni-diffnas", "space", str(file), "--samples", "1", "--output", "space.json"], environment, tmp_path)
    space = json.loads((example / content["searchSpaceFile"]).read_text())
    assert json.loads((tmp_path / "space.json").read_text()) == space, "read from another working directory"
    run(["nni-diffnas", "register"], environment, tmp_path)
    with created(example / config) as experiment:
        experiment.wait("DONE", timeout=400)
        identity = experiment.id
    search = read_search(ExperimentFolder(tmp_path / "exp" / identity))
    assert is_complete(search.trials)
    winner = tmp_path / "exp" / identity / "winner"
    drawn = subprocess.run(
        [sys.executable, "-c", DRAW, str(winner), config], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert drawn.returncode == 0, drawn.stderr
    assert search.best.cost is not None
    assert drawn.stdout.split()[-2:] == [str(size), str(search.best.cost.params)]


def test_the_python_door_searches_the_same(examples: Path, tmp_path: Path) -> None:
    memory = tmp_path / "memory.sqlite"
    changes = {
        "PORT = 8080": f"from nni_diffnas.memory import SearchMemory\n\nPORT = {free_port()}",
        '"steps": 800, "cached_images": 512': '"steps": 20, "batch_size": 32, "cached_images": 64',
        '{"images": 48_000}': '{"images": 128}, score_images=32, sampler_steps=2, curve_points=0, extractor="random"',
        "(budget=budget)": f"(budget=budget, memory=SearchMemory({str(memory)!r}))",
    }
    script = (examples / "blockwise" / "search.py").read_text()
    for said, quick in changes.items():
        assert said in script
        script = script.replace(said, quick)
    file = examples / "blockwise" / "quick.py"
    file.write_text(script)
    run([sys.executable, str(file)], environment_of(tmp_path), tmp_path, timeout=500)
    with SearchMemory(memory, create=False) as kept:
        trials = kept.trials()
    assert is_complete(trials)
    student = next(trial for trial in trials if trial.settings["task"] == "retrain")
    assert student.cost is not None
    assert student.cost.macs <= 3.2e6
    assert student.metrics["rfid"] > 0


def test_shrink_is_one_command(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher")
    arguments = ["--data", "digits", "--macs", "0.6", "--images", "64", "--steps", "40", "--seeds", "2"]
    run(
        ["nni-diffnas", "shrink", "teacher", *arguments, "--workers", "2", "--port", str(free_port())],
        environment_of(tmp_path),
        tmp_path,
        timeout=1200,
    )
    folder = tmp_path / "teacher-shrunk"
    assert (folder / "student" / "unet" / "config.json").is_file()
    winner, teacher = json.loads((folder / "verdict" / "verdict.json").read_text())["networks"]
    assert (winner["kind"], teacher["name"]) == ("winner", "teacher")
    assert winner["cost"]["macs"] <= 0.6 * teacher["cost"]["macs"]
    assert len(winner["scores"]) == len(teacher["scores"]) == 2
