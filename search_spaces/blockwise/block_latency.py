"""Latency of blocks and layers, measured once per machine: an estimate that adds up, for budgets."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nni_diffnas.api.blocks import Block
from nni_diffnas.api.cost import Cost
from nni_diffnas.cache import cached_folder, fingerprint
from nni_diffnas.latency import measure_latency

from .teacher import TeacherUNet

if TYPE_CHECKING:
    import torch

__all__ = ["timed_blocks", "timed_rest"]

REPEATS = 15
THREADS = 1


class OfTeacher(Protocol):
    """What is timed: a family of blocks and its teacher."""

    unet: TeacherUNet

    @property
    def blocks(self) -> tuple[Block, ...]:
        """What is searched."""

    def block_path(self, block: str) -> str:
        """Name of the block's module."""

    def supernet(self, block: str, teacher: torch.nn.Module) -> torch.nn.Module:
        """All paths of a block."""


def timed_blocks(family: OfTeacher, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The same blocks with milliseconds on every cost."""
    table = _table(family, blocks)
    return tuple(
        replace(
            block,
            rest=replace(block.rest, latency_ms=table[f"{block.name} rest"][0]),
            layers=tuple(
                replace(
                    layer,
                    costs=tuple(
                        replace(cost, latency_ms=timed)
                        for cost, timed in zip(layer.costs, table[f"{block.name} {index}"], strict=True)
                    ),
                )
                for index, layer in enumerate(block.layers)
            ),
        )
        for block in blocks
    )


def timed_rest(family: OfTeacher, cost: Cost) -> Cost:
    """Cost outside the blocks with its milliseconds."""
    return replace(cost, latency_ms=_table(family, family.blocks)["rest"][0])


def _table(family: OfTeacher, blocks: tuple[Block, ...]) -> dict[str, list[float]]:
    import torch

    described = json.dumps([family.unet.class_name, family.unet.config], sort_keys=True)
    options = [[layer.options for layer in block.layers] for block in blocks]
    key = fingerprint(described, options, platform.node(), torch.__version__, THREADS)

    def make(folder: Path) -> None:
        (folder / "table.json").write_text(json.dumps(_measure(family, blocks)), encoding="utf-8")

    table: dict[str, list[float]] = json.loads((cached_folder(f"latency/{key}", make) / "table.json").read_text())
    return table


def _measure(family: OfTeacher, blocks: tuple[Block, ...]) -> dict[str, list[float]]:
    """Milliseconds of one image, median of `REPEATS`: every option of every layer alone, then what is left."""
    import torch

    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        from . import student

        network = getattr(student, f"Blockwise{family.unet.class_name}")({}, **family.unet.config).eval()
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    names = [f"{family.block_path(block.name)}" for block in blocks]
    supernets: dict[str, Any] = {block.name: family.supernet(block.name, network).eval() for block in blocks}
    layers = [
        f"{path}.{name}" for block, path in zip(blocks, names, strict=True) for name in _searched(supernets, block)
    ]

    def record(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[name] = (args, kwargs)

        return hook

    hooks = [network.get_submodule(n).register_forward_pre_hook(record(n), with_kwargs=True) for n in names + layers]
    inputs, named = family.unet.example("cpu")
    table: dict[str, list[float]] = {}
    with torch.no_grad():
        network(*inputs, **named)
        for hook in hooks:
            hook.remove()
        whole, inside = _median(network, *inputs, **named), 0.0
        for block, path in zip(blocks, names, strict=True):
            args, kwargs = calls[path]
            block_ms = _median(network.get_submodule(path), *args, **kwargs)
            inside += block_ms
            own = 0.0
            for index, (layer, name) in enumerate(zip(block.layers, _searched(supernets, block), strict=True)):
                elastic = supernets[block.name].block.get_submodule(name)
                a, k = calls[f"{path}.{name}"]
                timed = []
                for option in range(len(layer.options)):
                    elastic.take(option)
                    timed.append(_median(elastic, *a, **k))
                table[f"{block.name} {index}"] = timed
                own += timed[layer.teacher]
            table[f"{block.name} rest"] = [max(block_ms - own, 0.0)]
        table["rest"] = [max(whole - inside, 0.0)]
    return table


def _searched(supernets: dict[str, Any], block: Block) -> list[str]:
    return [name for name, _ in supernets[block.name].searched]


def _median(module: Any, *args: Any, **kwargs: Any) -> float:
    return measure_latency(module, *args, warmup=1, repeats=REPEATS, threads=THREADS, **kwargs).median_ms
