"""`UNetFamily`: UNets that differ in width, depth, attention, heads, middle, inner width and time embedding."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Condition, Space, Value
from nni_diffnas.lazy import absent
from nni_diffnas.results.export import WEIGHTS_NAME

from .one_file import one_file_source
from .options import UNetOptions, read_options
from .plan import Plan, UNetConfig, plan_of
from .pricing import Layer
from .stock import stock_config

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["UNetFamily"]


class UNetFamily(Family):
    """Denoising UNets for square images, built from diffusers' blocks.

    The labels, in forward order: ``time_embedding`` and ``inner_width``, which every residual block feels; for each
    level ``levelI.width``, ``levelI.depth``, ``levelI.attention``, shared by the way down and the way up;
    ``middle``; and ``heads``, present where anything attends.

    The default of preset ``cifar10`` is the IDDPM network (Nichol & Dhariwal 2021): 52,546,438 parameters and
    8,386,707,456 MACs. Those of ``digits`` (272,305 and 5,817,344) and ``mnist`` (1,742,881 and 277,317,376) are small
    networks of the same kind. (``tests/search_spaces/unet/test_family.py`` counts them.)

    Args:
        preset: ``digits`` (8x8x1), ``mnist`` (28x28x1) or ``cifar10`` (32x32x3).
        options: overrides of the preset, see `UNetOptions`.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """

    def __init__(self, preset: str = "cifar10", **options: Any) -> None:
        self.options: UNetOptions = read_options(preset, options)

    @cached_property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """Choices of channels per level, rounded to the multiple and free of repetitions."""
        o = self.options
        return tuple(
            tuple(dict.fromkeys(_multiple(o.base_width * multiplier * factor, o.width_multiple) for factor in factors))
            for multiplier, factors in zip(o.multipliers, o.width_factors, strict=True)
        )

    @cached_property
    def space(self) -> Space:
        """The choices, their data flow and conditions."""
        o = self.options
        time = tuple(dict.fromkeys(_multiple(o.base_width * factor, 1) for factor in o.time_embedding))
        choices: dict[str, tuple[Value, ...]] = {"time_embedding": time, "inner_width": _unique(o.inner_width)}
        edges: list[tuple[str, str]] = [("time_embedding", "inner_width")]
        attends: list[Condition] = []
        for level in range(o.levels):
            width, depth, attention = (f"level{level}.{what}" for what in ("width", "depth", "attention"))
            choices |= {
                width: self.widths[level],
                depth: _unique(o.depths[level]),
                attention: _unique(o.attention[level]),
            }
            edges += [("time_embedding", depth), ("inner_width", depth), (width, depth), (depth, attention)]
            # What leaves a level goes down to the next one, and, as a skip, past all deeper ones.
            edges += [(attention, f"level{level + 1}.width")] if level + 1 < o.levels else []
            edges += [(attention, "middle"), (attention, "heads")]
            if True in choices[attention]:
                attends.append((attention, (True,)))
        choices |= {"middle": _unique(o.middle), "heads": _unique(o.heads)}
        edges += [("time_embedding", "middle"), ("inner_width", "middle"), ("middle", "heads")]
        if "attention" in o.middle:
            attends.append(("middle", ("attention",)))
        if not attends:
            del choices["heads"]
            edges = [edge for edge in edges if "heads" not in edge]
        return Space(choices, tuple(edges), {"heads": tuple(attends)} if attends else {})

    @cached_property
    def default(self) -> Architecture:
        """Widths of the multipliers, even depth, inner width 1, time embedding of four base widths, full middle.

        Where a job's choices leave this out, the nearest choice takes its place.
        """
        o = self.options
        wanted: dict[str, Value] = {
            "time_embedding": 4 * o.base_width,
            "inner_width": 1.0,
            "middle": "attention",
            "heads": o.default_heads,
        }
        for level, multiplier in enumerate(o.multipliers):
            wanted[f"level{level}.width"] = round(o.base_width * multiplier)
            wanted[f"level{level}.depth"] = o.default_depth
            wanted[f"level{level}.attention"] = o.default_attention[level]
        return self.space.validate(
            {label: _nearest(values, wanted[label]) for label, values in self.space.choices.items()}
        )

    def config(self, architecture: Mapping[str, Value]) -> UNetConfig:
        """The flat configuration of a network.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        o = self.options
        chosen: dict[str, Any] = self.space.validate(architecture)
        levels = range(o.levels)
        return UNetConfig(
            sample_size=o.sample_size,
            in_channels=o.in_channels,
            out_channels=o.in_channels * (2 if o.learned_sigma else 1),
            widths=tuple(chosen[f"level{level}.width"] for level in levels),
            depths=tuple(chosen[f"level{level}.depth"] for level in levels),
            attention=tuple(chosen[f"level{level}.attention"] for level in levels),
            middle=chosen["middle"],
            heads=chosen.get("heads", 1),
            inner_width=float(chosen["inner_width"]),
            inner_multiple=o.width_multiple,
            time_embedding_dim=chosen["time_embedding"],
            num_classes=o.num_classes,
            norm_groups=o.norm_groups,
            scale_shift=o.scale_shift,
            dropout=float(o.dropout),
        )

    def plan(self, architecture: Mapping[str, Value]) -> Plan:
        """All layers of a network with their sizes.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        return plan_of(self.config(architecture))

    def parts(self, architecture: Mapping[str, Value]) -> tuple[Layer, ...]:
        """All layers of a network, for a latency table.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        return tuple(self.plan(architecture).layers)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """MACs and parameters, computed from the plan: nothing is built."""
        macs, params = self.plan(architecture).price
        return Cost(macs, params)

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the network (`network.UNet`): ``forward(sample, timestep, class_labels=None)`` returns a tensor.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        config = self.config(architecture)
        # diffusers asks for torch._dynamo only to mark classes for the compiler, and goes without where it is absent.
        with absent("torch._dynamo"):
            from .network import UNet

        return UNet(config)

    def save_diffusers(
        self, architecture: Mapping[str, Value], state: Mapping[str, torch.Tensor], folder: Path
    ) -> tuple[str, str]:
        """Write the network as stock ``UNet2DModel`` where that can express it, else with its own code beside it.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        import diffusers
        from safetensors.torch import save_file

        config = self.config(architecture)
        stock = stock_config(config)
        entry = ("diffusers", "UNet2DModel") if stock is not None else ("diffnas_unet", "DiffNASUNet")
        if stock is None:
            (folder / f"{entry[0]}.py").write_text(one_file_source(), encoding="utf-8")
        body = {"_class_name": entry[1], "_diffusers_version": diffusers.__version__, **(stock or asdict(config))}
        (folder / "config.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        save_file(dict(state), folder / WEIGHTS_NAME, metadata={"format": "pt"})
        return entry

    def describe(self, label: str) -> str:
        """One line on what the label means.

        Raises:
            SpaceError: an unknown label.
        """
        if label not in self.space.choices:
            raise SpaceError(f"Unknown label {label!r}: the space has {', '.join(self.space.labels)}.")
        level, _, what = label.rpartition(".")
        if not level:
            return _MEANINGS[label]
        index = int(level.removeprefix("level"))
        side = self.options.sample_size >> index
        return f"{_MEANINGS[what]} at {side}x{side} pixels, on the way down and up"


_MEANINGS = {
    "time_embedding": "width of the time embedding that every residual block reads",
    "inner_width": "channels between the two convolutions of a residual block, as a factor of the block's width",
    "middle": "block at the smallest resolution: none, two residual blocks, or these with attention between them",
    "heads": "heads of every attention layer, each of width / heads channels",
    "width": "channels",
    "depth": "residual blocks (one more on the way up)",
    "attention": "self-attention after each residual block",
}


def _multiple(width: float, multiple: int) -> int:
    return max(multiple, round(width / multiple) * multiple)


def _unique(values: tuple[Any, ...]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))


def _nearest(values: tuple[Value, ...], wanted: Value) -> Value:
    """``wanted`` where it is offered, else the nearest number, else the last value: the fullest, by custom."""
    if isinstance(wanted, str | bool):
        return wanted if wanted in values else values[-1]
    return min((value for value in values if not isinstance(value, str)), key=lambda value: abs(value - wanted))
