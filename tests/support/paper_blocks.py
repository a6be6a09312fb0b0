"""Blocks made up on paper: their costs are said, and nothing can be trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nni_diffnas.api.blocks import Block, BlockFamily, Layer
from nni_diffnas.api.cost import Cost
from nni_diffnas.api.space import Architecture, Space, Value


class PaperFamily(BlockFamily):
    """Three blocks of one layer with four options each; the third option is the teacher's."""

    folder = Path("nowhere")
    fixed = Cost(100, 10)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            Block(
                name,
                (
                    Layer(
                        (f"{name}.width",),
                        tuple({f"{name}.width": value} for value in (1, 2, 3, 4)),
                        tuple(Cost(scale * value, 2 * value) for value in (1, 2, 3, 4)),
                        2,
                    ),
                ),
                Cost(5, 1),
            )
            for name, scale in (("down0", 10), ("middle", 20), ("up0", 30))
        )

    @property
    def space(self) -> Space:
        return Space({f"{block.name}.width": (1, 2, 3, 4) for block in self.blocks})

    @property
    def default(self) -> Architecture:
        return self.assemble(block.teacher for block in self.blocks)

    def build(self, architecture: Mapping[str, Value]) -> Any:
        raise NotImplementedError

    def teacher(self) -> Any:
        raise NotImplementedError

    def block_path(self, block: str) -> str:
        raise NotImplementedError

    def supernet(self, block: str, teacher: Any) -> Any:
        raise NotImplementedError


class ContraryFamily(PaperFamily):
    """Blocks that have many parameters where they have few MACs."""

    fixed = Cost(0, 1)
    COSTS = (Cost(100, 400), Cost(200, 100), Cost(300, 120), Cost(400, 500))

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(
            replace(block, layers=(replace(block.layers[0], costs=self.COSTS),), rest=Cost(0, 0))
            for block in super().blocks
        )
