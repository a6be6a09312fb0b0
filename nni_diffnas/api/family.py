"""`Family`: networks that differ in the choices of one `Space`; what a search-space plug-in offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .cost import Budget, Cost
from .errors import BudgetError, JobError
from .space import Architecture, Space, Value

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray


__all__ = ["Family", "Part", "choice_costs", "draws_within", "nearest_to_budget", "sample_within"]

_AT_ONCE = 128
"""So many architectures are drawn at a time."""

_WALKS = 20
"""From so many random architectures it is walked towards a budget that random draws do not meet."""


class Part(Protocol):
    """One layer of a network. Its ``repr`` names everything that its latency depends on."""

    def build(self) -> torch.nn.Module:
        """The layer, weights initialised."""

    def example(self, batch: int) -> tuple[torch.Tensor, ...]:
        """Inputs of the right shapes."""


class Family(ABC):
    """Builds and prices the networks of a search space. Constructed from the ``space`` section of a job.

    A trial imports the family and nothing of NNI's NAS package: keep heavy imports inside `build`.
    """

    @property
    @abstractmethod
    def space(self) -> Space:
        """The choices, their data flow and conditions."""

    @property
    @abstractmethod
    def default(self) -> Architecture:
        """The network that everybody copies: the reference a search has to beat."""

    @abstractmethod
    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """Build the plain module, weights initialised, on the current default device.

        Raises:
            SpaceError: the architecture is not of this space.
        """

    @abstractmethod
    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """MACs and parameters without allocating weights. Cheap: strategies call it thousands of times."""

    def costs(self, space: Space, rows: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]]:
        """Costs of many architectures by name, where they can be said faster than one by one; none by default.

        Args:
            space: this family's, or one with the same labels and fewer values.
            rows: ``n x labels`` indices of the space's values (`Space.draw`); those of absent labels do not matter.

        Returns:
            Name of a cost, as in `Cost`, to ``n`` numbers: exactly what `cost` says.
        """
        return {}

    def scaled(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """What a person would do in a minute to meet a budget: the default made smaller or larger; none by default.

        Args:
            budget: which all of them meet.
            within: this family as it is searched, with another space, default or cost; itself by default.

        Returns:
            Name, such as ``narrower``, to the architecture; without the default itself.
        """
        return {}

    def recommended(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        """Networks that are known to do well at a budget, so that no search has to find them; none by default.

        Args:
            budget: which all of them meet.
            within: this family as it is searched, with another space, default or cost; itself by default.

        Returns:
            Name, such as ``ConvNeXt``, to the architecture.
        """
        return {}

    def describe(self, label: str) -> str:
        """One line on what the label means, for people and language models."""
        return label

    @property
    def cuts(self) -> Mapping[str, tuple[Value, ...]]:
        """Label to its values that let nothing through (``none``, say); none by default.

        Strategies that look at the data flow then see that networks are alike which differ only behind a cut.
        """
        return {}

    @property
    def gains(self) -> Sequence[Mapping[str, Mapping[Value, float]]]:
        """How much every value lets through of what flows into its label, before training; none by default.

        One mapping, label to value to a factor of 0 or more, for each width of the network at which the same choices
        are made. Summed over the paths of the data flow they say how much an untrained network of absolute weights
        hands on: SynFlow (Tanaka et al. 2020, arXiv 2006.05467) in closed form. Strategies may start from networks that
        hand on much.
        """
        return ()

    def promise(self, architecture: Mapping[str, Value]) -> float:
        """What is thought of a network before any is trained; only the order matters, more is better.

        Strategies may start from promising networks. By default those that compute more promise more.
        """
        cost = self.cost(architecture)
        return float(cost.macs or cost.params)

    @property
    def pipeline(self) -> Path | None:
        """Pipeline folder whose other parts (scheduler, autoencoder, text encoder) an exported network joins."""
        return None

    def parts(self, architecture: Mapping[str, Value]) -> Sequence[Part]:
        """The layers that make up the network, for a `latency.LatencyTable`; empty where a family cannot say.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        return ()

    def save_diffusers(
        self, architecture: Mapping[str, Value], state: Mapping[str, torch.Tensor], folder: Path
    ) -> tuple[str, str]:
        """Write the network into ``folder`` as a diffusers model: ``config.json``, weights, and code where needed.

        Override it in a family whose networks can leave the house; this one has nothing to say.

        Args:
            architecture: of the network.
            state: its weights by name; they fit.
            folder: exists; becomes the pipeline's ``unet`` folder.

        Returns:
            The network's entry in the pipeline's ``model_index.json``: library (or name of the code file) and class.

        Raises:
            JobError: networks of this family cannot be exported.
        """
        raise JobError(f"Networks of {type(self).__name__} cannot be exported as a pipeline: use its own format.")


def choice_costs(
    family: Family, base: Mapping[str, Value] | None = None, labels: Sequence[str] | None = None
) -> dict[str, dict[Value, Cost]]:
    """Cost of the network when one label of ``base`` (the default network) takes each of its values in turn.

    Args:
        family: prices the networks.
        base: the architecture that is changed.
        labels: only these; all by default.
    """
    reference = family.space.complete(family.default if base is None else base)
    return {
        label: {value: family.cost(family.space.validate({**reference, label: value})) for value in values}
        for label, values in family.space.choices.items()
        if labels is None or label in labels
    }


def _miss(family: Family, budget: Budget, architecture: Architecture) -> float:
    return sum(abs(distance) for distance in budget.violations(family.cost(architecture)).values())


def nearest_to_budget(
    family: Family, budget: Budget, rng: np.random.Generator, start: Architecture | None = None
) -> Architecture:
    """Walk from ``start`` (a random architecture) along single changes towards the budget; stop where none helps."""
    current = family.space.sample(rng) if start is None else start
    miss = _miss(family, budget, current)
    while miss > 0:
        steps = list(family.space.neighbours(current))
        if not steps:
            break
        misses = [_miss(family, budget, step) for step in steps]
        best = min(misses)
        if best >= miss:
            break
        ties = [step for step, value in zip(steps, misses, strict=True) if value == best]
        current, miss = ties[int(rng.integers(len(ties)))], best
    return current


def draws_within(family: Family, budget: Budget, rng: np.random.Generator, tries: int) -> Iterator[Architecture]:
    """Of so many random architectures, those within budget, in the order in which they are drawn.

    Where the family prices many networks at once (`Family.costs`), thousands come within seconds.

    Args:
        family: prices the networks.
        budget: the windows.
        rng: what is drawn from.
        tries: how many are drawn.

    Yields:
        Valid architectures; one may come twice.
    """
    space = family.space
    for start in range(0, tries, _AT_ONCE):
        rows = space.draw(min(_AT_ONCE, tries - start), rng)
        known = family.costs(space, rows) if budget.windows else {}
        admitted = np.ones(len(rows), dtype=bool)
        for name, values in known.items():
            if name in budget.windows:
                admitted &= budget.windows[name].contains(values)
        left = not budget.windows.keys() <= known.keys()
        for row in rows[admitted]:
            drawn = space.at(row)
            if not left or budget.admits(family.cost(drawn)):
                yield drawn


def sample_within(
    family: Family,
    budget: Budget,
    rng: np.random.Generator,
    tries: int = 2000,
    accept: Callable[[Architecture], bool] = lambda architecture: True,
) -> Architecture:
    """Draw as `Space.sample` does among those within budget; where the window is too small to hit, walk to it.

    The last walk starts from the default network, so that a budget which that meets is met.

    Args:
        family: prices the networks.
        budget: the windows.
        rng: what is drawn from.
        tries: draws before walking.
        accept: says of an architecture within budget whether it will do.

    Raises:
        BudgetError: none was found; where none is within budget, the message states the nearest cost.
    """
    for drawn in draws_within(family, budget, rng, tries):
        if accept(drawn):
            return drawn
    misses = []
    for start in (*[None] * _WALKS, family.space.validate(family.default)):
        walked = nearest_to_budget(family, budget, rng, start)
        miss = _miss(family, budget, walked)
        if not miss and accept(walked):
            return walked
        misses.append((miss, walked))
    miss, nearest = min(misses, key=lambda pair: pair[0])
    if not miss:
        raise BudgetError("All architectures within budget that were found are known: widen the budget or the space.")
    raise BudgetError(
        f"No architecture of this space meets the budget: {budget.explain(family.cost(nearest))} for the nearest one "
        f"found; widen the budget or the space."
    )
