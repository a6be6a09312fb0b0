"""Any pipeline against any images: a stock pipeline, killed and resumed, agrees with torch-fidelity on its images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nni_diffnas.api.errors import DataError, JobError
from nni_diffnas.evaluators import evaluate as module
from nni_diffnas.evaluators.evaluate import evaluate, score_name
from nni_diffnas.evaluators.images.image_set import images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.evaluators.sampling.pipelines import ImageGenerator
from nni_diffnas.evaluators.scores.features import random_extractor
from nni_diffnas.evaluators.scores.fidelity import inception_extractor, register_extractor

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
QUICK: dict[str, Any] = {"extractor": "random", "image_count": 50, "steps": 3, "batch": 16}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import diffusers

    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, layers_per_block=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("pipeline")
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def test_a_killed_evaluation_goes_on_and_agrees_with_torch_fidelity(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch_fidelity

    monkeypatch.setattr(module, "SHARD", 20)
    make, made = ImageGenerator._make, []

    def killed(self: ImageGenerator, start: int, stop: int, steps: int) -> Any:
        if start >= 30:
            raise KeyboardInterrupt
        return make(self, start, stop, steps)

    monkeypatch.setattr(ImageGenerator, "_make", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(pipeline, "rfid", ["digits"], tmp_path, **QUICK)
    assert [file.name for file in sorted((tmp_path / "images").glob("*.npy"))] == ["00000000-00000020.npy"]

    def counted(self: ImageGenerator, start: int, stop: int, steps: int) -> Any:
        made.append((start, stop))
        return make(self, start, stop, steps)

    monkeypatch.setattr(ImageGenerator, "_make", counted)
    text, score = evaluate(pipeline, "rfid", ["digits"], tmp_path, **QUICK)
    assert made[1:] == [(20, 36), (36, 40), (40, 50)], "after one image that shows the size, only what was missing"
    assert "Fréchet distance (random-0-" in text
    assert "FID" not in text
    _, fresh = evaluate(pipeline, "rfid", ["digits"], tmp_path / "fresh", **{**QUICK, "batch": 50})
    assert fresh["rfid"] == pytest.approx(score["rfid"], rel=1e-3), "an image comes from its own seed"

    digits = images(DataSettings(source="digits"))
    extractor = random_extractor(digits)
    register_extractor(extractor)
    for name, pixels in (
        ("generated", np.concatenate([np.load(file) for file in sorted((tmp_path / "images").glob("*.npy"))])),
        ("data", digits.pixels[digits.training]),
    ):
        (tmp_path / name).mkdir()
        for number, image in enumerate(pixels):
            Image.fromarray(image[0]).save(tmp_path / name / f"{number:04}.png")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "generated"), input2=str(tmp_path / "data"), fid=True, cuda=False, verbose=False,
        save_cpu_ram=True, cache=False, feature_extractor=extractor.name,
        feature_extractor_weights_path=str(extractor.weights),
    )  # fmt: skip
    assert score["rfid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    with pytest.raises(JobError, match="images of another pipeline, sampler, seed or classes: give another --output"):
        evaluate(pipeline, "rfid", ["digits"], tmp_path, **{**QUICK, "seed": 7})


def test_a_damaged_note_of_what_the_images_are_is_one_sentence(pipeline: Path, tmp_path: Path) -> None:
    evaluate(pipeline, "rfid", ["digits"], tmp_path, **QUICK)
    (tmp_path / "images" / "about.json").write_text("")
    with pytest.raises(
        JobError, match="holds images of another pipeline, sampler, seed or classes: give another --output"
    ):
        evaluate(pipeline, "rfid", ["digits"], tmp_path, **QUICK)


def test_of_a_job_come_sampler_and_reference_too(pipeline: Path, tmp_path: Path) -> None:
    evaluator = {
        "type": "diffusion", "extractor": "random", "score_images": 20, "sampler": "ddim", "sampler_steps": 2,
        "reference": "held_out", "reference_images": 50,
    }  # fmt: skip
    content = {"space": {"type": "unet", "preset": "digits"}, "data": {"source": "digits"}, "evaluator": evaluator}
    (tmp_path / "job.yml").write_text(json.dumps(content))
    _, score = evaluate(pipeline, "rfid", [str(tmp_path / "job.yml")], tmp_path / "out")
    found = (score["images"], score["sampler"], score["steps"], score["reference"], score["reference_images"])
    assert found == (20, "DDIMScheduler", 2, "held_out", 50)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"score_images": "many"}, r"evaluator\.score_images is 'many', which does not fit"),
        ({"sampler_steps": "ten"}, r"evaluator\.sampler_steps is 'ten'"),
        ({"reference": "heldout"}, r"evaluator\.reference is 'heldout'"),
        ({"reference_images": -3}, r"evaluator\.reference_images is -3"),
        ({"device": "gpu0"}, r"evaluator\.device is 'gpu0'"),
        ({"spacing": "log"}, r"evaluator\.spacing is 'log'"),
        ({"threads": -1}, r"evaluator\.threads is -1"),
        ({"sampler": 5}, r"evaluator\.sampler is 5"),
        ({"type": "tabular"}, "is a job of evaluator 'tabular', which learns from no images"),
    ],
)
def test_a_job_is_refused_here_as_everywhere(
    options: dict[str, Any], sentence: str, pipeline: Path, tmp_path: Path
) -> None:
    data = {"path": str(tmp_path / "table.npz")} if "type" in options else {"source": "digits"}
    np.savez(tmp_path / "table.npz", labels=["a"], choices=[[0], [1]], metrics=["rfid"], values=[[1.0], [2.0]])
    content = {"space": {"type": "unet"}, "data": data, "evaluator": {"type": "diffusion", **options}}
    (tmp_path / "job.yml").write_text(json.dumps(content))
    with pytest.raises(JobError, match=sentence):
        evaluate(pipeline, "rfid", [str(tmp_path / "job.yml")], tmp_path / "out", **QUICK, dry_run=True)


@pytest.mark.parametrize("damage", ["cut", "empty", "of other images", "of another type"])
def test_damaged_images_of_an_earlier_run_are_named(pipeline: Path, tmp_path: Path, damage: str) -> None:
    evaluate(pipeline, "rfid", ["digits"], tmp_path, **QUICK)
    (file,) = (tmp_path / "images").glob("*.npy")
    if damage == "of other images":
        np.save(file, np.zeros((50, 1, 4, 4), np.uint8))
    elif damage == "of another type":
        np.save(file, np.zeros((50, 1, 8, 8), np.float32))
    else:
        file.write_bytes(file.read_bytes()[: 100 if damage == "cut" else 0])
    with pytest.raises(JobError, match=r"\.npy' holds no images that an evaluation has left: delete it"):
        evaluate(pipeline, "rfid", ["digits"], tmp_path, **QUICK)


@pytest.mark.parametrize(
    ("evaluator", "data", "expected"),
    [
        ({}, {}, "DPMSolverMultistepScheduler log-snr"),
        ({"spacing": "trailing"}, {}, "DPMSolverMultistepScheduler"),
        ({}, {"split": "position"}, "DPMSolverMultistepScheduler"),
        ({"sampler": "DPMSolverMultistepScheduler"}, {}, "DPMSolverMultistepScheduler"),
    ],
    ids=["as trials do", "as the job says", "as version 0.1 did", "diffusers' own by its class"],
)
def test_steps_are_spaced_as_in_the_trials_of_the_job(
    evaluator: dict[str, str], data: dict[str, str], expected: str, pipeline: Path, tmp_path: Path
) -> None:
    quick = {"type": "diffusion", "extractor": "random", "score_images": 50, "sampler_steps": 3, **evaluator}
    content = {
        "space": {"type": "unet", "preset": "digits"}, "data": {"source": "digits", **data}, "evaluator": quick,
    }  # fmt: skip
    (tmp_path / "job.yml").write_text(json.dumps(content))
    text, _ = evaluate(pipeline, "rfid", [str(tmp_path / "job.yml")], tmp_path / "out", dry_run=True)
    assert f"50 images of 3 {expected} steps" in text


def test_a_forecast_generates_nothing_to_keep(pipeline: Path, tmp_path: Path) -> None:
    text, score = evaluate(pipeline, "rfid", ["digits"], tmp_path / "out", **QUICK, dry_run=True)
    assert text.startswith("Forecast, from a few timed steps on this")
    assert "50 images of 3 DPMSolverMultistepScheduler log-snr steps" in text
    assert not score
    assert not (tmp_path / "out").exists()


def test_only_the_published_protocol_is_called_fid() -> None:
    assert score_name("inception", 50_000, "all") == "FID"
    assert score_name("inception", 10_000, "all") == "FID-10k"
    assert score_name("inception", 10_000, "training") == "FID of 10000 images"
    assert score_name("inception-768", 50_000, "all") == "FID-768"
    assert score_name("labels-0a", 50_000, "all") == "Fréchet distance (labels-0a)"


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        (["digits"], {"steps": 0}, "--steps is 0: give one at least"),
        (["digits"], {"image_count": 1}, "--images is 1: give two at least"),
        (["digits"], {"sampler": "Euler"}, "The sampler is 'Euler': choose"),
        (["digits"], {"sampler": "FlowMatchEulerDiscreteScheduler"}, "with a beta_schedule and a prediction_type"),
        (["digits"], {"extractor": "vgg"}, "--extractor is 'vgg': choose one of inception"),
        (["digits", "size=16"], {}, "makes images of 8x8 with 1 channels, the data has 16x16 with 1 channels"),
        (["digits", "held_out"], {}, "--data 'held_out' is no field"),
        (["digits", "source=patches"], {}, "--data names 'source' twice: leave one"),
        (["digits", "sise=16"], {}, r"data\.sise is no option"),
        (["digits", "size=["], {}, r"data\.size is '\[', which does not fit"),
        (["digits"], {"steps": 5000}, "--steps is 5000, and the pipeline was trained on 1000 noise levels: lower it"),
    ],
)
def test_what_cannot_be_evaluated(
    pipeline: Path, tmp_path: Path, data: list[str], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((JobError, DataError), match=sentence):
        evaluate(pipeline, "rfid", data, tmp_path / "out", **{**QUICK, **options})
    assert not (tmp_path / "out" / "images").exists()


def test_no_pipeline_and_no_protocol(pipeline: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds no diffusers pipeline: name a folder with a model_index\.json"):
        evaluate(tmp_path, "rfid", ["digits"], tmp_path / "out", **QUICK)
    with pytest.raises(JobError, match="--protocol is 'fid': choose one of rfid, fid10k, fid50k"):
        evaluate(pipeline, "fid", ["digits"], tmp_path / "out", **QUICK)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "inception_768.npz").exists(), reason="shared/data/inception_768.npz is missing")
def test_fid_768_agrees_with_torch_fidelity(pipeline: Path, tmp_path: Path) -> None:
    import torch_fidelity

    weights = SHARED / "inception_768.npz"
    options = {**QUICK, "extractor": "inception-768", "image_count": 12, "weights": weights}
    np.savez(tmp_path / "few.npz", images=images(DataSettings(source="digits")).pixels[:16, 0])
    text, score = evaluate(pipeline, "fid50k", [str(tmp_path / "few.npz")], tmp_path, **options)
    assert text.startswith("FID-768 ")
    for name, pixels in (
        ("generated", np.load(next((tmp_path / "images").glob("*.npy")))),
        ("data", np.load(tmp_path / "few.npz")["images"][:, None]),
    ):
        (tmp_path / name).mkdir()
        for number, image in enumerate(pixels):
            Image.fromarray(image[0]).save(tmp_path / name / f"{number:04}.png")
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "generated"), input2=str(tmp_path / "data"), fid=True, cuda=False, verbose=False,
        save_cpu_ram=True, cache=False, feature_layer_fid="768",
        feature_extractor_weights_path=str(inception_extractor("768", weights).weights),
    )  # fmt: skip
    assert score["rfid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
