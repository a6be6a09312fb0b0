"""The reference denoiser: the family's default network, trained longer than any trial, once for a data set.

What a candidate predicts less what this network predicts is ``prediction_gap``. Unlike a loss it has no part that no
network can take away, since both see the same noised image. It says how far a candidate is from *this* network, not
from the data: a candidate that is better than the reference is misjudged.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from nni_diffnas.api.errors import TrialFailure
from nni_diffnas.api.family import Family
from nni_diffnas.cache import cached_folder, fingerprint

from ..images.image_set import ImageSet
from ..training.compute import Team, place
from ..training.denoising import train
from ..training.recipe import Recipe

__all__ = ["reference_denoiser"]

# Of its weights and training: no trial of a search is likely to have it.
SEED = 0xDE015E
# Changes whenever the training changes, so that an older cache is not taken for this one.
VERSION = 1
WEIGHTS = "network.safetensors"


def reference_denoiser(
    images: ImageSet,
    recipe: Recipe,
    family: Family,
    device: torch.device,
    data: Callable[[], tuple[Tensor, Tensor | None]],
) -> nn.Module:
    """The default network of ``family``, trained by ``recipe`` on the training images; trained now where it was not.

    Args:
        images: the data.
        recipe: of its training, budget included.
        family: of the network.
        device: to use.
        data: pixels of the training images, uint8 ``[images, channels, height, width]``, and labels, int64
            ``[images]``, for a class-conditional recipe, on that device; called only where the network is trained.

    Raises:
        TrialFailure: it has to be trained, and several processes train together.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = family.build(family.default)

    def make(folder: Path) -> None:
        from safetensors.torch import save_model

        if Team.size() > 1:
            raise TrialFailure(
                "The reference denoiser of prediction_gap is trained by one process: run one trial without "
                "'accelerate launch' first."
            )
        place(network, device)
        with torch.random.fork_rng():
            train(network, *data(), recipe.model_copy(update={"reports": 1}), SEED, lambda progress: None)
        save_model(network.cpu(), str(folder / WEIGHTS))

    shapes = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    built = fingerprint(type(family).__name__, sorted(family.default.items()), repr(network), shapes)
    folder = cached_folder(
        f"denoisers/{fingerprint(VERSION, images.split, recipe.budget, recipe.fingerprint, built)}", make
    )
    from safetensors.torch import load_model

    load_model(network, str(folder / WEIGHTS))
    place(network, device)
    return network.eval()
