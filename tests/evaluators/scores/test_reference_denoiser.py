"""The reference denoiser: trained once, the same for all trials, another where anything differs that made it."""

import json
from pathlib import Path

import pytest
import torch

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.cache import cache_folder
from nni_diffnas.evaluators.diffusion import DiffusionEvaluation
from nni_diffnas.plugins import find_plugin

SMALL = {"base_width": 8, "width_multiple": 4, "norm_groups": 4}
OPTIONS = {
    "extractor": "random", "training": {"images": 320}, "score_images": 20, "sampler_steps": 2, "curve_points": 1,
    "curve_images": 0, "loss_images": 32, "gap_training": 3,
}  # fmt: skip


def test_candidates_are_compared_with_the_default_trained_longer(tmp_path: Path) -> None:
    family = find_plugin("spaces", "unet")(preset="digits", **SMALL)

    def trial(**changes: object) -> dict[str, float]:
        evaluation = DiffusionEvaluation({"source": "digits"}, **{**OPTIONS, **changes})
        assert evaluation.rungs == ("held_out_loss", "prediction_gap")
        torch.manual_seed(0)
        return evaluation.evaluate(family.build(family.default), TrialContext(family.default, tmp_path, family=family))

    found = trial()
    made = sorted((cache_folder() / "denoisers").iterdir())
    assert 0 < found["prediction_gap"] < found["prediction_gap@50"], "training brings it nearer"
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["levels"]["prediction_gap"]) == 8
    assert trial()["prediction_gap"] == found["prediction_gap"]
    assert sorted((cache_folder() / "denoisers").iterdir()) == made, "trained once"
    assert trial(gap_training=2)["prediction_gap"] != found["prediction_gap"]
    assert trial(training={"images": 320, "gamma": 4.0})["prediction_gap"] != found["prediction_gap"]
    assert len(list((cache_folder() / "denoisers").iterdir())) > len(made)


def test_the_reference_is_part_of_the_protocol_and_of_no_other() -> None:
    plain = DiffusionEvaluation({"source": "digits"}, **{**OPTIONS, "gap_training": 0})
    compared = DiffusionEvaluation({"source": "digits"}, **OPTIONS)
    assert compared.protocol == f"{plain.protocol}/gap to the default after 960 images"
    assert compared.longer(2).protocol.endswith("/gap to the default after 960 images"), "a longer trial, one reference"
    assert "prediction_gap" in compared.measures
    assert "prediction_gap" not in plain.measures


def test_what_has_no_reference_is_refused(tmp_path: Path, small_denoiser: type[torch.nn.Module]) -> None:
    evaluation = DiffusionEvaluation({"source": "digits"}, **OPTIONS)
    with pytest.raises(JobError, match="gap_training compares networks with the default of their search space"):
        evaluation.evaluate(small_denoiser(), TrialContext({}, tmp_path))
    with pytest.raises(JobError, match="gap_training compares predictions for loss_images, which is 0"):
        DiffusionEvaluation({"source": "digits"}, **{**OPTIONS, "loss_images": 0})
