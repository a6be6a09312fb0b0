"""What goes into and comes out of each block of a running network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Call", "block_loss", "outputs_of", "record"]


@dataclass(frozen=True)
class Call:
    """One block's arguments, and its outputs: the features, and on the way down the skips."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.outputs[0])

    def rows(self, index: Tensor) -> Call:
        """The same for some of the images."""

        def take(value: Any) -> Any:
            if isinstance(value, Tensor) and value.ndim and len(value) == len(self):
                return value[index]
            if isinstance(value, tuple | list):
                return type(value)(take(item) for item in value)
            return value

        kwargs = {name: take(value) for name, value in self.kwargs.items()}
        return Call(take(self.args), kwargs, tuple(take(output) for output in self.outputs))

    def run(self, block: Callable[..., Any]) -> tuple[Tensor, ...]:
        """Outputs of another block for the same inputs."""
        return outputs_of(block(*self.args, **self.kwargs))

    def variances(self) -> tuple[Tensor, ...]:
        """Variance of each output over images and positions: what a loss is measured in."""
        return tuple(output.float().var().clamp(min=1e-12) for output in self.outputs)


class _Enough(Exception):  # a signal, not an error
    """The last block that is wanted has run."""


def outputs_of(output: Any) -> tuple[Tensor, ...]:
    """All tensors of a block's output, each once: the features that a level passes on are its last skip, too."""
    found: list[Tensor] = []

    def walk(value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            for item in value:
                yield from walk(item)

    for tensor in walk(output):
        if not any(tensor is other for other in found):
            found.append(tensor)
    return tuple(found)


def record(
    network: nn.Module, blocks: Mapping[str, str], run: Callable[[], Any], *, last: str | None = None
) -> dict[str, Call]:
    """Run a network and return the calls of some of its blocks.

    Args:
        network: a teacher, whose frozen weights leave no gradients behind, or a student that is to learn from them.
        blocks: name to the module's name.
        run: runs the network once.
        last: stop the forward pass once this block has run.
    """
    calls: dict[str, Call] = {}

    def hook(name: str) -> Callable[..., None]:
        def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            calls[name] = Call(args, kwargs, outputs_of(output))
            if name == last:
                raise _Enough

        return see

    handles = [
        network.get_submodule(path).register_forward_hook(hook(name), with_kwargs=True) for name, path in blocks.items()
    ]
    try:
        run()
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return calls


def block_loss(
    outputs: tuple[Tensor, ...], call: Call, variances: tuple[Tensor, ...], within: float = math.inf
) -> Tensor:
    """Mean over the outputs of MSE to the teacher's, each divided by the variance of the teacher's output.

    1 is the error of a block that always says the mean, so that losses of different blocks compare.

    Args:
        outputs: of the block that is compared.
        call: the teacher's.
        variances: of the teacher's outputs, see `Call.variances`.
        within: activations of the teacher beyond so many of its deviations are left out.
    """
    errors = []
    for output, wanted, variance in zip(outputs, call.outputs, variances, strict=True):
        error = (output.float() - wanted.float()).square() / variance
        if within < math.inf:
            error = error * (wanted.float().square() <= within**2 * variance)
        errors.append(error.mean())
    return torch.stack(errors).mean()
