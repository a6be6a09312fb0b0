"""The loss on held-out images: the formula by hand, and what must not change it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators.diffusion import DiffusionEvaluation
from nni_diffnas.evaluators.images.image_set import ImageSet, images
from nni_diffnas.evaluators.images.settings import DataSettings
from nni_diffnas.evaluators.scores.held_out_loss import LEVELS, HeldOutLevels, HeldOutLoss, mean_loss
from nni_diffnas.evaluators.training.recipe import Recipe


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return images(DataSettings(source="digits"))


class Zero(nn.Module):
    """Says the same everywhere, and counts the images that it sees."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(channels))
        self.seen = 0

    def forward(self, sample: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Tensor:
        self.seen += len(sample)
        return self.value.view(1, -1, 1, 1).expand(len(sample), -1, *sample.shape[2:])


@pytest.mark.parametrize("prediction", ["v", "epsilon", "edm"])
def test_a_network_that_says_nothing_has_the_power_of_its_target(digits: ImageSet, prediction: str) -> None:
    recipe = Recipe(images=1, prediction=prediction, weighting="uniform")
    levels = HeldOutLoss(digits, digits.validation, recipe, 400, 256).levels(Zero())
    power = float(np.square(digits.pixels[digits.validation] / 127.5 - 1.0).mean())
    assert [level.timestep for level in levels] == [62, 187, 312, 437, 562, 687, 812, 937]
    for level in levels:
        a2 = 1 / (1 + level.sigma**2)
        s2 = 1 - a2
        expected = {
            "v": a2 + s2 * power,
            "epsilon": 1.0,
            "edm": (s2 * power + a2 * 0.5**4) / (0.5**2 * (s2 + a2 * 0.5**2)),
        }[prediction]
        assert level.squared_error == pytest.approx(expected, rel=0.03)
        assert level.weight == 1.0
    assert mean_loss(levels) == pytest.approx(np.mean([level.squared_error for level in levels]))


def test_levels_are_weighted_as_the_recipe_trains(digits: ImageSet) -> None:
    recipe = Recipe(images=1)
    levels = HeldOutLoss(digits, digits.validation, recipe, 16, 256).levels(Zero())
    for level in levels:
        snr = level.sigma**-2
        assert level.weight == pytest.approx(min(snr, 5.0) / (snr + 1.0), rel=1e-3)
    assert mean_loss(levels) == pytest.approx(sum(x.weight * x.squared_error for x in levels) / LEVELS)
    drawn = Recipe(images=1, drawn="log-normal", weighting="edm", prediction="edm")
    logs = [math.log(level.sigma) for level in HeldOutLoss(digits, digits.validation, drawn, 16, 256).levels(Zero())]
    # The middles of eight equal parts of N(-1.2, 1.2^2).
    expected = [-1.2 + 1.2 * q for q in (-1.534, -0.887, -0.489, -0.157, 0.157, 0.489, 0.887, 1.534)]
    assert logs == pytest.approx(expected, abs=0.05)


def test_all_networks_meet_the_same_images_and_noise(digits: ImageSet, small_denoiser: type[nn.Module]) -> None:
    loss = HeldOutLoss(digits, digits.validation, Recipe(images=1), 40, 256)
    model = small_denoiser()
    before, state = torch.get_rng_state(), model.training
    first = loss.levels(model)
    assert torch.equal(before, torch.get_rng_state()), "measuring must not change the training"
    assert model.training == state
    assert first == loss.levels(model)
    pieces = HeldOutLoss(digits, digits.validation, Recipe(images=1), 40, 7).levels(model)
    assert mean_loss(pieces) == pytest.approx(mean_loss(first), rel=1e-5)


def test_a_class_conditional_network_hears_the_classes_that_it_was_trained_with(digits: ImageSet) -> None:
    recipe = Recipe(images=1, class_conditional=True)
    levels = HeldOutLevels(digits, digits.validation, recipe, 40)
    batch = next(levels.levels(torch.device("cpu")))
    numbers = digits.numbers_of(levels.chosen)
    assert batch.labels is not None
    assert numbers is not None
    assert batch.labels.tolist() == numbers.tolist()
    plain = next(HeldOutLevels(digits, digits.validation, Recipe(images=1), 40).levels(torch.device("cpu")))
    assert plain.labels is None


def test_images_that_rank_are_neither_trained_on_nor_judged_by(digits: ImageSet) -> None:
    assert len(digits.validation) == len(digits.held_out) // 4
    assert set(digits.validation) | set(digits.unseen) == set(digits.held_out)
    assert not set(digits.validation) & set(digits.unseen)
    assert not set(digits.held_out) & set(digits.training)
    batch = next(HeldOutLevels(digits, digits.validation, Recipe(images=1), 100).levels(torch.device("cpu")))
    known = {digits.pixels[index].tobytes() for index in digits.validation}
    met = ((batch.clean + 1.0) * 127.5).round().to(torch.uint8).numpy()
    assert {image.tobytes() for image in met} == known
    judge = DiffusionEvaluation({"source": "digits"}, extractor="random", training={"images": 64}).held_out()
    assert judge.scoring.indices.tolist() == digits.unseen.tolist()
    assert f"held_out {len(digits.unseen)}" in judge.protocol
    assert judge.held_out_loss is not None
    assert set(judge.held_out_loss.noised.chosen) <= set(digits.unseen), "nor is the loss of a verdict theirs"


def test_a_trial_reports_it(tmp_path: Path, small_denoiser: type[nn.Module]) -> None:
    options = {"extractor": "random", "training": {"images": 640}, "score_images": 20, "sampler_steps": 2}
    reports: list[dict[str, float]] = []
    evaluation = DiffusionEvaluation({"source": "digits"}, curve_points=1, curve_images=0, **options)
    assert evaluation.rungs == ("held_out_loss",)
    context = TrialContext({}, tmp_path, report=lambda metrics: reports.append(dict(metrics)))
    torch.manual_seed(0)
    metrics = evaluation.evaluate(small_denoiser(), context)
    levels = json.loads((tmp_path / "evaluation.json").read_text())["levels"]["held_out_loss"]
    assert metrics["held_out_loss"] == pytest.approx(np.mean([x["weight"] * x["squared_error"] for x in levels]))
    assert metrics["held_out_loss"] == pytest.approx(metrics["loss"], rel=0.3), "it estimates the loss of the training"
    middle = [report["held_out_loss"] for report in reports if "held_out_loss" in report]
    assert middle == [metrics["held_out_loss@50"]]
    assert metrics["held_out_loss"] < middle[0]
    assert "rfid@50" not in metrics

    limit = {"stop.held_out_loss@50": 0.9 * middle[0]}
    torch.manual_seed(0)
    stopped = evaluation.evaluate(small_denoiser(), TrialContext({}, tmp_path, settings=limit))
    assert stopped["unranked"] == 1.0
    assert stopped["held_out_loss@50"] == middle[0]
    reason = json.loads((tmp_path / "evaluation.json").read_text())["stopped"]
    assert reason.startswith("stopped after 320 images: its held_out_loss is")


@pytest.mark.parametrize("off", [{"data": {"held_out": 0.0}}, {"evaluator": {"loss_images": 0}}])
def test_nothing_is_measured_where_nothing_is_held_out(
    tmp_path: Path, small_denoiser: type[nn.Module], off: dict[str, dict[str, float]]
) -> None:
    options = {"extractor": "random", "training": {"images": 128}, "score_images": 20, "sampler_steps": 2}
    data = {"source": "digits", **off.get("data", {})}
    evaluation = DiffusionEvaluation(data, **{**options, **off.get("evaluator", {})})
    assert evaluation.rungs == ("rfid",)
    assert "held_out_loss" not in evaluation.measures
    assert "held_out_loss" not in evaluation.evaluate(small_denoiser(), TrialContext({}, tmp_path))


def test_its_share_of_a_trial(digits: ImageSet, tmp_path: Path) -> None:
    """Eight forward passes an image: with its defaults less than the samples of the same points take."""
    counted = Zero()
    HeldOutLoss(digits, digits.validation, Recipe(images=1), 128, 256).levels(counted)
    assert counted.seen == 8 * 128
    settings = DiffusionEvaluation({"source": "digits"}).settings
    assert counted.seen < settings.curve_images * settings.sampler_steps


def test_only_other_losses_change_the_protocol() -> None:
    def protocol(**options: int) -> str:
        return DiffusionEvaluation(
            {"source": "digits"}, extractor="random", training={"images": 64}, **options
        ).protocol

    assert protocol() == protocol(loss_images=128) == protocol(loss_images=0)
    assert protocol(loss_images=64) != protocol()


def test_a_copy_of_the_reference_has_no_gap(digits: ImageSet, small_denoiser: type[nn.Module]) -> None:
    torch.manual_seed(0)
    one, other = small_denoiser(), small_denoiser()
    gap = HeldOutLoss(digits, digits.validation, Recipe(images=1), 40, 256, one)
    assert mean_loss(gap.levels(one)) == 0.0
    there, back = (
        gap.levels(other),
        HeldOutLoss(digits, digits.validation, Recipe(images=1), 40, 256, other).levels(one),
    )
    assert there == back
    zero = HeldOutLoss(digits, digits.validation, Recipe(images=1, weighting="uniform"), 40, 256, Zero()).levels(one)
    batch = next(HeldOutLevels(digits, digits.validation, Recipe(images=1), 40).levels(torch.device("cpu")))
    a2 = 1 / (1 + zero[0].sigma ** 2)
    with torch.no_grad():
        said = one(a2**0.5 * batch.clean + (1 - a2) ** 0.5 * batch.noise, batch.times)
    assert zero[0].squared_error == pytest.approx(float(said.square().mean()), rel=1e-4)
