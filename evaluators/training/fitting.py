"""Do a network, the images and a recipe fit each other? Found out by one forward pass, before anything trains."""

from __future__ import annotations

import torch
from torch import nn

from nni_diffnas.api.errors import JobError

from .denoising import call_network
from .recipe import Recipe

__all__ = ["check_network"]


def check_network(model: nn.Module, shape: tuple[int, int, int], recipe: Recipe, last_class: int = -1) -> None:
    """Refuse a network that does not answer images of ``shape`` with a prediction of the channels that are trained.

    Args:
        model: on any device, ``meta`` included.
        shape: channels, height and width of the images.
        recipe: says whether the network takes labels and whether it learns variances.
        last_class: highest class number of the data; -1 without labels.

    Raises:
        JobError: it is configured for another size or for fewer classes, cannot be called as training calls it, or its
            output has another shape.
    """
    known = getattr(model, "num_classes", None) or getattr(getattr(model, "config", None), "num_class_embeds", None)
    if recipe.class_conditional and known is not None and last_class >= int(known):
        raise JobError(
            f"The network knows classes 0 to {int(known) - 1}, the data has labels up to {last_class}: give the space "
            f"more classes, or set data.class_numbers to in_turn, which numbers those that occur from 0."
        )
    size = getattr(getattr(model, "config", model), "sample_size", None)
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and tuple(sides) != shape[1:]:
        raise JobError(
            f"The network is made for images of {sides[0]} x {sides[1]} pixels and the data has {shape[1]} x {shape[2]}"
            f": set sample_size in space, or size in data, so that costs are those of what is trained."
        )
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    pair = torch.zeros(2, *shape, device=device)
    times = torch.zeros(2, dtype=torch.int64, device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            output = call_network(model, pair, times, times if recipe.class_conditional else None)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        called = "images, timesteps and class labels" if recipe.class_conditional else "images and timesteps"
        raise JobError(
            f"The network cannot be trained on {called} of {shape[0]} x {shape[1]} x {shape[2]} pixels: "
            f"{str(error).splitlines()[0].rstrip('.:')}. Make space, data and evaluator.training.class_conditional fit."
        ) from error
    finally:
        model.train(was_training)
    channels = shape[0] * (2 if recipe.learned_sigma else 1)
    if tuple(output.shape) == (2, channels, *shape[1:]):
        return
    if tuple(output.shape) == (2, 2 * shape[0], *shape[1:]):
        raise JobError(
            f"The network also predicts variances ({output.shape[1]} output channels for {shape[0]}), which "
            f"evaluator.training.recipe {recipe.recipe!r} does not train: set learned_sigma: false in space, or "
            f"learned_sigma: true in evaluator.training."
        )
    if recipe.learned_sigma and tuple(output.shape) == (2, *shape):
        raise JobError(
            f"evaluator.training.recipe {recipe.recipe!r} learns variances, for which the network has no output "
            f"channels: set learned_sigma: true in space, or learned_sigma: false in evaluator.training."
        )
    raise JobError(
        f"The network answers images of {shape} with {tuple(output.shape[1:])}: give a network whose output has "
        f"{channels} channels and the images' size."
    )
