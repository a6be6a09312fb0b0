"""A whole UNet trained by the noise or by a teacher, in a process that may be killed: it goes on where it was."""

from __future__ import annotations

from pathlib import Path

import cloudpickle
import numpy as np
import torch
from diffusers import UNet2DModel

from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.joint import JointLoss, Retraining
from nni_diffnas.evaluators.blockwise.settings import BETAS
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily

__all__ = ["train_whole"]

KEPT_EVERY = 250
"""Steps between two writings of the state."""


def train_whole(
    family: BlockwiseUNetFamily, judge: BlockwiseEvaluation, teacher: BlockwiseUNetFamily | None, seed: int, state: Path
) -> UNet2DModel:
    """Train the family's own network from the weights in its folder, as the judge trains, and return it.

    Args:
        family: of a pipeline with fresh weights.
        judge: whose images and recipe are used.
        teacher: whose predictions it learns; ``None``: it learns the noise.
        seed: of the noise.
        state: file of the unfinished training: written on the way, and read where it is there.
    """
    recipe = judge.settings.training
    steps = (recipe.images or 0) // recipe.batch_size
    if state.is_file():
        done, learner = cloudpickle.loads(state.read_bytes())
    else:
        pipeline, pixels = TeacherPipeline(teacher or family), judge.images.pixels[judge.images.training]
        images = NoisedImages(pipeline, pipeline.encode(torch.from_numpy(np.ascontiguousarray(pixels))), None, seed)
        joint = JointLoss(BETAS["constant1"], 0.0 if teacher is None else 1.0, "own")
        torch.manual_seed(seed)
        done, learner = 0, Retraining(family.teacher(), family.teacher_cost.macs, pipeline, images, recipe, joint)
    for step in range(done, steps):
        learner.gradient(learner.draw(step / steps))
        learner.update((step + 1) / steps)
        if (step + 1) % KEPT_EVERY == 0:
            unfinished = state.with_suffix(".new")
            unfinished.write_bytes(cloudpickle.dumps((step + 1, learner)))
            unfinished.replace(state)
            print(f"  {state.stem}: {step + 1} of {steps} steps", flush=True)
    learner.average.swap()
    network: UNet2DModel = learner.model.eval()
    return network
