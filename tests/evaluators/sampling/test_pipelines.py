"""Pipelines of all kinds, as their users save them: sampled as they are meant to be, or refused in a sentence."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nni_diffnas.api.errors import JobError, SpaceError
from nni_diffnas.evaluators.evaluate import evaluate
from nni_diffnas.evaluators.images.image_set import images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.evaluators.sampling.pipelines import ImageGenerator
from nni_diffnas.search_spaces import BlockwiseUNetFamily

SIZES: dict[str, Any] = {
    "sample_size": 8, "in_channels": 1, "out_channels": 1, "block_out_channels": (8, 8), "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1,
}  # fmt: skip
DPM = "DPMSolverMultistepScheduler"
WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"


def save(folder: Path, scheduler: Any = None, kind: Any = diffusers.DDPMPipeline, **changes: Any) -> Path:
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**{**SIZES, **changes})
    kind(network, scheduler or diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def load(folder: Path, sampler: str | None = DPM, steps: int | None = 2, demanded: bool = True) -> ImageGenerator:
    return ImageGenerator.load(folder, sampler, steps, 0, torch.device("cpu"), trust=False, demanded=demanded)


def change_weights(folder: Path, change: Any) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, {"format": "pt"})


MISFITS = {
    "compiled": (
        lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
        r"all begin with '_orig_mod\.'; torch\.compile",
    ),
    "wrapped by something": (
        lambda state: {f"ema.model.{name}": tensor for name, tensor in state.items()},
        r"all begin with 'ema\.model\.'; something wraps the network so: save the one inside",
    ),
    "half": (
        lambda state: dict(sorted(state.items())[::2]),
        r"are missing, the first 'conv_in\.weight': save the whole trained network",
    ),
    "more": (lambda state: {**state, "ema.decay": torch.zeros(1)}, r"1 are not known to it, the first 'ema\.decay'"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, kind: str) -> None:
    change, said = MISFITS[kind]
    change_weights(save(tmp_path), change)
    with pytest.raises(JobError, match=said):
        load(tmp_path)
    with pytest.raises(SpaceError, match=said):
        BlockwiseUNetFamily(tmp_path).teacher()


@pytest.mark.filterwarnings("ignore:invalid value")
def test_weights_that_were_rounded_to_whole_numbers_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "pipeline")
    change_weights(folder, lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()})
    with pytest.raises(JobError, match=r"are whole numbers \('.*' is I8\): save the network as it was before"):
        load(folder)


@pytest.mark.parametrize(
    ("part", "changes", "sentence"),
    [
        ("unet/config.json", {"norm_num_groups": 0}, "cannot be loaded"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "many"}, "cannot be loaded"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}, "makes no images with the sampler"),
    ],
)
def test_a_configuration_that_nobody_can_have_meant_is_one_sentence(
    tmp_path: Path, part: str, changes: dict[str, Any], sentence: str
) -> None:
    folder = save(tmp_path / "pipeline")
    content = json.loads((folder / part).read_text())
    (folder / part).write_text(json.dumps({**content, **changes}))
    with pytest.raises(JobError, match=sentence):
        load(folder).check((1, 8, 8))


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, odd: float) -> None:
    """One is enough, and no learning rate of a student is to blame for it."""
    change_weights(save(tmp_path), lambda state: {**state, "conv_out.bias": torch.full((1,), odd)})
    said = r"unet' hold numbers that are not finite, the first in 'conv_out\.bias': .*save a sound network there"
    with pytest.raises(JobError, match=said):
        load(tmp_path)
    with pytest.raises(SpaceError, match=said):
        BlockwiseUNetFamily(tmp_path).teacher()


def test_a_pipeline_that_makes_no_numbers_is_refused(tmp_path: Path) -> None:
    change_weights(save(tmp_path), lambda state: {**state, "conv_in.weight": state["conv_in.weight"] * 3e38})
    with pytest.raises(JobError, match=r"not finite.*images 0 to 0.*save a sound one"):
        load(tmp_path).check((1, 8, 8))


FOREIGN = {
    "flow": (lambda: diffusers.FlowMatchEulerDiscreteScheduler(), diffusers.DDPMPipeline, "flow matching"),
    "flow in a common class": (
        lambda: diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        diffusers.DDPMPipeline,
        "flow matching",
    ),
    "consistency": (
        lambda: diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40),
        diffusers.ConsistencyModelPipeline,
        "few steps",
    ),
    "distilled": (lambda: diffusers.LCMScheduler(), diffusers.DDPMPipeline, "few steps"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_scheduler_is_swapped_within_its_kind_only(tmp_path: Path, kind: str) -> None:
    make, pipeline, said = FOREIGN[kind]
    save(tmp_path, make(), pipeline)
    own = type(make()).__name__
    with pytest.raises(JobError, match=rf"{own} is for .*{said}.*leave the sampler to the pipeline"):
        load(tmp_path)
    kept = load(tmp_path, demanded=False)
    assert kept.sampler == own
    assert said in kept.remark
    (plain,) = load(tmp_path, sampler=None).images(0, 4, 4)
    assert np.array_equal(next(iter(kept.images(0, 4, 4))), plain)


def test_one_of_the_kind_is_swapped(tmp_path: Path) -> None:
    swapped = load(save(tmp_path), demanded=False)
    assert (swapped.sampler, swapped.remark) == (DPM, "")
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    del config["prediction_type"]
    file.write_text(json.dumps(config))
    assert "no prediction_type: epsilon, which DDPMScheduler takes" in load(tmp_path).remark


def test_the_pipeline_of_ddim_takes_another_sampler(tmp_path: Path) -> None:
    drawn = []
    for kind in (diffusers.DDIMPipeline, diffusers.DDPMPipeline):
        generator = load(save(tmp_path / kind.__name__, diffusers.DDIMScheduler(), kind))
        generator.check((1, 8, 8))
        drawn.append(next(iter(generator.images(0, 3, 3))))
    assert np.array_equal(*drawn)


def test_pickled_weights_are_loaded_without_a_word_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = diffusers.DDPMPipeline.from_pretrained(save(tmp_path / "plain"))
    pipeline.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    assert not (tmp_path / "pickled" / WEIGHTS).exists()
    monkeypatch.setattr(logging.getLogger("diffusers"), "handlers", [caplog.handler])
    load(tmp_path / "pickled")
    assert not caplog.records


def test_a_class_conditional_network_gets_its_classes_in_turn(tmp_path: Path) -> None:
    generator = load(save(tmp_path, num_class_embeds=3))
    generator.check((1, 8, 8))
    together = np.concatenate(list(generator.images(0, 6, 6)))
    apart = np.concatenate(list(generator.images(0, 6, 2)))
    assert np.abs(together.astype(int) - apart).max() <= 1


@pytest.mark.parametrize(
    ("labels", "options", "asked", "said"),
    [
        ([3, 7], {}, {3, 7}, ""),
        ([3, 7], {"class_numbers": "in_turn"}, {0, 1}, ""),
        ([3, 17], {}, set(range(11)), "all of which were drawn, since the data has labels up to 17"),
        ([3, 7], {"labels": False}, set(range(11)), ""),
    ],
)
def test_the_classes_of_the_data_are_drawn(
    tmp_path: Path, labels: list[int], options: dict[str, Any], asked: set[int], said: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.resize(labels, 60))
    data = images(DataSettings(source=str(tmp_path / "x.npz"), **options))
    generator = load(save(tmp_path / "pipeline", num_class_embeds=11)).drawing_classes_of(data)
    drawn: list[int] = []
    generator.pipeline.unet.class_embedding.register_forward_pre_hook(
        lambda module, given: drawn.extend(given[0].tolist())
    )
    next(iter(generator.images(0, 22, 22)))
    assert set(drawn) == asked
    assert said in generator.remark
    assert bool(said) == bool(generator.remark)


def test_an_evaluation_goes_on_with_the_classes_that_it_began_with(tmp_path: Path) -> None:
    save(tmp_path / "pipeline", num_class_embeds=11)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    options: dict[str, Any] = {"extractor": "random", "image_count": 20, "steps": 2}
    for labels in ([3, 7], [3, 7], [2, 3]):
        np.savez(tmp_path / "x.npz", images=pixels, labels=np.resize(labels, 60))
        data = [str(tmp_path / "x.npz")]
        if 2 in labels:
            with pytest.raises(JobError, match="holds images of another pipeline, sampler, seed or classes"):
                evaluate(tmp_path / "pipeline", "rfid", data, tmp_path / "scores", **options)
        else:
            _, result = evaluate(tmp_path / "pipeline", "rfid", data, tmp_path / "scores", **options)
            assert result["classes"] == [3, 7]


def test_what_a_schedulers_file_does_not_say_is_told(tmp_path: Path) -> None:
    save(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({name: config[name] for name in ("_class_name", "beta_start", "prediction_type")}))
    said = "Its scheduler's file names no beta_schedule, num_train_timesteps: linear, 1000, which DDPMScheduler takes"
    assert load(tmp_path).remark == f"{said} then, were taken."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"in_channels": 3}, r"takes 3 channels and gives 1: it needs a mask or another image beside the noise"),
        ({"out_channels": 2}, r"gives a variance .* \(variance_type fixed_small\): save it with a DDPMScheduler whose"),
        ({"sample_size": None}, r"names no sample_size in unet/config\.json: add the size that it was trained at"),
    ],
)
def test_a_network_that_no_sampler_helps_is_not_blamed_on_the_sampler(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError, match=said):
        load(save(tmp_path, **changes))
    learned = diffusers.DDPMScheduler(variance_type="learned_range")
    assert load(save(tmp_path / "learned", learned, out_channels=2)).steps == 2


def test_a_consistency_pipeline_is_drawn_twice_alike(tmp_path: Path) -> None:
    scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=40)
    save(tmp_path, scheduler, diffusers.ConsistencyModelPipeline, num_class_embeds=3)
    first, second = (next(iter(load(tmp_path, sampler=None).images(0, 6, 6))) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_variant_is_found(tmp_path: Path) -> None:
    diffusers.DDPMPipeline.from_pretrained(save(tmp_path / "plain")).save_pretrained(tmp_path / "half", variant="fp16")
    assert not (tmp_path / "half" / WEIGHTS).exists()
    plain, half = (next(iter(load(tmp_path / name).images(0, 3, 3))) for name in ("plain", "half"))
    assert np.array_equal(plain, half)
    assert BlockwiseUNetFamily(tmp_path / "half").teacher() is not None


def test_scores_inside_the_pipelines_folder_make_it_no_other(tmp_path: Path) -> None:
    save(tmp_path)
    options: dict[str, Any] = {"extractor": "random", "image_count": 20, "steps": 2}
    _, first = evaluate(tmp_path, "rfid", ["digits"], tmp_path / "scores", **options)
    _, second = evaluate(tmp_path, "rfid", ["digits"], tmp_path / "scores", **options)
    assert first == second


def test_a_teacher_distilled_to_few_steps_is_refused(tmp_path: Path) -> None:
    from nni_diffnas.evaluators.blockwise.teacher_pipeline import TeacherPipeline

    save(tmp_path, diffusers.LCMScheduler())
    with pytest.raises(JobError, match=r"LCMScheduler is for .*few steps.*DDPM- or DDIM-like"):
        _ = TeacherPipeline(BlockwiseUNetFamily(tmp_path)).alpha_bar
    shutil.rmtree(tmp_path / "scheduler")
    save(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    assert config.pop("prediction_type") == "epsilon"
    file.write_text(json.dumps(config))
    teacher = TeacherPipeline(BlockwiseUNetFamily(tmp_path))
    assert type(teacher.parameterisation).__name__ == "EpsilonPrediction"


CODE = """
from pathlib import Path
from diffusers import UNet2DModel
Path("CANARY").write_text("ran")


class Canary(UNet2DModel):
    pass
"""


def test_code_of_a_pipeline_runs_only_where_that_is_allowed_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, canary = save(tmp_path / "pipeline"), tmp_path / "canary"
    (folder / "unet" / "canary.py").write_text(CODE.replace("CANARY", str(canary)))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["canary", "Canary"]}))
    with pytest.raises(JobError, match="add --trust-remote-code if it brings code"):
        load(folder)
    assert not canary.exists()
    assert "may run" not in capsys.readouterr().err
    ImageGenerator.load(folder, DPM, 2, 0, torch.device("cpu"), trust=True)
    assert canary.read_text() == "ran"
    assert "may run, since trust_remote_code is true: unet/canary.py" in capsys.readouterr().err
