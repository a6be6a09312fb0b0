"""Short retrainings: how long they are, what they are judged by, and that nearer students are judged nearer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blockwise_teachers import QUICK

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.trial import UNRANKED
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.inherit import fill_fitting
from nni_diffnas.evaluators.blockwise.probing import gap_to_teacher, shortened
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.trial.run import build_seeded


@pytest.mark.parametrize(("budget", "left"), [("images", 150), ("steps", 150), ("seconds", 149.5)])
def test_a_recipe_is_shortened_whatever_its_budget(budget: str, left: float) -> None:
    recipe = Recipe.model_validate({budget: 299, "batch_size": 8})
    assert shortened(recipe, 0.5) == Recipe.model_validate({budget: left, "batch_size": 8})


def test_the_gap_is_none_for_the_teacher_and_grows_with_the_distance(family: BlockwiseUNetFamily) -> None:
    teacher = TeacherPipeline(family)
    images = NoisedImages(teacher, torch.rand(64, 1, 8, 8) * 2 - 1, None, 0)
    same = family.build(family.default).eval()
    fill_fitting(same, teacher.network.state_dict())
    assert gap_to_teacher(images, same) == 0.0
    gaps = []
    for size in (0.01, 0.1):
        with torch.no_grad():
            same.get_parameter("conv_out.weight").add_(size)
        gaps.append(gap_to_teacher(images, same))
    assert 0.0 < gaps[0] < gaps[1]
    assert gap_to_teacher(images, same) == gaps[1], "always the same noise"


def test_a_probe_is_a_part_of_a_retraining_and_is_not_ranked(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    judge = BlockwiseEvaluation({"source": "digits"}, **QUICK)
    judge.prepare()

    def probe(share: float) -> dict[str, Any]:
        context = TrialContext(family.default, tmp_path, 0, settings={"task": "probe", "share": share}, family=family)
        return judge.evaluate(build_seeded(family, family.default, 0), context)

    found = probe(0.5)
    assert found["trained_images"] == 0.5 * QUICK["training"]["images"]
    assert found[UNRANKED] == 1
    assert 0.0 < found["gap"] < 1.0
    assert (tmp_path / "evaluation.json").is_file()
    with pytest.raises(JobError, match="share is 0"):
        probe(0.0)
