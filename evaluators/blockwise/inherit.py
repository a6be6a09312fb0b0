"""Which weights of its teacher a student starts with.

Where a layer of the student has another shape, what it can of the teacher's is kept (ours, no paper's): of fewer
inner channels the most important, group by group of the normalisation; of a smaller kernel its centre; a larger one is
padded with zeros, and added channels start without an effect, so that such a layer starts as the teacher's. What
resamples without a 3x3 convolution starts as it on even surfaces. Of a block of another kind, only the shortcut is the
teacher's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .importance import INNER

__all__ = ["ends_of", "fill_fitting"]


def fill_fitting(
    model: nn.Module, state: Mapping[str, Tensor], importance: Mapping[str, Tensor] | None = None
) -> set[str]:
    """Copy every weight that fits, whole or in part; return the names of all that were.

    Args:
        model: the student, with fresh weights.
        state: the teacher's.
        importance: of inner channels, see `taylor_importance`; where it is not given, the product of the norms of
            incoming, scaling and outgoing weights.
    """
    own = model.state_dict()
    others = tuple(
        f"{name.removesuffix('conv2.weight')}time_emb_proj."
        for name in state
        if name.endswith("conv2.weight") and name not in own
    )
    fitting = {
        name: value
        for name, value in state.items()
        if name in own and own[name].shape == value.shape and not name.startswith(others)
    }
    for name in own:
        prefix = name.removesuffix("conv2.weight")
        if prefix != name and name in state and f"{prefix}conv1.weight" in state:
            groups: int = model.get_submodule(f"{prefix}norm2").num_groups  # type: ignore[assignment]
            important = importance[prefix].to(state[name].device) if importance else _strength(prefix, state)
            fitting |= _resized(prefix, own, state, groups, important)
        elif "samplers." in name and name in state and name not in fitting:
            fitting[name] = state[name].sum(dim=(2, 3), keepdim=True)
    model.load_state_dict(fitting, strict=False)
    return set(fitting)


def _resized(
    prefix: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], groups: int, importance: Tensor
) -> dict[str, Tensor]:
    """The teacher's residual block in the student's shape; nothing where they agree."""
    names = (*INNER, "conv2.bias")
    inner, wanted = len(state[f"{prefix}conv1.weight"]), len(own[f"{prefix}conv1.weight"])
    if all(own[prefix + name].shape == state[prefix + name].shape for name in names):
        return {}
    kept = _most_important(importance, groups, min(inner, wanted))
    # Position of each kept channel: the student's groups hold channels of the same groups of the teacher.
    each, per_group = len(kept) // groups, wanted // groups
    places = torch.cat([torch.arange(each) + group * per_group for group in range(groups)])
    made: dict[str, Tensor] = {}
    for name in names[:4]:
        fresh = own[prefix + name].clone()
        value = state[prefix + name][kept]
        fresh[places] = _fitted(value, fresh.shape[2:]) if value.ndim == 4 else value
        made[prefix + name] = fresh
    second = torch.zeros_like(own[f"{prefix}conv2.weight"])
    second[:, places] = _fitted(state[f"{prefix}conv2.weight"][:, kept], second.shape[2:])
    made |= {f"{prefix}conv2.weight": second, f"{prefix}conv2.bias": state[f"{prefix}conv2.bias"]}
    for part in ("weight", "bias"):
        name = f"{prefix}time_emb_proj.{part}"
        if name in state:
            fresh = own[name].clone()
            chunks = len(fresh) // wanted  # two where the time embedding scales and shifts
            for chunk in range(chunks):
                fresh[places + chunk * wanted] = state[name][kept + chunk * inner]
            made[name] = fresh
    return made


def _strength(prefix: str, state: Mapping[str, Tensor]) -> Tensor:
    """Product of the norms of the incoming, scaling and outgoing weights of each inner channel."""
    first, second = state[f"{prefix}conv1.weight"], state[f"{prefix}conv2.weight"]
    strength = first.flatten(1).norm(dim=1) * state[f"{prefix}norm2.weight"].abs()
    product: Tensor = strength * second.transpose(0, 1).flatten(1).norm(dim=1)
    return product


def _most_important(importance: Tensor, groups: int, count: int) -> Tensor:
    """Inner channels that matter most: equally many per group."""
    best = importance.view(groups, -1).topk(count // groups, dim=1).indices.sort(dim=1).values
    starts = torch.arange(groups, device=best.device)[:, None] * (len(importance) // groups)
    chosen: Tensor = (best + starts).flatten()
    return chosen


def _fitted(weight: Tensor, kernel: Sequence[int]) -> Tensor:
    """Convolution weights with a larger kernel (padded) or a smaller one (its centre)."""
    change = (kernel[0] - weight.shape[2]) // 2
    fitted: Tensor = functional.pad(weight, [change] * 4)  # a negative padding crops
    return fitted


def ends_of(state: Mapping[str, Tensor], blocks: Sequence[str]) -> dict[str, Tensor]:
    """The weights outside the blocks: stem, time embedding, head."""
    inside = tuple(f"{block}." for block in blocks)
    return {name: value for name, value in state.items() if not name.startswith(inside)}
