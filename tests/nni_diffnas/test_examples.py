"""The configs in examples/: NNI accepts every one, and so does our doctor where it needs nothing from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from nni_diffnas.api.paths import absolute_paths
from nni_diffnas.cli.arguments import read_architecture
from nni_diffnas.job import load_job
from nni_diffnas.plugins import find_plugin
from nni_diffnas.searching.open import make_strategy

EXAMPLES = Path(__file__).parents[2] / "examples"
REMOTE = EXAMPLES / "remote"


def load(file: Path, tmp_path: Path) -> Any:
    content = yaml.safe_load(file.read_text())
    for machine in content["trainingService"].get("machineList", ()):
        machine["sshKeyFile"] = str(tmp_path / "key")
    (tmp_path / "key").write_text("")
    for name in ("job.yml", "search_space.json"):
        (tmp_path / name).write_bytes((REMOTE / name).read_bytes())
    (tmp_path / "config.yml").write_text(yaml.safe_dump(content))
    return ExperimentConfig.load(tmp_path / "config.yml").canonical_copy()


CONFIGS = sorted(EXAMPLES.glob("*/config*.yml"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(EXAMPLES)))
@pytest.mark.usefixtures("plugin_site")
def test_every_config_fits_its_job_and_its_search_space(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    config = yaml.safe_load(file.read_text())
    arguments = dict(config["tuner"]["classArgs"])
    job = load_job(file.parent / arguments.pop("job"))
    assert arguments.pop("optimize_mode") == job.objective.direction
    assert f"nni-diffnas run {file.relative_to(EXAMPLES.parent)}" in file.read_text()
    if job.space.type == "blockwise":  # its space is that of a teacher that is not there yet
        return
    family = job.make_family()
    job.make_evaluation()
    assert json.loads((file.parent / config["searchSpaceFile"]).read_text()) == family.space.to_nni()
    name = config["tuner"]["name"]
    make_strategy(name, job, None, absolute_paths(find_plugin("strategies", name), arguments, file.parent))


FOUND = sorted((EXAMPLES / "found").glob("*.json"))


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.stem)
def test_a_found_network_is_of_the_job_s_space_and_meets_its_budget(file: Path) -> None:
    found = json.loads(file.read_text())
    job = load_job(file.parent / "job.yml")
    assert job.space.model_dump() == found["space"]
    family = job.make_family()
    assert family.space.validate(read_architecture(file)) == found["architecture"]
    cost = family.cost(found["architecture"])
    assert (cost.macs, cost.params) == (found["macs"], found["params"])
    assert found["budget"]["macs"]["max"] == family.cost(family.default).macs // 2 >= cost.macs
    assert f"`{file.name}`" in (file.parent / "README.md").read_text()


@pytest.mark.parametrize("name", ["config", "kubeflow", "frameworkcontroller"])
def test_nni_s_schema_accepts_the_configs_for_other_machines(name: str, tmp_path: Path) -> None:
    config = load(REMOTE / f"{name}.yml", tmp_path)
    config.validate()
    expected = "remote" if name == "config" else name
    assert config.training_service.platform == expected


def test_nni_s_schema_refuses_a_broken_one(tmp_path: Path) -> None:
    content = (REMOTE / "kubeflow.yml").read_text().replace("pytorch-operator", "mpi-operator")
    (tmp_path / "broken.yml").write_text(content)
    with pytest.raises(AssertionError):  # without a word
        load(tmp_path / "broken.yml", tmp_path).validate()
