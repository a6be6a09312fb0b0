"""What can be trained near proposals that cannot: the last repair lets the model choose among these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nni_diffnas.api.space import Architecture, Space, Value

__all__ = ["Offer", "find_offers"]

_MOST = 8
_TRIES = 200


@dataclass(frozen=True)
class Offer:
    """An architecture that can be trained, and what tells it from a proposal that cannot.

    Args:
        architecture: within the budget and new.
        changes: label to its value here; ``None`` where it no longer applies.
    """

    architecture: Architecture
    changes: dict[str, Value | None]


def find_offers(
    space: Space, refused: Sequence[Architecture], refusal: Callable[[Architecture], str], rng: np.random.Generator
) -> tuple[Offer, ...]:
    """At most eight different ones, as many near each of ``refused``: one choice away, else two.

    Args:
        space: of the architectures.
        refused: proposals that cannot be trained.
        refusal: says why an architecture cannot be trained; empty when it can.
        rng: draws among those that are equally near.
    """
    found: list[Offer] = []
    for number, proposal in enumerate(refused):
        room = (_MOST - len(found)) // (len(refused) - number)
        for near in _nearest_first(space, proposal, rng):
            if room == 0:
                break
            if near not in [offer.architecture for offer in found] and not refusal(near):
                changes = {label: near.get(label) for label in space.choices if near.get(label) != proposal.get(label)}
                found.append(Offer(near, changes))
                room -= 1
    return tuple(found)


def _nearest_first(space: Space, proposal: Architecture, rng: np.random.Generator) -> Iterator[Architecture]:
    near = list(space.neighbours(proposal))
    yield from (near[int(index)] for index in rng.permutation(len(near)))
    for _ in range(_TRIES if near else 0):
        yield space.mutate(near[int(rng.integers(len(near)))], rng)
