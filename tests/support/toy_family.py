"""A family whose costs and scores are known exactly, with a label that does not always apply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture, Space, Value


class ToyFamily(Family):
    """Four labels, 4 * 3 * 2 + 4 * 3 * 1 * 3 = 60 architectures; one MAC a unit."""

    def __init__(self) -> None:
        self._space = Space(
            choices={
                "level0.width": (8, 16, 24, 32),
                "level0.depth": (1, 2, 3),
                "attention": (False, True),
                "heads": (1, 2, 4),
            },
            edges=(
                ("level0.width", "level0.depth"),
                ("level0.depth", "attention"),
                ("level0.width", "attention"),
                ("attention", "heads"),
            ),
            conditions={"heads": (("attention", (True,)),)},
        )

    @property
    def space(self) -> Space:
        return self._space

    @property
    def default(self) -> Architecture:
        return {"level0.width": 16, "level0.depth": 2, "attention": False}

    def build(self, architecture: Mapping[str, Value]) -> Any:
        raise NotImplementedError

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        chosen: dict[str, Any] = self._space.validate(architecture)
        macs = 1000 * chosen["level0.width"] * chosen["level0.depth"] + 50_000 * chosen["attention"]
        return Cost(macs=macs, params=macs // 10)

    def describe(self, label: str) -> str:
        return "channels" if label == "level0.width" else label


def score(architecture: Mapping[str, Value]) -> float:
    """To be minimised; every architecture has its own."""
    chosen: dict[str, Any] = dict(architecture)
    return abs(chosen["level0.width"] - 24) + 3 * abs(chosen["level0.depth"] - 2) + chosen.get("heads", 5) / 10
