"""The whole evaluation on real digits: what it reports, what it writes, what it refuses."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nni_diffnas.api.errors import DataError, JobError, TrialFailure
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.trial import Objective
from nni_diffnas.evaluators.diffusion import DiffusionEvaluation
from nni_diffnas.evaluators.images.pictures import nearest_below
from nni_diffnas.trial.life import Life, Reports

QUICK: dict[str, Any] = {
    "extractor": "random", "training": {"images": 1280}, "score_images": 100, "sampler_steps": 4, "curve_images": 20,
}  # fmt: skip


def quick(**changes: Any) -> DiffusionEvaluation:
    return DiffusionEvaluation({"source": "digits"}, **{**QUICK, **changes})


def seeded(kind: type[nn.Module], **arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(**arguments)


def test_a_trial_from_images_to_files(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    from safetensors.torch import load_file
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    evaluation, reports = quick(), []
    evaluation.prepare()
    model = seeded(small_denoiser)
    metrics = evaluation.evaluate(model, TrialContext({"width": 24}, tmp_path, 3, reports.append))

    assert {"rfid", "rfid_se", "kid", "loss", "seconds", "train_seconds", "images_per_second"} <= metrics.keys()
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    assert metrics["train_seconds"] < metrics["seconds"]
    assert len(reports) == 12
    assert sum("rfid" in report for report in reports) == 3
    assert reports[-1]["images"] == 1280

    saved = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())
    assert (tmp_path / "samples.png").read_bytes()[:4] == b"\x89PNG"
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["protocol"] == evaluation.protocol
    assert result["metrics"] == metrics
    log = EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    assert log.Scalars("rfid")[-1].value == pytest.approx(metrics["rfid"], rel=1e-5)
    assert len(log.Scalars("loss")) == 12
    assert len(log.Images("samples")) == 4


def test_equal_seeds_give_equal_scores(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    evaluation = quick(training={"images": 640}, curve_points=0)
    scores = [
        evaluation.evaluate(seeded(small_denoiser), TrialContext({}, tmp_path, seed))["rfid"] for seed in (0, 0, 1)
    ]
    assert scores[0] == scores[1] != scores[2]
    curved = quick(training={"images": 640}, curve_points=2)
    again = curved.evaluate(seeded(small_denoiser), TrialContext({}, tmp_path, 0))["rfid"]
    assert again == scores[0], "scoring on the way must not change the training"


def test_training_brings_the_distance_down(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    brief, longer = (quick(training={"images": count}, curve_points=0) for count in (64, 6400))
    scores = [each.evaluate(seeded(small_denoiser), TrialContext({}, tmp_path))["rfid"] for each in (brief, longer)]
    assert scores[1] < 0.7 * scores[0]


def test_a_trial_that_falls_behind_ends_itself(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    evaluation, reports = quick(curve_points=3), []
    free = TrialContext({}, tmp_path, report=reports.append, settings={"stop.rfid@25": 1e9})
    whole = evaluation.evaluate(seeded(small_denoiser), free)
    curve = [report["rfid"] for report in reports if "rfid" in report]
    assert [whole[f"rfid@{percent}"] for percent in (25, 50, 75)] == curve
    reports.clear()
    stopping = TrialContext({}, tmp_path, report=reports.append, settings={"stop.rfid@50": curve[1] * 0.99})
    metrics = evaluation.evaluate(seeded(small_denoiser), stopping)
    losses = {"held_out_loss@25", "held_out_loss@50"}
    assert metrics.keys() == {"unranked", "rfid@25", "rfid@50", "seconds", *losses}
    assert len(reports) == 6, "half of the twelve reports"
    assert "stopped after 640 images" in json.loads((tmp_path / "evaluation.json").read_text())["stopped"]


def test_class_conditional_networks(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    evaluation = quick(training={"images": 256, "class_conditional": True}, curve_points=0)
    metrics = evaluation.evaluate(seeded(small_denoiser, classes=10), TrialContext({}, tmp_path))
    assert math.isfinite(metrics["rfid"])


def test_the_protocol_tells_what_changes_a_score() -> None:
    base = quick().protocol
    assert base == quick(threads=2, device="cpu").protocol
    assert base.startswith("rfid/random-0-")
    assert "100 images/4 dpm-solver++ log-snr steps/1280 images" in base
    others: list[Mapping[str, Any]] = [
        {"score_images": 101}, {"sampler_steps": 5}, {"sampler": "ddim"}, {"extractor": "labels"},
        {"extractor_seed": 1}, {"reference": "held_out"}, {"reference_images": 500},
        {"training": {"images": 1280, "gamma": 4.0}},
    ]  # fmt: skip
    protocols = {quick(**other).protocol for other in others}
    assert len(protocols | {base}) == len(others) + 1


def test_a_forecast_is_near_and_leaves_the_model_alone(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    evaluation = quick(training={"images": 12800}, curve_points=0)
    evaluation.prepare()
    model = seeded(small_denoiser)
    before = torch.cat([parameter.flatten().clone() for parameter in model.parameters()])
    seconds, size = evaluation.forecast(model)
    assert torch.equal(before, torch.cat([parameter.flatten() for parameter in model.parameters()]))
    taken = evaluation.evaluate(model, TrialContext({}, tmp_path))["seconds"]
    assert taken / 3 < seconds < taken * 3
    assert size >= sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) / 3


def test_the_stock_scheduler_samples_the_same_network(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    """Samples of diffusers' scheduler with our configuration are as near to the data as our own sampler's."""
    import diffusers

    evaluation = quick(training={"images": 6400}, curve_points=0, score_images=300, sampler_steps=16)
    model = seeded(small_denoiser)
    ours = evaluation.evaluate(model, TrialContext({}, tmp_path))["rfid"]
    configuration = evaluation.scheduler_config()
    assert configuration["_class_name"] == "DDPMScheduler"
    scheduler = diffusers.DDIMScheduler.from_config(configuration)
    scheduler.set_timesteps(50)
    images = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for time in scheduler.timesteps:
            images = scheduler.step(model(images, time.expand(300)), time, images).prev_sample
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    assert evaluation.scoring.score(pixels)["rfid"] < 1.5 * ours


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "EulerDiscreteScheduler", "DDPMScheduler"])
def test_schedulers_of_diffusers_by_name(tmp_path: Path, small_denoiser: type[nn.Module], name: str) -> None:
    evaluation = quick(training={"images": 3200}, curve_points=0, sampler=name, sampler_steps=20)
    model = seeded(small_denoiser)
    evaluation.fit(model, TrialContext({}, tmp_path))
    pixels = evaluation.generate(model, 100, 0)
    ours = evaluation.changed(sampler="ddim").generate(model, 100, 0)
    reached, plain = (evaluation.scoring.score(each)["rfid"] for each in (pixels, ours))
    assert reached < 1.5 * plain
    assert not np.array_equal(pixels, ours)
    again = evaluation.changed(sampling_batch=7).generate(model, 100, 0).astype(int)
    assert np.abs(again - pixels).max() <= 1, "batches must not matter, not even to a stochastic scheduler"


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch, small_denoiser: type[nn.Module]) -> None:
    evaluation, model = quick(sampling_batch=64), seeded(small_denoiser)
    expected, forward, sizes = evaluation.generate(model, 100, 0), model.forward, []

    def hungry(limit: int) -> Any:
        def call(images: torch.Tensor, *others: Any) -> Any:
            sizes.append(len(images))
            if len(images) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(images, *others)

        return call

    monkeypatch.setattr(model, "forward", hungry(20))
    assert np.abs(evaluation.generate(model, 100, 0).astype(int) - expected).max() <= 1
    assert sizes[:3] == [64, 32, 16]
    assert set(sizes[3:]) == {16, 4}
    monkeypatch.setattr(model, "forward", hungry(0))
    with pytest.raises(TrialFailure, match="no memory to generate a single image"):
        evaluation.generate(model, 100, 0)


def test_a_verdict_is_scored_on_held_out_images(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    searched = quick(training={"images": 640}, curve_points=0)
    judged = searched.held_out()
    assert judged.protocol != searched.protocol
    assert judged.settings.training == searched.settings.training
    judged.prepare()
    context = TrialContext({}, tmp_path)
    scores = [each.evaluate(seeded(small_denoiser), context)["rfid"] for each in (searched, judged)]
    assert scores[0] != scores[1]
    assert (tmp_path / "nearest.png").exists()
    with pytest.raises(JobError, match=r"data\.held_out is 0"):
        DiffusionEvaluation({"source": "digits", "held_out": 0}, **QUICK).held_out()


@pytest.mark.parametrize("budget", ["images", "steps", "seconds"])
def test_longer_training(budget: str) -> None:
    assert getattr(quick(training={budget: 10}).longer(2.5).settings.training, budget) == 25


def test_the_nearest_known_images_are_below_each_sample() -> None:
    known = np.arange(0, 250, 10, dtype=np.uint8).reshape(-1, 1, 1, 1)
    shown = nearest_below(np.array([52, 101], np.uint8).reshape(2, 1, 1, 1), known, count=2)
    assert shown.flatten().tolist() == [52, 101, 50, 100, 60, 110]


@pytest.mark.parametrize(
    ("data", "options", "sentence"),
    [
        ({"source": "digits", "sise": 8}, {}, r"data\.sise is no option: the options of data are source"),
        ({"source": "digits"}, {"extractor": "vgg"}, r"evaluator\.extractor is 'vgg'"),
        ({"source": "digits"}, {"training": {"images": 0}}, r"evaluator\.training\.images is 0"),
        ({"source": "digits"}, {"training": {}}, "exactly one of images, steps and seconds"),
        ({"source": "digits"}, {"sampler": "euler"}, r"The sampler is 'euler': choose dpm-solver\+\+, ddim, or"),
        ({"source": "digits"}, {"sampler": "FlowMatchEulerDiscreteScheduler"}, r"with a beta_schedule"),
        ({"source": "digits"}, {"training": {"steps": 0}}, r"evaluator\.training\.steps is 0"),
        ({"source": "digits"}, {"sampler_steps": 0}, r"evaluator\.sampler_steps is 0"),
        ({"source": "digits"}, {"sampler_steps": 2000}, r"evaluator\.sampler_steps is 2000, more than the 1000"),
        ({"source": "digits"}, {"training": {"seconds": math.inf}}, r"evaluator\.training\.seconds is inf.*finite"),
        ({"source": "digits"}, {"gap_training": math.inf}, r"evaluator\.gap_training is inf.*finite"),
        ({"source": "digits"}, {"training": {"images": True}}, r"evaluator\.training\.images is True.*give a number"),
        ({"source": "digits"}, {"threads": 10**6}, r"evaluator\.threads is 1000000"),
        ({"source": ""}, {}, r"data\.source is ''"),
    ],
)
def test_bad_options(data: dict[str, Any], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        DiffusionEvaluation(data, **options)


def test_data_that_cannot_be_scored(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", images=np.full((20, 8, 8), 9, np.uint8))
    data = {"source": str(tmp_path / "flat.npz"), "held_out": 0}
    with pytest.raises(DataError, match=r"flat\.npz.*same features"):
        DiffusionEvaluation(data, **QUICK).prepare()
    with pytest.raises(DataError, match=r"'held_out' has 0 images.*data\.held_out"):
        DiffusionEvaluation({**data, "held_out": 0}, **QUICK, reference="held_out").prepare()
    with pytest.raises(
        DataError, match=r"reference_images is 5000, but .*'training' of data\.source 'digits' has 1607"
    ):
        quick(reference_images=5000).prepare()
    conditional = {**QUICK, "training": {"images": 5, "class_conditional": True}}
    with pytest.raises(DataError, match="class_conditional needs labels"):
        DiffusionEvaluation(data, **conditional).prepare()


def test_an_objective_that_the_data_do_not_allow_is_refused_before_anything_trains(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", images=np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    data = {"source": str(tmp_path / "few.npz"), "held_out": 0.15, "split": "position"}
    evaluation = DiffusionEvaluation(data, **QUICK)
    evaluation.check_objective(Objective("held_out_loss"))
    alone = Life(tmp_path, "", 0, None, Reports(Objective("held_out_loss"), maximize=False))
    with pytest.raises(JobError, match=r"does not measure on these data: name one of rfid"):
        alone.run(lambda: (None, evaluation), {}, {}, lambda *_: nn.Linear(1, 1))


def test_a_trial_imports_nothing_before_it_must(evaluator_cache: Path) -> None:
    quick().prepare()
    code = (
        "import sys, torch; from nni_diffnas.evaluators import DiffusionEvaluation;"
        "from nni_diffnas.evaluators.training.recipe import Recipe;"
        "from nni_diffnas.evaluators.training.denoising import train;"
        "DiffusionEvaluation({'source': 'digits'}).images;"
        "model = torch.nn.Conv2d(1, 1, 3, padding=1); model.forward_ = model.forward;"
        "call = lambda x, t: model.forward_(x); model.forward = call;"
        "train(model, torch.zeros(4, 1, 8, 8, dtype=torch.uint8), None, Recipe(steps=2, batch_size=4), 0, print);"
        "heavy = ('torch._dynamo', 'sympy', 'torch_fidelity', 'torchvision', 'diffusers', 'scipy', 'sklearn', 'PIL');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=evaluator_cache)
    assert done.stdout.strip().splitlines()[-1] == "[]"
