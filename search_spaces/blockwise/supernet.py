"""The supernet of one block: independent kernels and kinds, sliced widths, a normalisation for each width."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from .elastic_convnext import ElasticConvNeXt, prefixed
from .student import Change, NoAttention, pooled

__all__ = ["BlockSupernet", "ElasticAttention", "ElasticResidual", "ElasticSampler"]


class _Remembering(nn.Module):
    """A layer that can keep its output for as long as the path up to it stays the same."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix: tuple[int, ...] = ()
        self.remembers = False
        self._kept: tuple[tuple[int, ...], Any] | None = None

    def forget(self) -> None:
        self._kept = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.remembers:
            return self.compute(*args, **kwargs)
        if self._kept is None or self._kept[0] != self.prefix:
            self._kept = (self.prefix, self.compute(*args, **kwargs))
        return self._kept[1]

    def take(self, option: int) -> None:
        raise NotImplementedError

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def option_state(self, option: int) -> dict[str, Tensor]:
        raise NotImplementedError


class ElasticResidual(_Remembering):
    """All that a residual block may become.

    Kernels have weights of their own; a smaller width uses the first channels of the widest; each width has its own
    normalisation, since the statistics differ. Other kinds have weights of their own, but for the shortcut.
    """

    def __init__(self, residual: Any, changes: Sequence[Change]) -> None:
        super().__init__()
        kinds = [change for change in changes if change is not None and change[0] == "convnext"]
        present = [[int(size) for size in c] for c in changes if c is not None and c[0] != "convnext"]
        widest, inputs, outputs = max(s[0] for s in present), residual.in_channels, residual.conv2.out_channels
        self.changes = list(changes)
        self.change = self.changes[0]
        self.norm1 = copy.deepcopy(residual.norm1)
        self.conv_shortcut = copy.deepcopy(residual.conv_shortcut)
        self.nonlinearity, self.dropout = residual.nonlinearity, copy.deepcopy(residual.dropout)
        self.scale_shift = residual.time_embedding_norm == "scale_shift"
        self.skip_time_act, self.output_scale_factor = residual.skip_time_act, residual.output_scale_factor
        self.first = nn.ModuleDict(
            {str(k): nn.Conv2d(inputs, widest, k, padding=k // 2) for k in sorted({s[1] for s in present})}
        )
        self.second = nn.ModuleDict(
            {str(k): nn.Conv2d(widest, outputs, k, padding=k // 2) for k in sorted({s[2] for s in present})}
        )
        norm = residual.norm2
        self.norms = nn.ModuleDict(
            {str(w): nn.GroupNorm(norm.num_groups, w, eps=norm.eps) for w in sorted({s[0] for s in present})}
        )
        self.chunks = 0 if residual.time_emb_proj is None else 2 if self.scale_shift else 1
        self.time = nn.Linear(residual.time_emb_proj.in_features, self.chunks * widest) if self.chunks else None
        shapes = [(int(inner), int(kernel)) for _, inner, kernel in kinds]
        self.convnext = ElasticConvNeXt(residual, shapes) if shapes else None

    def take(self, option: int) -> None:
        """Choose by index."""
        self.change = self.changes[option]

    def _convolutions(self, kernel1: int, kernel2: int) -> tuple[nn.Conv2d, nn.Conv2d]:
        first, second = self.first[str(kernel1)], self.second[str(kernel2)]
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        return first, second

    def _time_rows(self, width: int) -> tuple[Tensor, Tensor]:
        assert self.time is not None
        weight = self.time.weight.view(self.chunks, -1, self.time.in_features)[:, :width].flatten(0, 1)
        return weight, self.time.bias.view(self.chunks, -1)[:, :width].flatten()

    def compute(self, hidden_states: Tensor, temb: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        """The formula of diffusers' ``ResnetBlock2D`` in the chosen shape, or what stands in its place."""
        around = hidden_states if self.conv_shortcut is None else self.conv_shortcut(hidden_states)
        if self.change is None:
            scaled: Tensor = around / self.output_scale_factor
            return scaled
        if self.change[0] == "convnext":
            assert self.convnext is not None
            assert temb is not None
            made: Tensor = self.convnext(hidden_states, temb, around, *map(int, self.change[1:]))
            return made
        width, kernel1, kernel2 = map(int, self.change)
        first, second = self._convolutions(kernel1, kernel2)
        features = self.nonlinearity(self.norm1(hidden_states))
        features = functional.conv2d(features, first.weight[:width], _rows(first, width), padding=kernel1 // 2)
        time = None
        if self.time is not None:
            assert temb is not None
            active = temb if self.skip_time_act else self.nonlinearity(temb)
            time = functional.linear(active, *self._time_rows(width))[:, :, None, None]
        norm = self.norms[str(width)]
        if time is not None and self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            features = norm(features) * (1 + scale) + shift
        else:
            features = norm(features if time is None else features + time)
        features = self.dropout(self.nonlinearity(features))
        features = functional.conv2d(features, second.weight[:, :width], second.bias, padding=kernel2 // 2)
        result: Tensor = (around + features) / self.output_scale_factor
        return result

    def option_state(self, option: int) -> dict[str, Tensor]:
        """Weights of one option under the names that they have in a student."""
        change = self.changes[option]
        kept = {} if self.conv_shortcut is None else prefixed("conv_shortcut", self.conv_shortcut)
        if change is None:
            return kept
        if change[0] == "convnext":
            assert self.convnext is not None
            return kept | self.convnext.state_of(*map(int, change[1:]))
        width, kernel1, kernel2 = map(int, change)
        first, second = self._convolutions(kernel1, kernel2)
        kept |= prefixed("norm1", self.norm1) | prefixed("norm2", self.norms[str(width)])
        kept |= {"conv1.weight": first.weight[:width], "conv1.bias": _rows(first, width)}
        kept |= {"conv2.weight": second.weight[:, :width], "conv2.bias": _rows(second)}
        if self.time is not None:
            kept["time_emb_proj.weight"], kept["time_emb_proj.bias"] = self._time_rows(width)
        return kept


class ElasticAttention(_Remembering):
    """An attention layer that may be left out; option 0 keeps it, option 1 drops it."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = copy.deepcopy(attention)
        self.without = NoAttention(as_tuple=not isinstance(attention, Attention))
        self.dropped = False

    def take(self, option: int) -> None:
        """Choose whether it is left out."""
        self.dropped = option == 1

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Attend, or do not."""
        return self.without(*args, **kwargs) if self.dropped else self.attention(*args, **kwargs)

    def option_state(self, option: int) -> dict[str, Tensor]:
        """The teacher's names."""
        return {} if option == 1 else dict(self.attention.state_dict())


class ElasticSampler(_Remembering):
    """What leads to another level, by a 3x3 convolution or without."""

    def __init__(self, sampler: Any, changes: Sequence[Change]) -> None:
        super().__init__()
        self.kinds = [str(change[0]) for change in changes if change is not None]
        self.convolution, self.pool = copy.deepcopy(sampler), pooled(sampler)
        self.convolution.conv.reset_parameters()
        self.pools = False

    def take(self, option: int) -> None:
        """Choose by index."""
        self.pools = self.kinds[option] == "pool"

    def compute(self, *args: Any, **kwargs: Any) -> Any:
        """Resample."""
        return self.pool(*args, **kwargs) if self.pools else self.convolution(*args, **kwargs)

    def option_state(self, option: int) -> dict[str, Tensor]:
        """The teacher's names."""
        return dict((self.pool if self.kinds[option] == "pool" else self.convolution).state_dict())


def _elastic(layer: nn.Module, changes: Sequence[Change]) -> _Remembering:
    if isinstance(layer, ResnetBlock2D):
        return ElasticResidual(layer, changes)
    if isinstance(layer, Downsample2D | Upsample2D):
        return ElasticSampler(layer, changes)
    return ElasticAttention(layer)


class BlockSupernet(nn.Module):
    """A teacher's block whose searched layers hold all their options; see `nni_diffnas.api.blocks.PathSupernet`.

    Args:
        block: the teacher's; copied, never changed.
        layers: name within the block to what each option changes, see `student`; in forward order.
        fixed_attentions: names of the attention layers that are not searched.
    """

    def __init__(
        self,
        block: nn.Module,
        layers: Sequence[tuple[str, Sequence[Change]]],
        fixed_attentions: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.block = copy.deepcopy(block)
        self.searched: list[tuple[str, _Remembering]] = []
        self._following: list[tuple[int, _Remembering]] = []
        for name, changes in layers:
            elastic = _elastic(self.block.get_submodule(name), changes)
            self._replace(name, elastic)
            self.searched.append((name, elastic))
        for name in fixed_attentions:
            # Wrapped only so that a shared prefix covers them: they follow the residual block of the same index.
            elastic = ElasticAttention(self.block.get_submodule(name))
            self._replace(name, elastic)
            before = [i for i, (other, _) in enumerate(self.searched) if _runs_before(other, name, self.block)]
            self._following.append((max(before, default=-1) + 1, elastic))
        self.choose([0] * len(self.searched))

    def _replace(self, name: str, layer: nn.Module) -> None:
        parent, _, child = name.rpartition(".")
        setattr(self.block.get_submodule(parent), child, layer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the chosen path; takes and returns what the teacher's block does."""
        return self.block(*args, **kwargs)

    def choose(self, path: Sequence[int]) -> None:
        """Take a path: one option for each searched layer."""
        self.path = tuple(path)
        for index, (_, layer) in enumerate(self.searched):
            layer.take(path[index])
            layer.prefix = self.path[: index + 1]
        for length, layer in self._following:
            layer.prefix = self.path[:length]

    def remember(self) -> None:
        """Let layers keep their outputs while the path up to them stays the same."""
        for layer in self._all():
            layer.forget()
            layer.remembers = True

    def forget(self) -> None:
        """Keep nothing."""
        for layer in self._all():
            layer.forget()
            layer.remembers = False

    def _all(self) -> list[_Remembering]:
        return [layer for _, layer in self.searched] + [layer for _, layer in self._following]

    @torch.no_grad()
    def path_state(self, path: Sequence[int]) -> dict[str, Tensor]:
        """Weights of one path under the names of the student's block."""
        names = [name for name, module in self.block.named_modules() if isinstance(module, _Remembering)]
        state = {
            name: tensor
            for name, tensor in self.block.state_dict().items()
            if not any(name.startswith(f"{layer}.") for layer in names)
        }
        options = {name: option for (name, _), option in zip(self.searched, path, strict=True)}
        for name in names:
            layer = self.block.get_submodule(name)
            assert isinstance(layer, _Remembering)
            for part, tensor in layer.option_state(options.get(name, 0)).items():
                state[f"{name}.{part}"] = tensor
        return {name: tensor.detach().clone() for name, tensor in state.items()}


def _rows(convolution: nn.Conv2d, count: int | None = None) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias[:count]


def _runs_before(searched: str, attention: str, block: nn.Module) -> bool:
    """Whether a layer runs before an attention layer of the block: in the middle, attention ``i`` follows residual
    ``i`` and precedes ``i + 1``; on the levels it follows residual ``i`` too, and samplers follow all.
    """
    if "samplers" in searched:
        return False
    return int(searched.rpartition(".")[2]) <= int(attention.rpartition(".")[2])
