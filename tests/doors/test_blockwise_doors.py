"""Block-wise search through ``nnictl``: killed and resumed, and in the latents of both kinds of teacher."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from blockwise_teachers import save_teacher
from nni.tools.nnictl.config_utils import Experiments
from nni_experiment import Running, created, environment_of, free_port, resumed, run, write_config

from nni_diffnas.experiment import ExperimentFolder
from nni_diffnas.memory import SearchMemory
from nni_diffnas.winner import read_search

pytestmark = [pytest.mark.nni, pytest.mark.slow]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "blockwise_latent"
QUICK: dict[str, Any] = {
    "supernet": {"steps": 20, "batch_size": 32, "cached_images": 64, "front": 8},
    "training": {"images": 128, "batch_size": 32, "reports": 2},
    "score_images": 32,
    "sampler_steps": 2,
    "curve_points": 0,
    "extractor": "random",
}
TUNER = {"name": "BlockwiseLocalSearch", "classArgs": {"job": "job.yml", "optimize_mode": "minimize"}}
DRAW = """
import sys
sys.modules["nni_diffnas"] = None
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
arguments = {"prompt": ["the digit two"]} if sys.argv[2] == "text" else {"batch_size": 1}
(image,) = pipeline(**arguments, num_inference_steps=2).images
assert image.size == (16, 16), image.size
print(sum(parameter.numel() for parameter in pipeline.unet.parameters()))
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
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The latent example with teachers that were trained for a moment."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("teachers", "__pycache__"))
    spec = importlib.util.spec_from_file_location("blockwise_latent_prepare", EXAMPLE / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    module.main(folder / "teachers", steps=8)
    sys.path[:] = before
    return folder


@pytest.mark.parametrize("kind", ["latent", "text"])
def test_the_latent_example_reaches_done_and_its_student_draws(kind: str, example: Path, tmp_path: Path) -> None:
    job = yaml.safe_load((example / f"{kind}.yml").read_text())
    job["evaluator"] |= QUICK
    (example / f"{kind}.yml").write_text(yaml.safe_dump(job))
    config = yaml.safe_load((example / f"config_{kind}.yml").read_text())
    config["experimentWorkingDirectory"] = str(tmp_path / "exp")
    (example / "config.yml").write_text(yaml.safe_dump(config))
    environment = {**environment_of(tmp_path), "NNI_CONFIG_DIR": str(example / "nni")}
    space = json.loads((example / config["searchSpaceFile"]).read_text())
    run(
        ["nni-diffnas", "space", str(example / f"{kind}.yml"), "--samples", "1", "--output", "space.json"],
        environment,
        tmp_path,
    )
    assert json.loads((tmp_path / "space.json").read_text()) == space, "read from another working directory"
    run(["nni-diffnas", "register"], environment, tmp_path)
    with created(example / "config.yml") as experiment:
        experiment.wait("DONE", timeout=400)
        identity = experiment.id
    search = read_search(ExperimentFolder(tmp_path / "exp" / identity))
    assert Counter(t.settings["task"] for t in search.trials) == {"teacher": 1, "block": 5, "retrain": 1}
    assert {t.status for t in search.trials} == {"succeeded"}
    winner = tmp_path / "exp" / identity / "winner"
    drawn = subprocess.run(
        [sys.executable, "-c", DRAW, str(winner), kind], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert drawn.returncode == 0, drawn.stderr
    assert search.best.cost is not None
    assert int(drawn.stdout.split()[-1]) == search.best.cost.params
