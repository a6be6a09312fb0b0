"""Exported pipelines: stock where possible, else self-contained; both load where nni-diffnas is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.family import Family
from nni_diffnas.results.export import export_pipeline
from nni_diffnas.results.onnx_export import export_onnx
from nni_diffnas.search_spaces import UNetFamily

SCHEDULER = {"_class_name": "DDPMScheduler", "num_train_timesteps": 100, "beta_schedule": "squaredcos_cap_v2"}

# Blocks every import of ours, as in an environment that never heard of nni-diffnas, then generates.
ELSEWHERE = """
import sys
class Stranger:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nni_diffnas":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Stranger())
import torch
from diffusers import DDPMPipeline
folder, trust = sys.argv[1], sys.argv[2] == "trust"
pipeline = DDPMPipeline.from_pretrained(folder, trust_remote_code=trust)
saved = torch.load(folder + "/../expected.pt")
with torch.no_grad():
    found = pipeline.unet(saved["sample"], saved["timestep"]).sample
torch.testing.assert_close(found, saved["prediction"])
images = pipeline(batch_size=2, num_inference_steps=2, output_type="np").images
assert images.shape[:3] == (2, 8, 8), images.shape
assert "nni_diffnas" not in sys.modules
print(type(pipeline.unet).__name__)
"""


def randomised(family: UNetFamily, architecture: dict[str, Any], path: Path) -> torch.nn.Module:
    """A network whose every weight matters (some start at zero), its state saved."""
    torch.manual_seed(3)
    network = family.build(architecture).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_file(network.state_dict(), path)
    return network


def load_elsewhere(folder: Path, trust: bool) -> str:
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder.parent / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, str(folder), "trust" if trust else "plain"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "changes", "kind"),
    [
        ({}, {}, "UNet2DModel"),
        ({}, {"level1.depth": 1, "inner_width": 1.5}, "DiffNASUNet"),
        ({"num_classes": 3}, {}, "DiffNASUNet"),
    ],
    ids=["stock", "own", "classes"],
)
def test_loads_and_predicts_the_same_elsewhere(
    tmp_path: Path, options: dict[str, Any], changes: dict[str, Any], kind: str
) -> None:
    family = UNetFamily("digits", base_width=8, **options)
    architecture = {**family.default, **changes}
    network = randomised(family, architecture, tmp_path / "weights.safetensors")
    folder = export_pipeline(family, architecture, tmp_path / "weights.safetensors", SCHEDULER, tmp_path / "pipeline")

    sample, timestep = torch.randn(4, 1, 8, 8), torch.tensor([1, 20, 50, 99])
    labels = (torch.tensor([0, 1, 2, 0]),) if "num_classes" in options else ()
    with torch.no_grad():
        prediction = network(sample, timestep, *labels)
    assert prediction.std() > 1e-3
    torch.save({"sample": sample, "timestep": timestep, "prediction": prediction}, tmp_path / "expected.pt")
    assert load_elsewhere(folder, trust=kind != "UNet2DModel") == kind


# As ELSEWHERE, for all folders in one process, each with what is expected of it beside it.
ALL_ELSEWHERE = (
    ELSEWHERE.partition("folder, trust")[0]
    + """
from pathlib import Path
for folder in sorted(Path(sys.argv[1]).iterdir()):
    network = DDPMPipeline.from_pretrained(folder, trust_remote_code=True).unet
    saved = torch.load(folder / "expected.pt")
    with torch.no_grad():
        torch.testing.assert_close(network(saved["sample"], saved["timestep"]).sample, saved["prediction"])
    print(type(network).__name__)
assert "nni_diffnas" not in sys.modules
"""
)


@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_random_networks_of_the_whole_space_predict_the_same_elsewhere(tmp_path: Path, count: int) -> None:
    families = [UNetFamily("digits", base_width=8), UNetFamily("pixels16", base_width=8, patch=[1, 2])]
    rng = np.random.default_rng(0)
    for index in range(count):
        family = families[index % 2]
        architecture = family.space.sample(rng)
        weights = tmp_path / "weights.safetensors"
        network = randomised(family, architecture, weights)
        folder = export_pipeline(family, architecture, weights, SCHEDULER, tmp_path / "pipelines" / f"{index:02d}")
        o = family.options
        sample, timestep = torch.randn(2, o.in_channels, o.sample_size, o.sample_size), torch.tensor([1, 99])
        with torch.no_grad():
            prediction = network(sample, timestep)
        assert prediction.std() > 1e-3
        torch.save({"sample": sample, "timestep": timestep, "prediction": prediction}, folder / "expected.pt")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", ALL_ELSEWHERE, str(tmp_path / "pipelines")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == count


def test_the_own_kind_ships_one_file_without_our_imports(tmp_path: Path) -> None:
    family = UNetFamily("digits", base_width=8)
    architecture = {**family.default, "level0.depth": 1}
    randomised(family, architecture, tmp_path / "weights.safetensors")
    folder = export_pipeline(family, architecture, tmp_path / "weights.safetensors", SCHEDULER, tmp_path / "out")
    assert sorted(path.name for path in (folder / "unet").iterdir()) == [
        "config.json",
        "diffnas_unet.py",
        "diffusion_pytorch_model.safetensors",
    ]
    source = (folder / "unet" / "diffnas_unet.py").read_text()
    assert "from ." not in source
    assert "import nni" not in source


def test_an_export_replaces_an_earlier_one_of_the_other_kind(tmp_path: Path) -> None:
    family = UNetFamily("digits", base_width=8)
    for changes in ({"level0.depth": 1}, {}):
        architecture = {**family.default, **changes}
        randomised(family, architecture, tmp_path / "weights.safetensors")
        export_pipeline(family, architecture, tmp_path / "weights.safetensors", SCHEDULER, tmp_path / "out")
    assert not (tmp_path / "out" / "unet" / "diffnas_unet.py").exists()
    assert json.loads((tmp_path / "out" / "model_index.json").read_text())["unet"] == ["diffusers", "UNet2DModel"]


def test_what_cannot_be_exported_is_refused_in_a_sentence(tmp_path: Path) -> None:
    family = UNetFamily("digits", base_width=8)
    weights = tmp_path / "weights.safetensors"
    randomised(family, family.default, weights)
    out = tmp_path / "out"
    with pytest.raises(JobError, match="no weights at"):
        export_pipeline(family, family.default, tmp_path / "nowhere", SCHEDULER, out)
    (tmp_path / "noise").write_bytes(b"noise")
    with pytest.raises(JobError, match="not a readable safetensors"):
        export_pipeline(family, family.default, tmp_path / "noise", SCHEDULER, out)
    with pytest.raises(JobError, match="another architecture"):
        export_pipeline(family, {**family.default, "level0.depth": 1}, weights, SCHEDULER, out)
    with pytest.raises(JobError, match="'Nothing'"):
        export_pipeline(family, family.default, weights, {"_class_name": "Nothing"}, out)
    assert not out.exists()
    with pytest.raises(JobError, match="holds something"):
        export_pipeline(family, family.default, weights, SCHEDULER, tmp_path)


def test_a_family_that_says_nothing_cannot_be_exported(tmp_path: Path) -> None:
    class Homebody(UNetFamily):
        save_diffusers = Family.save_diffusers

    family = Homebody("digits", base_width=8)
    randomised(family, family.default, tmp_path / "weights.safetensors")
    with pytest.raises(JobError, match="Homebody"):
        export_pipeline(family, family.default, tmp_path / "weights.safetensors", SCHEDULER, tmp_path / "out")


def test_random_networks_are_stock_exactly_when_uniform() -> None:
    from nni_diffnas.search_spaces.unet.stock import stock_config

    family = UNetFamily("digits", heads=[1])
    rng = np.random.default_rng(0)
    for _ in range(200):
        config = family.config(family.space.sample(rng))
        if len(set(config.depths)) > 1 or config.inner_width != 1:
            assert stock_config(config) is None


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        pytest.param({}, {}, marks=pytest.mark.slow),
        pytest.param(
            {"num_classes": 3},
            {"resample": "pool", "skips": "added", "up_depth": "same", "level0.block": "gated", "inner_width": 1.5},
            marks=pytest.mark.slow,
        ),
        (
            {"patch": [1, 2], "attention": ["none", "softmax", "linear"]},
            {
                "patch": 2,
                "resample": "shuffle",
                "skips": "level",
                "up_depth": "one",
                "level0.block": "convnext",
                "expansion": 2,
                "level0.attention": "linear",
                "level1.block": "gated",
            },
        ),
    ],
    ids=["stock", "classes, added skips", "all kinds of layers"],
)
def test_onnx_predicts_the_same_for_any_batch(tmp_path: Path, options: dict[str, Any], changes: dict[str, Any]) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    family = UNetFamily("digits", base_width=8, **options)
    architecture = {**family.default, **changes}
    network = randomised(family, architecture, tmp_path / "weights.safetensors")
    folder = export_pipeline(family, architecture, tmp_path / "weights.safetensors", SCHEDULER, tmp_path / "pipeline")
    session = runtime.InferenceSession(str(export_onnx(folder)), providers=["CPUExecutionProvider"])
    inputs = {"sample": torch.randn(5, 1, 8, 8), "timestep": torch.tensor([0, 1, 10, 50, 99])}
    if "num_classes" in options:
        inputs["class_labels"] = torch.tensor([0, 1, 2, 0, 1])
    with torch.no_grad():
        wanted = network(*inputs.values())
    (found,) = session.run(["prediction"], {name: value.numpy() for name, value in inputs.items()})
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=1e-4)


def test_without_the_extra_onnx_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nni_diffnas.results.onnx_export.find_spec", lambda name: None)
    with pytest.raises(JobError, match=r"install the extra onnx"):
        export_onnx(tmp_path)


def test_only_an_earlier_export_is_overwritten(tmp_path: Path) -> None:
    """Somebody's own pipeline is no place for another one, though it is a pipeline."""
    family = UNetFamily("digits")
    randomised(family, family.default, tmp_path / "weights.safetensors")

    def export(folder: Path) -> None:
        export_pipeline(family, family.default, tmp_path / "weights.safetensors", SCHEDULER, folder)

    export(tmp_path / "ours")
    export(tmp_path / "ours")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    with pytest.raises(JobError, match="own holds something that is not an exported pipeline: give an empty or a new"):
        export(tmp_path / "own")
    assert [file.name for file in (tmp_path / "own").iterdir()] == ["model_index.json"]
    (tmp_path / "own" / "README.md").write_text("tags: [nni-diffnas]")
    export(tmp_path / "own")
