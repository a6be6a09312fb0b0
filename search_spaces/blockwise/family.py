"""`BlockwiseUNetFamily`: students of the UNet in a diffusers pipeline folder, searched block by block."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nni_diffnas.api.blocks import Block, BlockFamily, Layer
from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.space import Architecture, Condition, Space, Value
from nni_diffnas.results.export import WEIGHTS_NAME

from .layers import KINDS, RESAMPLE, Offered, SearchedLayer, factors_of, searched
from .teacher import AttentionLayer, ResidualLayer, TeacherUNet

if TYPE_CHECKING:
    import torch

    from .student import Change

__all__ = ["BlockwiseUNetFamily"]

CODE_FILE = "diffnas_student"


class BlockwiseUNetFamily(BlockFamily):
    """Students of a teacher: per residual block the kernels of both convolutions and the width between them.

    Labels, in forward order of the network: ``BLOCK.resI.kernel1``, ``.kernel2``, ``.width``, and where asked for
    ``BLOCK.resI.drop`` and ``.kind``, ``BLOCK.attnI.drop`` and ``BLOCK.sampler.resample``, where BLOCK is ``down0``,
    ..., ``middle``, ``up0``, ... and I counts from 0 as in diffusers. A width is a factor of the teacher's; the
    channels are rounded to a multiple of the normalisation's groups, and factors that round to the same channels are
    one choice. Shortcuts, time embedding, stem and head stay the teacher's, and so does all that is not asked for. The
    teacher's own architecture is the default.

    Args:
        teacher: folder of a pipeline with a ``UNet2DModel`` or ``UNet2DConditionModel``.
        kernels: odd sizes to choose from; 3, the teacher's, among them.
        widths: factors to choose from; 1.0, the teacher's, among them.
        kinds: of blocks in a residual block's place: ``residual``, the teacher's, and ``convnext``, a depthwise
            convolution of ``kernel1`` and two 1x1 convolutions with four times the channels of ``width`` between them.
            Offered where the teacher's block has a time embedding and divides its output by nothing.
        resample: what leads from level to level: ``convolution``, the teacher's 3x3, and ``pool``, the mean of 2x2
            pixels or their repetition with a 1x1 convolution.
        drop_residual: whether residual branches may be left out (their shortcut stays).
        drop_attention: whether attention layers may be left out.
        latency: measure the layers on this machine, once, so that budgets may bound ``latency_ms``.

    Raises:
        SpaceError: no pipeline, no fitting UNet in it, missing weights, options that no student can have.
    """

    def __init__(
        self,
        teacher: str | Path,
        kernels: Sequence[int] = (1, 3, 5),
        widths: Sequence[float] = (0.5, 0.8, 1.0, 1.2),
        kinds: Sequence[str] = ("residual",),
        resample: Sequence[str] = ("convolution",),
        drop_residual: bool = False,
        drop_attention: bool = False,
        latency: bool = False,
    ) -> None:
        self.kernels = _listed("kernels", kernels, 3)
        self.widths = _listed("widths", widths, 1.0)
        if any(not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0 for kernel in self.kernels):
            raise SpaceError(f"The space's kernels are {list(kernels)}: give odd sizes, 3 among them.")
        if any(width <= 0 for width in self.widths):
            raise SpaceError(f"The space's widths are {list(widths)}: give positive factors, 1.0 among them.")
        self.offered = Offered(
            self.kernels,
            self.widths,
            _named("kinds", kinds, KINDS),
            _named("resample", resample, RESAMPLE),
            bool(drop_residual),
            bool(drop_attention),
        )
        self.latency = bool(latency)
        self.unet = TeacherUNet(Path(teacher))

    @property
    def folder(self) -> Path:
        """The teacher's pipeline folder."""
        return self.unet.folder

    @property
    def pipeline(self) -> Path:
        """The teacher's pipeline: an exported student takes the UNet's place in it."""
        return self.folder

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network denoises: pixels or latents."""
        return self.unet.sample_shape

    @cached_property
    def _searched(self) -> dict[str, tuple[SearchedLayer, ...]]:
        """Searched layers of each block."""
        listed = [layer for block in self.unet.measured[1] for layer in block.layers]
        residuals = [layer for layer in listed if isinstance(layer, ResidualLayer)]
        if not residuals:
            raise SpaceError(f"The UNet of {str(self.folder)!r} has no plain residual blocks: nothing can be searched.")
        if len(self.widths) > 1 and all(len(factors_of(residual, self.widths)) == 1 for residual in residuals):
            widest = max(residuals, key=lambda residual: residual.inner)
            offered = ", ".join(f"{widest.inner * factor:g}" for factor in self.widths)
            raise SpaceError(
                f"The teacher's normalisation has {widest.groups} groups, which divide none of the offered widths "
                f"({offered} of {widest.inner} channels): set widths: [1.0], or offer factors further apart."
            )
        found = {}
        for block in self.unet.measured[1]:
            layers = [searched(block.name, layer, self.offered) for layer in block.layers]
            found[block.name] = tuple(layer for layer in layers if layer is not None)
        return found

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The searched blocks in forward order."""
        found = []
        for block in self.unet.measured[1]:
            layers = tuple(entry.layer for entry in self._searched[block.name])
            searched = [layer.costs[layer.teacher] for layer in layers]
            macs = block.cost.macs - sum(cost.macs for cost in searched)
            found.append(Block(block.name, layers, Cost(macs, block.cost.params - sum(c.params for c in searched))))
        plain = tuple(block for block in found if block.layers)
        if not self.latency:
            return plain
        from .block_latency import timed_blocks

        return timed_blocks(self, plain)

    @cached_property
    def fixed(self) -> Cost:
        """Stem, time embedding, head, and blocks without a choice."""
        total, blocks = self.unet.measured
        searched = {block.name for block in self.blocks}
        inside = [block.cost for block in blocks if block.name in searched]
        cost = Cost(total.macs - sum(c.macs for c in inside), total.params - sum(c.params for c in inside))
        if not self.latency:
            return cost
        from .block_latency import timed_rest

        return timed_rest(self, cost)

    @cached_property
    def space(self) -> Space:
        """The choices; data flows along the network, and from each way down past the deeper levels to its way up."""
        choices: dict[str, tuple[Value, ...]] = {}
        conditions: dict[str, tuple[Condition, ...]] = {}
        edges: list[tuple[str, str]] = []
        ends: dict[str, tuple[str, str]] = {}
        for block in self.blocks:
            before = len(choices)
            for layer in block.layers:
                for label in layer.labels:
                    values = [option[label] for option in layer.options if label in option]
                    choices[label] = tuple(dict.fromkeys(values))
                    conditions[label] = _condition(label, layer)
            labels = list(choices)
            ends[block.name] = (labels[before], labels[-1])
        labels = list(choices)
        edges = list(itertools.pairwise(labels))
        levels = sum(name.startswith("down") for name in ends)
        for level in range(levels):
            down, up = f"down{level}", f"up{levels - 1 - level}"
            if down in ends and up in ends and (ends[down][1], ends[up][0]) not in edges:
                edges.append((ends[down][1], ends[up][0]))
        return Space(choices, tuple(edges), conditions)

    @cached_property
    def default(self) -> Architecture:
        """The teacher's own architecture."""
        return self.assemble(block.teacher for block in self.blocks)

    def changes(self, architecture: Mapping[str, Value]) -> dict[str, Change]:
        """What a student does differently, see `student`; empty for the teacher's architecture.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        chosen = self.space.validate(architecture)
        paths = {block.name: block.path(chosen) for block in self.blocks}
        return {
            f"{self.block_path(name)}.{entry.name}": entry.changes[option]
            for name, path in paths.items()
            for entry, option in zip(self._searched[name], path, strict=True)
            if option != entry.layer.teacher
        }

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the student, weights fresh.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        changes = self.changes(architecture)
        from . import student

        network: torch.nn.Module = getattr(student, f"Blockwise{self.unet.class_name}")(changes, **self.unet.config)
        return network

    def teacher(self) -> torch.nn.Module:
        """The teacher's network with its weights."""
        return self.unet.load()

    def block_path(self, block: str) -> str:
        """Name of the block's module."""
        return next(found.path for found in self.unet.measured[1] if found.name == block)

    def supernet(self, block: str, teacher: torch.nn.Module) -> torch.nn.Module:
        """All paths of a block; searched layers start fresh, the rest starts as the teacher's."""
        from .supernet import BlockSupernet

        found = next(entry for entry in self.unet.measured[1] if entry.name == block)
        entries = [(entry.name, entry.changes) for entry in self._searched[block]]
        named = {name for name, _ in entries}
        fixed = [layer.name for layer in found.layers if isinstance(layer, AttentionLayer) and layer.name not in named]
        return BlockSupernet(teacher.get_submodule(found.path), entries, fixed)

    def save_diffusers(
        self, architecture: Mapping[str, Value], state: Mapping[str, torch.Tensor], folder: Path
    ) -> tuple[str, str]:
        """Write the student with its own code beside it; the teacher's architecture stays a stock network.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        import diffusers
        from safetensors.torch import save_file

        from ..unet import modules
        from ..unet.one_file import joined_source

        changes = self.changes(architecture)
        entry = (CODE_FILE, f"Blockwise{self.unet.class_name}") if changes else ("diffusers", self.unet.class_name)
        body = {"_class_name": entry[1], "_diffusers_version": diffusers.__version__, **self.unet.config}
        if changes:
            body["changes"] = changes
            source = joined_source([Path(modules.__file__), Path(__file__).with_name("student.py")])
            (folder / f"{CODE_FILE}.py").write_text(source, encoding="utf-8")
        (folder / "config.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        save_file(
            {name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS_NAME, {"format": "pt"}
        )
        return entry

    def describe(self, label: str) -> str:
        """One line on what the label means.

        Raises:
            SpaceError: an unknown label.
        """
        if label not in self.space.choices:
            raise SpaceError(f"Unknown label {label!r}: the space has {', '.join(self.space.labels)}.")
        block, layer, what = label.split(".")
        if layer == "sampler":
            return f"{_MEANINGS[what]} {block}"
        part = "attention layer" if layer.startswith("attn") else "residual block"
        return f"{_MEANINGS[what]} of {part} {layer.lstrip('resatn')} in {block}"


_MEANINGS = {
    "kernel1": "kernel size of the first convolution",
    "kernel2": "kernel size of the second convolution",
    "width": "channels between the convolutions, as a factor of the teacher's,",
    "drop": "leaving out",
    "kind": "what stands in the place",
    "resample": "what leads to the level behind",
}


def _condition(label: str, layer: Layer) -> tuple[Condition, ...]:
    """What the layer's kind, or else its being there, has to be for this label to count."""
    prefix, _, what = label.rpartition(".")
    for other in (f"{prefix}.kind", f"{prefix}.drop")[what == "kind" :]:
        if other in layer.labels and other != label:
            every = {option[other] for option in layer.options if other in option}
            values = {option.get(other): None for option in layer.options if label in option}
            if set(values) < every:
                return ((other, tuple(option for option in values if option is not None)),)
    return ()


def _listed(name: str, values: Sequence[Any], own: Any) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or own not in values:
        raise SpaceError(f"The space's {name} are {values!r}: give a list with {own}, the teacher's own, in it.")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise SpaceError(f"The space's {name} are {values!r}: give numbers.")
    return tuple(dict.fromkeys(type(own)(v) if type(own) is float else v for v in values))


def _named(name: str, values: Sequence[str], known: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence) or known[0] not in values:
        raise SpaceError(f"The space's {name} are {values!r}: give a list with {known[0]!r}, the teacher's own, in it.")
    for value in values:
        if value not in known:
            raise SpaceError(f"The space's {name} have {value!r}: {' and '.join(known)} are known.")
    return tuple(dict.fromkeys(values))
