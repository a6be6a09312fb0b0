"""How much each inner channel of a teacher's residual blocks matters to its loss, to first order.

The importance of channel c is the sum of |w dL/dw| over the weights w that come in, scale and go out of it, with L the
teacher's own loss over all timesteps: what L would change by if they were zero. Fang et al., "Structural Pruning for
Diffusion Models" (2023), equation 7, without its choice of timesteps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nni_diffnas.cache import cached_folder, fingerprint

from ..training.compute import autocast, in_batches
from .teacher_pipeline import NoisedImages, weights_hash

__all__ = ["IMAGES", "INNER", "kept_importance", "taylor_importance"]

INNER = ("conv1.weight", "conv1.bias", "norm2.weight", "norm2.bias", "conv2.weight")
"""Weights of a residual block that belong to its inner channels; the last has them second."""

IMAGES, BATCH = 512, 32


def kept_importance(images: NoisedImages, seed: int, about: Sequence[object]) -> dict[str, Tensor]:
    """`taylor_importance`, computed once on this machine, with noise of its own.

    Args:
        images: what it is computed on; nothing is drawn from them.
        seed: of the noise.
        about: what tells these images and their conditions from others.
    """
    from safetensors.torch import load_file, save_file

    teacher = images.teacher

    def make(folder: Path) -> None:
        own = NoisedImages(teacher, images.clean, images.labels, seed)
        found = {name: value.cpu() for name, value in taylor_importance(own).items()}
        save_file(found, folder / "importance.safetensors")

    key = fingerprint(weights_hash(teacher.family.folder), seed, *about)
    return load_file(cached_folder(f"blockwise/importance-{key}", make) / "importance.safetensors")


def taylor_importance(images: NoisedImages) -> dict[str, Tensor]:
    """Importance of the inner channels, by the residual block's name with a dot at its end.

    It takes as much as training the teacher on `IMAGES` images.

    Args:
        images: noised images, with their teacher on its device.
    """
    teacher, drawn = images.teacher, images.draw(IMAGES)

    def learn(start: int, stop: int) -> Tensor:
        """Add the gradients of these images; return their errors."""
        part = drawn.part(start, stop)
        target = teacher.parameterisation.target(part.clean, part.noise, part.a, part.s)
        with autocast(teacher.device):
            prediction = teacher.predict(network, part.noised, part.times, part.condition)
        errors = (prediction.float() - target).square().mean(dim=(1, 2, 3))
        errors.sum().backward()
        return errors.detach()

    network = teacher.network.requires_grad_(True)
    try:
        for _ in in_batches(IMAGES, BATCH, learn):
            pass
        change = {n: (p * p.grad).detach().abs() for n, p in network.named_parameters() if p.grad is not None}
    finally:
        for parameter in network.requires_grad_(False).parameters():
            parameter.grad = None
    found: dict[str, Tensor] = {}
    for name in change:
        prefix = name.removesuffix(INNER[-1])
        if prefix != name and prefix + INNER[0] in change:
            into, out = (change[prefix + part] for part in INNER[:-1]), change[name].transpose(0, 1)
            found[prefix] = torch.stack([part.reshape(len(part), -1).sum(1) for part in (*into, out)]).sum(0)
    return found
