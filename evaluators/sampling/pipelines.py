"""Images from any diffusers pipeline that needs no prompt, each from its own seed."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nni_diffnas.api.errors import JobError
from nni_diffnas.files.pipeline_parts import check_parts, read_index, silent_diffusers, tell_of_code, variant_of

from ..images.image_set import ImageSet
from ..training.compute import autocast, in_batches
from .schedulers import NOISE, find_scheduler, kind_of, space_by_log_snr, taken_unsaid

__all__ = ["ImageGenerator"]

TIMED_STEPS = 4


@dataclass(frozen=True)
class ImageGenerator:
    """A loaded pipeline.

    Args:
        pipeline: of diffusers.
        steps: given to it.
        seed: of image 0; image ``i`` has the seed ``seed + i``.
        device: that it is on.
        fingerprint: of the pipeline's files.
        remark: what a person should know of how it is sampled; empty for nothing.
        spaced: whether its scheduler's timesteps are spaced by the logarithm of the signal-to-noise ratio.
        drawn: class numbers that images have in turn; empty: all that the network knows.
    """

    pipeline: Any
    steps: int
    seed: int
    device: torch.device
    fingerprint: str
    remark: str = ""
    spaced: bool = False
    drawn: tuple[int, ...] = ()

    @classmethod
    def load(
        cls,
        folder: Path,
        sampler: str | None,
        steps: int | None,
        seed: int,
        device: torch.device,
        trust: bool,
        demanded: bool = True,
        spaced: bool = False,
    ) -> ImageGenerator:
        """Load a pipeline, with another sampler where one is named and the pipeline's own is of its kind.

        Args:
            folder: of the pipeline.
            sampler: class of a diffusers scheduler; ``None``: the pipeline's own.
            steps: of the sampler; ``None``: those that the pipeline takes by itself.
            seed: of image 0.
            device: to generate on.
            trust: whether the pipeline's own Python files may run.
            demanded: whether somebody asked for the sampler; else a pipeline of another kind keeps its own.
            spaced: whether to space the sampler's timesteps as trials do, where it lets itself be told.

        Raises:
            JobError: no pipeline, weights that are not its networks', one that takes a prompt, one that brings code, or
                a sampler that does not fit it.
        """
        import diffusers

        if not (folder / "model_index.json").is_file():
            raise JobError(f"{str(folder)!r} holds no diffusers pipeline: name a folder with a model_index.json.")
        read_index(folder)
        tell_of_code(folder, trust)
        diffusers.utils.logging.disable_progress_bar()
        try:
            load: Any = diffusers.DiffusionPipeline.from_pretrained
            with silent_diffusers():  # it logs as errors what it then mends
                pipeline = load(str(folder), trust_remote_code=trust, variant=variant_of(folder))
                check_parts(pipeline, folder)
        except JobError:
            raise
        except Exception as error:  # a configuration that nobody can have meant ends in whatever its reader raises
            remedy = "check its files" if trust else "check its files, and add --trust-remote-code if it brings code"
            reason = " ".join(str(error).split())[:200]
            raise JobError(f"The pipeline {str(folder)!r} cannot be loaded ({reason}): {remedy}.") from error
        parameters = inspect.signature(pipeline.__call__).parameters
        if "generator" not in parameters or not {"batch_size", "class_labels"} & set(parameters):
            raise JobError(
                f"{type(pipeline).__name__} makes no images without a prompt: evaluate an unconditional or a "
                f"class-conditional pipeline."
            )
        _check_network(pipeline, folder)
        remark, spaced = "", spaced and sampler is not None
        if sampler is not None:
            wanted, own, kind = find_scheduler(sampler), type(pipeline.scheduler).__name__, kind_of(pipeline.scheduler)
            if kind == NOISE:
                remark = taken_unsaid(_saved(folder / "scheduler" / "scheduler_config.json"), pipeline.scheduler)
                scheduler = {**pipeline.scheduler.config, "timestep_spacing": "trailing"}
                kinds: Any = diffusers
                if isinstance(pipeline, kinds.DDIMPipeline):  # which tells others what only its own knows
                    pipeline = kinds.DDPMPipeline(pipeline.unet, pipeline.scheduler)
                pipeline.scheduler = wanted.from_config(scheduler)
                spaced = spaced and space_by_log_snr(pipeline.scheduler)
            elif demanded:
                raise JobError(
                    f"The pipeline's scheduler {own} is for {kind}, which {sampler} cannot sample: leave the sampler "
                    f"to the pipeline."
                )
            else:
                remark, spaced = f"It keeps its own {own}, which is for {kind}.", False
        most = pipeline.scheduler.config.get("num_train_timesteps")
        if steps and most and steps > most and kind_of(pipeline.scheduler) == NOISE:
            raise JobError(f"--steps is {steps}, and the pipeline was trained on {most} noise levels: lower it.")
        pipeline.set_progress_bar_config(disable=True)
        default = parameters["num_inference_steps"].default if "num_inference_steps" in parameters else 50
        digest = hashlib.sha256()
        for file in _files_of(folder, pipeline):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
        return cls(pipeline.to(device), steps or int(default), seed, device, digest.hexdigest()[:16], remark, spaced)

    @property
    def sampler(self) -> str:
        """Class of the scheduler, and how its timesteps are spaced where not by itself."""
        return type(self.pipeline.scheduler).__name__ + (" log-snr" if self.spaced else "")

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
        options["batch_size"] = len(numbers)
        parameters = inspect.signature(self.pipeline.__call__).parameters
        asked = self.drawn or range(self.classes)
        labels = [asked[number % len(asked)] for number in numbers] if asked else None
        if labels is not None:
            options["class_labels"] = labels
        known = {name: value for name, value in options.items() if name in parameters}
        unasked = labels is not None and "class_labels" not in parameters
        with torch.random.fork_rng(devices=[]), torch.inference_mode(), autocast(self.device):
            torch.manual_seed(self.seed + start)  # for what a pipeline draws without asking the generators
            with self._told(labels) if unasked else nullcontext():
                (made, *_) = self.pipeline(**known)
        images = np.asarray(made, dtype=np.float32)
        if not np.isfinite(images).all():
            raise JobError(
                f"The pipeline's images hold numbers that are not finite (images {start} to {stop - 1}): its training "
                f"has diverged, or its weights are damaged or too coarse a type; save a sound one."
            )
        pixels = np.rint(images * 255.0).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(pixels, 3, 1))

    @property
    def classes(self) -> int:
        """Classes that the network is conditioned on; 0 for none."""
        network = getattr(self.pipeline, "unet", None) or getattr(self.pipeline, "transformer", None)
        config = getattr(network, "config", {})
        return int(config.get("num_class_embeds") or config.get("num_embeds_ada_norm") or 0)

    def drawing_classes_of(self, data: ImageSet) -> ImageGenerator:
        """The same, of which the classes are asked that the data has, where their numbers say which these are."""
        if not self.classes or not data.classes:
            return self
        if data.last_class >= self.classes:
            odd = f"the data has labels up to {data.last_class}"
        elif not data.numbered_by_source and data.classes != self.classes and not data.in_turn:
            odd = f"nothing says which of them {', '.join(data.class_names[:5])} are"
        else:
            return replace(self, drawn=tuple(data.class_numbers.tolist()))
        remark = f"The network knows {self.classes} classes, all of which were drawn, since {odd}."
        return replace(self, remark=f"{self.remark} {remark}".strip())

    @contextmanager
    def _told(self, labels: Sequence[int] | None) -> Iterator[None]:
        """Tell the network its classes, for a pipeline that knows of none."""
        given = torch.tensor(labels, device=self.device)

        def add(module: Any, arguments: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return arguments, {"class_labels": given, **named}

        hook = self.pipeline.unet.register_forward_pre_hook(add, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def check(self, shape: tuple[int, int, int]) -> None:
        """Refuse a pipeline whose images are of another shape (channels, height, width) than the data's.

        Raises:
            JobError: as said.
        """
        try:
            made = self._make(0, 1, 1).shape[1:]
        except JobError:
            raise
        except Exception as error:  # of whichever sampler it is
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


def _check_network(pipeline: Any, folder: Path) -> None:
    """Refuse a UNet that cannot draw images from noise alone, whichever the sampler.

    Raises:
        JobError: as said.
    """
    config = getattr(getattr(pipeline, "unet", None), "config", {})
    takes, gives = config.get("in_channels"), config.get("out_channels")
    if "sample_size" in config and config["sample_size"] is None:
        raise JobError(
            f"The UNet of {str(folder)!r} names no sample_size in unet/config.json: add the size that it was trained "
            f"at."
        )
    if takes and gives and gives not in (takes, 2 * takes):
        raise JobError(
            f"The UNet of {str(folder)!r} takes {takes} channels and gives {gives}: it needs a mask or another image "
            f"beside the noise; evaluate an unconditional or a class-conditional pipeline."
        )
    variance = str(pipeline.scheduler.config.get("variance_type", ""))
    if takes and gives == 2 * takes and not variance.startswith("learned"):
        raise JobError(
            f"The UNet of {str(folder)!r} gives a variance beside its prediction, which its scheduler does not expect "
            f"(variance_type {variance or 'unknown'}): save it with a DDPMScheduler whose variance_type is "
            f"learned_range."
        )


def _saved(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def _files_of(folder: Path, pipeline: Any) -> list[Path]:
    """The pipeline's own files, sorted: what else lies in its folder (pictures, scores) makes it no other pipeline."""
    parts = [folder / name for name in pipeline.components if (folder / name).is_dir()]
    inside = [file for part in parts for file in part.rglob("*") if file.is_file()]
    return sorted([folder / "model_index.json", *folder.glob("*.py"), *inside])
