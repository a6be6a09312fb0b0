"""Which weights of its teacher a student starts with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

__all__ = ["ends_of", "fill_matching"]


def fill_matching(model: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Copy every weight whose name and shape the model has too; return how many numbers were copied."""
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    model.load_state_dict(fitting, strict=False)
    return sum(value.numel() for value in fitting.values())


def ends_of(state: Mapping[str, Tensor], blocks: Sequence[str]) -> dict[str, Tensor]:
    """The weights outside the blocks: stem, time embedding, head."""
    inside = tuple(f"{block}." for block in blocks)
    return {name: value for name, value in state.items() if not name.startswith(inside)}
