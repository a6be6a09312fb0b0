"""`UNetFamily`: UNets that differ in width, depth, kind of block, skips, resampling, attention, and more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nni_diffnas.api.cost import Budget, Cost
from nni_diffnas.api.errors import SpaceError
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value
from nni_diffnas.process.lazy import absent, listing_deferred
from nni_diffnas.results.export import WEIGHTS_NAME

from .by_hand import by_hand
from .choices import describe_label, space_of
from .many import prices_of
from .one_file import one_file_source
from .options import UNetOptions, read_options
from .plan import Plan, UNetConfig, plan_of
from .presets import STOCK
from .pricing import PlannedLayer
from .recommended import recommended
from .stock import stock_config
from .suiting import options_for

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["UNetFamily"]


class UNetFamily(Family):
    """Denoising UNets for square images: diffusers' own, and others that may be better at the same cost.

    The labels, in forward order: ``time_embedding``; ``patch``, ``resample``, ``skips``, ``up_depth``, which shape the
    network as a whole; for each level ``levelI.width``, ``levelI.depth``, ``levelI.block``, ``levelI.kernel`` (where
    the block has one to choose), ``levelI.attention``, shared by the way down and the way up; ``inner_width`` and
    ``expansion``, which the blocks read that have an inside; ``middle``; and ``heads``, present where anything attends.
    `UNetConfig`, `Resampling`, `GatedBlock`, `ConvNeXtBlock` and `EfficientAttention` give equations and sources.

    The default of preset ``cifar10`` is the IDDPM network (Nichol & Dhariwal 2021): 52,546,438 parameters and
    8,386,707,456 MACs. Those of ``digits`` (272,305 and 5,817,344), ``pixels16`` (460,819 and 25,435,136) and ``mnist``
    (1,742,881 and 277,317,376) are small networks of the same kind. ``pixels64`` has the shape of ADM for ImageNet-64
    (Dhariwal & Nichol 2021), ``latents`` that of Stable Diffusion's UNet (Rombach et al. 2022) without its text.
    (``tests/search_spaces/unet/test_family.py`` counts them.)

    Args:
        preset: ``digits`` (8x8x1), ``pixels8`` (8x8x3), ``pixels16`` (16x16x3), ``mnist`` (28x28x1), ``cifar10``
            (32x32x3), ``pixels64`` (64x64x3) or ``latents`` (32x32x4).
        options: overrides of the preset, see `UNetOptions`.

    Raises:
        SpaceError: an unknown preset or option, or a value that no UNet can have.
    """

    options_for = staticmethod(options_for)

    def __init__(self, preset: str = "cifar10", **options: Any) -> None:
        self.options: UNetOptions = read_options(preset, options)

    @cached_property
    def space(self) -> Space:
        """The choices, their data flow and conditions."""
        return space_of(self.options)

    @cached_property
    def default(self) -> Architecture:
        """Widths of the multipliers, even depth, inner width 1, time embedding of four base widths, full middle; stock.

        Where a job's choices leave this out, the nearest choice takes its place.
        """
        o = self.options
        wanted: dict[str, Value] = {
            **self.space.stock,
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
            inner_width=float(chosen.get("inner_width", 1.0)),
            inner_multiple=o.width_multiple,
            time_embedding_dim=chosen["time_embedding"],
            num_classes=o.num_classes,
            norm_groups=o.norm_groups,
            scale_shift=o.scale_shift,
            dropout=float(o.dropout),
            blocks=tuple(chosen.get(f"level{level}.block", STOCK["blocks"]) for level in levels),
            kernels=tuple(chosen.get(f"level{level}.kernel", STOCK["kernels"]) for level in levels),
            expansion=chosen.get("expansion", STOCK["expansion"]),
            resample=chosen.get("resample", STOCK["resample"]),
            skips=chosen.get("skips", STOCK["skips"]),
            up_depth=chosen.get("up_depth", STOCK["up_depth"]),
            patch=chosen.get("patch", STOCK["patch"]),
        )

    def plan(self, architecture: Mapping[str, Value]) -> Plan:
        """All layers of a network with their sizes.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        return plan_of(self.config(architecture))

    def parts(self, architecture: Mapping[str, Value]) -> tuple[PlannedLayer, ...]:
        """All layers of a network, for a latency table.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        return tuple(self.plan(architecture).layers)

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """MACs and parameters, computed from the plan: nothing is built."""
        macs, params = self.plan(architecture).price
        return Cost(macs, params)

    def costs(self, space: Space, rows: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]]:
        """MACs and parameters of many networks at once: a thousandth of a second for a hundred."""
        macs, params = prices_of(self.options, space, rows)
        return {"macs": macs, "params": params}

    def promise(self, architecture: Mapping[str, Value]) -> float:
        """Numbers that the levels carry from layer to layer: the sum of width times pixels.

        Of 139 random networks on images of 16x16 pixels those that carried more were better: rank correlation with the
        held-out loss -0.78, and -0.72 at equal MACs (docs/studies/2026-11-pays.md). Parameters at equal MACs: +0.35.
        """
        config = self.config(architecture)
        return float(sum(width * config.side(level) ** 2 for level, width in enumerate(config.widths)))

    def scaled(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """The default uniformly narrower, shallower, thinner inside, or wider and deeper: see `by_hand.by_hand`."""
        return by_hand(within or self, budget)

    def recommended(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """The kinds of network that did best at equal MACs, scaled to the budget: see `recommended.recommended`."""
        return recommended(within or self, budget)

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the network (`network.UNet`): ``forward(sample, timestep, class_labels=None)`` returns a tensor.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        config = self.config(architecture)
        # diffusers asks for torch._dynamo only to mark classes for the compiler, and goes without where it is absent.
        with absent("torch._dynamo"), listing_deferred():
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
        return describe_label(self.options, label)


def _nearest(values: tuple[Value, ...], wanted: Value) -> Value:
    """``wanted`` where it is offered, else the nearest number, else the last value: the fullest, by custom."""
    if isinstance(wanted, str | bool):
        return wanted if wanted in values else values[-1]
    return min((value for value in values if not isinstance(value, str)), key=lambda value: abs(value - wanted))
