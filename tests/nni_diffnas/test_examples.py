"""The configs in examples/: NNI accepts every one, and so does our doctor where it needs nothing from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

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


@pytest.mark.parametrize("name", ["config", "kubeflow", "frameworkcontroller"])
def test_nni_s_schema_accepts_the_configs_for_other_machines(name: str, tmp_path: Path) -> None:
    config = load(REMOTE / f"{name}.yml", tmp_path)
    config.validate()
    expected = "remote" if name == "config" else name
    assert config.training_service.platform == expected


def test_nni_s_schema_refuses_a_broken_one(tmp_path: Path) -> None:
    content = (REMOTE / "kubeflow.yml").read_text().replace("pytorch-operator", "mpi-operator")
    (tmp_path / "broken.yml").write_text(content)
    with pytest.raises(Exception, match=r".*"):
        load(tmp_path / "broken.yml", tmp_path).validate()
