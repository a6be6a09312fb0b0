"""Images from any diffusers pipeline that needs no prompt, each from its own seed."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nni_diffnas.api.errors import JobError

from ..training.compute import autocast, in_batches
from .schedulers import find_scheduler

__all__ = ["Generator"]

TIMED_STEPS = 4


@dataclass(frozen=True)
class Generator:
    """A loaded pipeline.

    Args:
        pipeline: of diffusers.
        steps: given to it.
        seed: of image 0; image ``i`` has the seed ``seed + i``.
        device: that it is on.
        fingerprint: of the pipeline's files.
    """

    pipeline: Any
    steps: int
    seed: int
    device: torch.device
    fingerprint: str

    @classmethod
    def load(
        cls, folder: Path, sampler: str | None, steps: int | None, seed: int, device: torch.device, trust: bool
    ) -> Generator:
        """Load a pipeline, with another sampler where one is named.

        Raises:
            JobError: no pipeline, one that takes a prompt, one that brings code, or a scheduler that does not fit it.
        """
        import diffusers

        if not (folder / "model_index.json").is_file():
            raise JobError(f"{str(folder)!r} holds no diffusers pipeline: name a folder with a model_index.json.")
        diffusers.utils.logging.disable_progress_bar()
        diffusers.utils.logging.set_verbosity_error()
        try:
            load: Any = diffusers.DiffusionPipeline.from_pretrained
            pipeline = load(str(folder), trust_remote_code=trust)
        except (OSError, ValueError, ImportError, AttributeError, RuntimeError) as error:
            remedy = "check its files" if trust else "check its files, and add --trust-remote-code if it brings code"
            reason = " ".join(str(error).split())[:200]
            raise JobError(f"The pipeline {str(folder)!r} cannot be loaded ({reason}): {remedy}.") from error
        parameters = inspect.signature(pipeline.__call__).parameters
        if "generator" not in parameters or not {"batch_size", "class_labels"} & set(parameters):
            raise JobError(
                f"{type(pipeline).__name__} makes no images without a prompt: evaluate an unconditional or a "
                f"class-conditional pipeline."
            )
        if sampler is not None:
            scheduler = {**pipeline.scheduler.config, "timestep_spacing": "trailing"}
            pipeline.scheduler = find_scheduler(sampler).from_config(scheduler)
        pipeline.set_progress_bar_config(disable=True)
        default = parameters["num_inference_steps"].default if "num_inference_steps" in parameters else 50
        digest = hashlib.sha256()
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
        return cls(pipeline.to(device), steps or int(default), seed, device, digest.hexdigest()[:16])

    @property
    def sampler(self) -> str:
        """Class of the scheduler."""
        return type(self.pipeline.scheduler).__name__

    def images(self, start: int, stop: int, batch: int) -> Iterator[NDArray[np.uint8]]:
        """Images ``start`` to ``stop`` in batches, uint8 ``[batch, channels, height, width]``."""

        def make(first: int, last: int) -> Tensor:
            return torch.from_numpy(self._make(start + first, start + last, self.steps))

        for made in in_batches(stop - start, batch, make):
            yield made.numpy()

    def _make(self, start: int, stop: int, steps: int) -> NDArray[np.uint8]:
        numbers = range(start, stop)
        options: dict[str, Any] = {"num_inference_steps": steps, "output_type": "np", "return_dict": False}
        options["generator"] = [torch.Generator(self.device).manual_seed(self.seed + number) for number in numbers]
        parameters = inspect.signature(self.pipeline.__call__).parameters
        if "batch_size" in parameters:
            options["batch_size"] = len(numbers)
        else:
            classes = int(getattr(self.pipeline.transformer.config, "num_embeds_ada_norm", 1000))
            options["class_labels"] = [number % classes for number in numbers]
        known = {name: value for name, value in options.items() if name in parameters}
        with torch.inference_mode(), autocast(self.device):
            (made, *_) = self.pipeline(**known)
        pixels = np.rint(np.asarray(made, dtype=np.float32) * 255.0).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(pixels, 3, 1))

    def check(self, shape: tuple[int, int, int]) -> None:
        """Refuse a pipeline whose images are of another shape (channels, height, width) than the data's.

        Raises:
            JobError: as said.
        """
        try:
            made = self._make(0, 1, 1).shape[1:]
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise JobError(
                f"The pipeline makes no images with the sampler {self.sampler} ({reason}): name another one."
            ) from error
        if made != shape:
            described = [f"{width}x{height} with {channels} channels" for channels, height, width in (made, shape)]
            raise JobError(
                f"The pipeline makes images of {described[0]}, the data has {described[1]}: "
                f"set data.size and data.channels."
            )

    def seconds_per_image(self, batch: int) -> float:
        """Of all steps, judged from a few steps of one batch."""
        few = min(TIMED_STEPS, self.steps)
        self._make(0, batch, 1)
        began = time.monotonic()
        self._make(0, batch, few)
        return (time.monotonic() - began) * self.steps / few / batch
