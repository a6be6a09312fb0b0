"""A teacher at work: its network, noise schedule, autoencoder and conditioning, whatever kind of pipeline it is.

| symbol | shape | meaning |
|---|---|---|
| x_0 | ``[images, channels, height, width]`` | what is denoised: pixels in [-1, 1], or scaled latents |
| x_t | the same | a x_0 + s eps, a = sqrt(alpha_bar_t), s = sqrt(1 - alpha_bar_t) |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nni_diffnas.api.blocks import BlockFamily
from nni_diffnas.api.errors import DataError, JobError
from nni_diffnas.files.pipeline_parts import check_parts, load_part, read_index, tell_of_code, variant_of

from ..images.image_set import ImageSet
from ..sampling.schedulers import NOISE, kind_of, taken_unsaid
from ..training.losses import EpsilonPrediction, Parameterisation, VPrediction

__all__ = ["Noised", "NoisedImages", "TeacherPipeline", "weights_hash"]

AUTOENCODERS = ("AutoencoderKL", "VQModel")
PREDICTIONS: dict[str, type[Parameterisation]] = {"epsilon": EpsilonPrediction, "v_prediction": VPrediction}


class TeacherPipeline:
    """Everything of a pipeline folder that training and sampling need.

    Args:
        family: knows the folder and loads the network.
        prompts: one per class of the data, or one for all.
        trust_remote_code: whether code in the folder may run.

    Raises:
        JobError: a scheduler, autoencoder or text encoder that cannot be used; the message names it.
    """

    def __init__(self, family: BlockFamily, prompts: Sequence[str] = (), trust_remote_code: bool = False) -> None:
        self.family, self.folder = family, family.folder
        self.prompts, self.trust_remote_code = tuple(prompts), trust_remote_code
        self.index = read_index(self.folder)
        self.config: dict[str, Any] = json.loads((self.folder / "unet" / "config.json").read_text(encoding="utf-8"))
        self.device = torch.device("cpu")
        self._codec: nn.Module | None = None
        self._texts: Tensor | None = None

    # What it is ------------------------------------------------------------------------------------------------------

    @cached_property
    def autoencoder(self) -> tuple[str, str] | None:
        """Folder and class of the autoencoder; ``None`` for a pipeline in pixels."""
        parts = {n: e[1] for n, e in self.index.items() if isinstance(e, list) and len(e) == 2 and n != "unet"}
        found = [(name, kind) for name, kind in parts.items() if kind in AUTOENCODERS]
        for name in ("vae", "vqvae", "movq"):
            if name in parts and parts[name] and parts[name] not in AUTOENCODERS:
                raise JobError(
                    f"The teacher's autoencoder {name} is a {parts[name]}: {' and '.join(AUTOENCODERS)} can be used."
                )
        return found[0] if found else None

    @cached_property
    def scheduler(self) -> dict[str, Any]:
        """Configuration of its scheduler.

        Raises:
            JobError: there is none.
        """
        file = self.folder / "scheduler" / "scheduler_config.json"
        if not file.is_file():
            raise JobError(f"The teacher's pipeline {str(self.folder)!r} has no scheduler: save it with the pipeline.")
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return config

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Signal power at each timestep, float64 ``[T]``, from diffusers' own scheduler.

        Raises:
            JobError: a scheduler without it, such as one of flow matching.
        """
        name, made = str(self.scheduler.get("_class_name")), self._made_scheduler
        alphas = getattr(made, "alphas_cumprod", None)
        if alphas is None:
            raise JobError(
                f"The teacher's scheduler {name} has no discrete noise levels (alphas_cumprod): save the pipeline with "
                f"a DDPM- or DDIM-like scheduler."
            )
        if (found := kind_of(made)) != NOISE:
            raise JobError(
                f"The teacher's scheduler {name} is for {found}: block-wise search takes a network that predicts noise "
                f"or velocity, saved with a DDPM- or DDIM-like scheduler."
            )
        # a terminal signal-to-noise ratio of exactly zero has no logarithm, which the sampler needs
        return torch.as_tensor(alphas, dtype=torch.float64).clamp(min=1e-8)

    @cached_property
    def parameterisation(self) -> Parameterisation:
        """What the network predicts.

        Raises:
            JobError: something else than noise or velocity.
        """
        made = self._made_scheduler
        # where the file does not say it, what the scheduler itself takes
        name = None if made is None else made.config.get("prediction_type")
        if name not in PREDICTIONS:
            raise JobError(
                f"The teacher's scheduler has prediction_type {name!r}: {' and '.join(PREDICTIONS)} are known."
            )
        return PREDICTIONS[name]()

    @property
    def remark(self) -> str:
        """What its scheduler took that its file does not say; empty where that says all. After `alpha_bar`."""
        return taken_unsaid(self.scheduler, self._made_scheduler)

    @cached_property
    def _made_scheduler(self) -> Any:
        """Diffusers' own scheduler; ``None`` where it has none of this name."""
        import diffusers

        kind = getattr(diffusers, str(self.scheduler.get("_class_name")), None)
        return None if kind is None else kind.from_config(self.scheduler)

    @property
    def conditioned_on(self) -> str:
        """``text``, ``classes`` or nothing."""
        if self.config.get("_class_name") == "UNet2DConditionModel" or self.config.get("cross_attention_dim"):
            return "text"
        return "classes" if self.config.get("num_class_embeds") else ""

    def _codec_config(self) -> dict[str, Any]:
        assert self.autoencoder is not None
        config: dict[str, Any] = json.loads((self.folder / self.autoencoder[0] / "config.json").read_text())
        return config

    def check(self, images: ImageSet) -> None:
        """Refuse images that do not fit.

        Raises:
            DataError: size, channels or classes do not fit the teacher.
            JobError: a part of the pipeline that cannot be used.
        """
        shape, wanted, factor, what = images.shape, self.shape, 1, "images"
        if self.autoencoder is not None:
            config = self._codec_config()
            factor, what = 2 ** (len(config["block_out_channels"]) - 1), "images for its autoencoder"
            latents = int(config["latent_channels"])
            if latents != wanted[0]:
                raise JobError(
                    f"The teacher's UNet denoises {wanted[0]} channels, its autoencoder makes {latents}: the parts of "
                    f"the pipeline do not belong together."
                )
            wanted = (int(config["in_channels"]), wanted[1] * factor, wanted[2] * factor)
        if shape != wanted:
            raise DataError(
                f"The images are {shape[2]}x{shape[1]} with {shape[0]} channels, the teacher takes {what} of "
                f"{wanted[2]}x{wanted[1]} with {wanted[0]}: set data.size and data.channels, or take another teacher."
            )
        if self.conditioned_on == "classes":
            self._check_classes(images, int(self.config["num_class_embeds"]))
        if self.conditioned_on == "text" and len(self.prompts) not in (1, max(1, images.last_class + 1)):
            raise JobError(
                f"evaluator.prompts holds {len(self.prompts)} texts, the data has {images.classes} classes, numbered "
                f"up to {images.last_class}: give one text for each number from 0 on, or one for all images, or set "
                f"data.class_numbers to in_turn, which numbers those that occur from 0."
            )
        _ = self.alpha_bar, self.parameterisation

    def _check_classes(self, images: ImageSet, known: int) -> None:
        teachers = f"The teacher is conditioned on {known} classes, 0 to {known - 1}"
        if not images.classes:
            raise DataError(f"{teachers}, the data has 0: give labels that are the teacher's class numbers.")
        if images.last_class >= known:
            raise DataError(
                f"{teachers}, the data has labels up to {images.last_class}: give labels that are the teacher's class "
                f"numbers, or set data.class_numbers to in_turn where those that occur are its classes in order."
            )
        if not images.numbered_by_source and images.classes != known and not images.in_turn:
            raise DataError(
                f"{teachers}, and nothing says which of them {', '.join(images.class_names[:5])} are: name the class "
                f"folders by the teacher's class numbers, or set data.class_numbers to in_turn where they are its "
                f"first {images.classes} in order."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of x_0."""
        size = self.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return int(self.config["in_channels"]), height, width

    # What it does ----------------------------------------------------------------------------------------------------

    def to(self, device: torch.device) -> TeacherPipeline:
        """Work on a device from now on."""
        self.device = device
        return self

    @cached_property
    def network(self) -> nn.Module:
        """The teacher, frozen, on the device."""
        return self.family.teacher().to(self.device).requires_grad_(False).eval()

    @property
    def codec(self) -> Any:
        """The autoencoder, frozen, on the device."""
        if self._codec is None:
            import diffusers

            assert self.autoencoder is not None
            name, kind = self.autoencoder
            loaded = load_part(getattr(diffusers, kind), self.folder / name)
            self._codec = loaded.to(self.device).requires_grad_(False).eval()
        return self._codec

    @torch.no_grad()
    def encode(self, pixels: Tensor, batch: int = 128) -> Tensor:
        """x_0 of uint8 pixels: themselves in [-1, 1], or the autoencoder's latents (their mean), scaled."""
        chunks = []
        for part in torch.split(pixels, batch):
            images = part.float().div_(127.5).sub_(1.0)
            if self.autoencoder is not None:
                made = self.codec.encode(images)
                latents = made.latents if self.autoencoder[1] == "VQModel" else made.latent_dist.mode()
                config = self.codec.config
                images = (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor
            chunks.append(images)
        return torch.cat(chunks)

    @torch.no_grad()
    def decode(self, samples: Tensor) -> Tensor:
        """Images, nominally in [-1, 1]."""
        if self.autoencoder is None:
            return samples
        config = self.codec.config
        decoded: Tensor = self.codec.decode(
            samples / config.scaling_factor + (config.get("shift_factor") or 0.0)
        ).sample
        return decoded

    @property
    def clip(self) -> float | None:
        """Largest magnitude of x_0, for the sampler; latents have none."""
        return 1.0 if self.autoencoder is None else None

    def condition(self, labels: Tensor | None, count: int) -> dict[str, Tensor]:
        """Named arguments of the network for ``count`` images with these labels."""
        if self.conditioned_on == "classes":
            assert labels is not None
            return {"class_labels": labels}
        if self.conditioned_on == "text":
            texts = self.texts
            rows = torch.zeros(count, dtype=torch.long, device=self.device)
            return {"encoder_hidden_states": texts[rows if len(texts) == 1 or labels is None else labels]}
        return {}

    @property
    def texts(self) -> Tensor:
        """Encoded prompts ``[prompts, tokens, features]``, from the pipeline's own ``encode_prompt``.

        Raises:
            JobError: the pipeline cannot be loaded, or has no such method.
        """
        if self._texts is None:
            import diffusers

            tell_of_code(self.folder, self.trust_remote_code)
            try:
                loader: Any = diffusers.DiffusionPipeline
                pipeline = loader.from_pretrained(
                    self.folder,
                    local_files_only=True,
                    trust_remote_code=self.trust_remote_code,
                    variant=variant_of(self.folder),
                )
                check_parts(pipeline, self.folder)
            except JobError:
                raise
            except (OSError, ValueError, ImportError, AttributeError, RuntimeError) as error:
                raise JobError(
                    f"The teacher's pipeline cannot be loaded to encode the prompts "
                    f"({' '.join(str(error).split())[:200]}): its text encoder needs what it was saved with."
                ) from error
            encode = getattr(pipeline, "encode_prompt", None)
            if encode is None:
                raise JobError(
                    f"The pipeline {self.index.get('_class_name')!r} has no encode_prompt to read prompts with."
                )
            with torch.no_grad():
                made = encode(
                    list(self.prompts), device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
                )
            self._texts = (made[0] if isinstance(made, tuple) else made).float().to(self.device)
        return self._texts

    def predict(self, network: nn.Module, noised: Tensor, times: Tensor, condition: dict[str, Tensor]) -> Tensor:
        """A network's prediction; channels beyond those of x_0 (a learned variance) are left out."""
        prediction: Tensor = network(noised, times, **condition).sample
        return prediction[:, : noised.shape[1]]


@dataclass(frozen=True)
class Noised:
    """One batch: x_0, eps, x_t, timesteps, the factors a and s, the condition, and the teacher's prediction where it is
    known already, all on one device.
    """

    clean: Tensor
    noise: Tensor
    noised: Tensor
    times: Tensor
    a: Tensor
    s: Tensor
    condition: dict[str, Tensor]
    answer: Tensor | None = None

    def part(self, start: int, stop: int) -> Noised:
        """The images from ``start`` to before ``stop``."""
        rows = slice(start, stop)
        condition = {name: value[rows] for name, value in self.condition.items()}
        drawn = self.clean[rows], self.noise[rows], self.noised[rows]
        answer = None if self.answer is None else self.answer[rows]
        return Noised(*drawn, self.times[rows], self.a[rows], self.s[rows], condition, answer)


class NoisedImages:
    """Batches of noised images: from one seed, on the CPU's generator, so alike for every student and device.

    Timesteps are stratified: one in each of the batch's equal slices of [0, T), in random order.
    Kingma et al., "Variational Diffusion Models" (2021), appendix I.1.

    Args:
        teacher: noise schedule and conditioning.
        clean: x_0 of all training images, on the device.
        labels: int64 ``[images]``, on the device; ``None`` where the data has none.
        seed: of order, timesteps and noise.
    """

    def __init__(self, teacher: TeacherPipeline, clean: Tensor, labels: Tensor | None, seed: int) -> None:
        self.teacher, self.clean, self.labels = teacher, clean, labels
        self.generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64)
        self._signal = teacher.alpha_bar.sqrt().float().to(clean.device)
        self._noise = (1.0 - teacher.alpha_bar).sqrt().float().to(clean.device)

    def draw(self, count: int) -> Noised:
        """Draw the next batch."""
        return self.noised(*self.drawn(count))

    def drawn(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, timesteps and noise of the next batch, on the CPU."""
        while len(self._order) < count:
            self._order = torch.cat([self._order, torch.randperm(len(self.clean), generator=self.generator)])
        chosen, self._order = self._order[:count], self._order[count:]
        steps = len(self._signal)
        slices = torch.randperm(count, generator=self.generator)
        times = ((slices + torch.rand(count, generator=self.generator)) * (steps / count)).long().clamp_(max=steps - 1)
        return chosen, times, torch.randn(count, *self.clean.shape[1:], generator=self.generator)

    def noised(self, chosen: Tensor, times: Tensor, noise: Tensor, answer: Tensor | None = None) -> Noised:
        """The batch of these images, timesteps and noise, with what the teacher predicts where that is known."""
        device = self.clean.device
        chosen, times, noise = chosen.to(device), times.to(device), noise.to(device)
        clean = self.clean[chosen]
        a, s = self._signal[times].view(-1, 1, 1, 1), self._noise[times].view(-1, 1, 1, 1)
        condition = self.teacher.condition(None if self.labels is None else self.labels[chosen], len(chosen))
        answer = None if answer is None else answer.to(device)
        return Noised(clean, noise, a * clean + s * noise, times, a, s, condition, answer)


def weights_hash(folder: Path) -> str:
    """Sixteen hexadecimal digits of the weights and configuration of a teacher's UNet."""
    digest = hashlib.sha256()
    for file in sorted((folder / "unet").glob("*")):
        if file.suffix in (".json", ".safetensors", ".bin"):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
