"""`DiffusionGuided`: Bayesian optimisation whose candidates a diffusion model over architectures generates.

After DiffusionNAG (arXiv 2305.16943), which steers the diffusion by a predictor; here by a BoTorch acquisition function
through the denoised estimate, and by the budget. See ``docs/methods/guided.md`` for what is the paper's and what is
ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nni_diffnas.api.cost import COSTS, Cost
from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.cache import cached_bytes
from nni_diffnas.doors.strategy import AskTellStrategy

from .fidelities import NOT_OURS, Fidelities
from .settings import read_settings

if TYPE_CHECKING:
    import torch
    from botorch.models.model import Model
    from numpy.typing import ArrayLike

    from .acquisition import Acquisition
    from .guidance import Wish
    from .network import Tilt
    from .observations import Known
    from .transfer import Experience

__all__ = ["DiffusionGuided"]

Valued = tuple[float, Architecture]
"""What the acquisition function says of an architecture, and the architecture."""

_ACQUIRED, _PREDICTED = 80.0, 5.0
"""Strengths of the guidance by an acquisition function (docs/studies/2026-11-guided-further.md), and by a predictor."""

_CLIMBERS, _MANY = 4, 1000
"""So many of the best candidates are changed choice by choice; one, where so many trials are known: to look at a change
takes time that grows with the square of their number."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: the matrices are small, the trials need the cores, and sums come out the same."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class DiffusionGuided(AskTellStrategy):
    """Generate candidates by guided diffusion, train the most promising one.

    The first trials are drawn from what a prior likes (`Prior`) and spread out. From then on a surrogate is fitted to
    the finished trials, the diffusion is steered towards its acquisition function, and of the architectures that come
    out, the one with the highest acquisition is suggested, after single changes as long as one raises it. Half of them
    start from nothing, half from the best trials, noised half-way.

    Args:
        unguided: trials before the first guided one, at least 2; the default network and those by hand, which are all
            of one kind, do not count, but what the space recommends and those of a warm start do.
        starts: what these are: ``prior``, drawn from the networks that the prior likes, and spread out; ``spread``, as
            far from each other as random draws allow; ``random``.
        strength: of the guidance, 0 to 10,000, in nats for each standard deviation, among random architectures, of what
            it goes by. Unset: 80 where that is the acquisition function, 5 where a predictor (``noise-aware``, or of
            ``experience``) is asked.
        candidates: architectures generated for each suggestion, at least 2.
        surrogate: ``gp`` or ``ensemble``.
        guidance: ``denoised``, through the denoised estimate, or ``noise-aware``, by a predictor that has seen
            noised architectures, as in the paper.
        objectives: further metrics to minimise together with the objective; the suggestions then improve the front.
            ``macs``, ``params`` and ``latency_ms`` are known exactly, others are learned.
        promote: have all trials end at the first rung of their training, and for every ``halving`` of them train the
            one with the highest acquisition to its end (`Fidelities`); needs ``halving``.
        experience: of earlier searches in this space on other data sets, two or more; the first trials then follow what
            they suggest for ``dataset``, and the surrogates see it too.
        dataset: ``m x d`` features of the images of the new data set, as those of the experience.
        sampler_steps: noise levels of the sampler, at least 2.
        training_steps: of the generator, where the cache has none for this space; at least 1.
        cache: makes and keeps content by name: `nni_diffnas.cache.cached_bytes`.
        **options: of `AskTellStrategy`.

    Raises:
        StrategyError: an option out of range.
    """

    def __init__(
        self,
        *,
        unguided: int = 4,
        starts: str = "prior",
        strength: float | None = None,
        candidates: int = 96,
        surrogate: str = "gp",
        guidance: str = "denoised",
        objectives: Sequence[str] = (),
        promote: bool = False,
        experience: Sequence[Experience] = (),
        dataset: ArrayLike | None = None,
        sampler_steps: int = 8,
        training_steps: int = 200,
        cache: Callable[[str, Callable[[], bytes]], bytes] = cached_bytes,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given = {
            "unguided": unguided,
            "starts": starts,
            "strength": strength,
            "candidates": candidates,
            "surrogate": surrogate,
            "guidance": guidance,
            "objectives": objectives,
            "promote": promote,
            "sampler_steps": sampler_steps,
            "training_steps": training_steps,
        }
        self.settings = read_settings(given, self.options.objective.metric)
        if promote and self.options.halving is None:
            raise StrategyError(
                "promote is given without halving: say by it how many trials are brief for each whole one."
            )
        if bool(experience) != (dataset is not None):
            raise StrategyError("Experience of other data sets and the features of this one (dataset) go together.")
        self.experience, self.dataset = tuple(experience), dataset
        self._cache = cache

    # Setup -----------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Train the generator, or take it from the cache; copy the costs that guide."""
        with _one_thread():
            self._set_up()

    def _set_up(self) -> None:
        from .candidates import Candidates
        from .cost_model import CostModel
        from .features import Features
        from .generator import Generator
        from .observations import Observations
        from .prior import Prior
        from .starts import Starts

        search, settings = self.search, self.settings
        steps = settings.training_steps

        def make() -> bytes:
            generator = Generator(search.space)
            generator.train(steps)
            return generator.to_bytes()

        content = self._cache(f"generators/{search.space.key}-{steps}", make)
        self.generator = Generator.from_bytes(content, search.space)
        self.features = Features(self.generator.encoding, {} if search.family is None else search.family.cuts)
        asked = list(dict.fromkeys([*search.budget.windows, *(n for n in settings.objectives if n in COSTS)]))
        if asked and search.family is None:
            raise StrategyError(f"This space cannot say {', '.join(asked)} before training: leave them out.")
        self._transferred: Wish | None = None
        if self.experience and self.dataset is not None:
            from .transfer import TaskPredictor

            predictor = TaskPredictor(self.features, self.experience, seed=self.options.seed)
            task = predictor.encode(self.dataset)
            self._transferred = partial(predictor.predict, task)
            self.features.known.append(lambda p: predictor.predict(task, p)[..., None])
        prior = Prior(self.features, search.family)
        if (flow := prior.flow) is not None:
            self.features.known.append(lambda p: flow(p)[..., None])
        self.features.guesses = len(self.features.known)
        for name in settings.objectives:
            if name in ("macs", "params") and search.family is not None and not any(self._stated(name)):
                raise StrategyError(f"objectives names {name!r}, which the search space does not state: leave it out.")
        # What is known before training says much of the score, so the surrogates see it too. Latency depends on the
        # machine: only where it is asked for.
        names = [name for name in COSTS if name in asked or (name != "latency_ms" and self._knows(name))]
        cost_model = None
        if names and search.family is not None:
            cost_model = CostModel(self.features, search.family, names)
            self.features.known.append(cost_model.standard)
            if prior.goes_by_costs:
                self.features.guesses += len(names)
        exactly_known_last = sorted(settings.objectives, key=lambda name: name in COSTS)
        halving = self.options.halving
        compared = None if halving is None else halving.compared(search.objective)
        self.observations = Observations(search, self.generator.encoding, exactly_known_last, cost_model, compared)
        self._fidelities: Fidelities | None = None
        if settings.promote and halving is not None and compared is not None:
            self._fidelities = Fidelities(search, compared, halving.eta)
        self.pool = Candidates(search, self.generator, cost_model, settings.sampler_steps)
        self._starts = Starts(search, self.features, prior if settings.starts == "prior" else None)
        self._fitted: tuple[Known, list[Model]] | None = None

    def _cost(self, architecture: Architecture) -> Cost | None:
        """MACs, parameters and perhaps latency; ``None`` where the space cannot say."""
        return None if self.search.family is None else self.search.family.cost(architecture)

    def _knows(self, name: str) -> bool:
        """Whether the family states this cost of any architecture, and it is not the same for all."""
        values = self._stated(name)
        return all(value is not None and value > 0 for value in values) and len(set(values)) > 1

    def _stated(self, name: str) -> list[float | None]:
        """A cost of random architectures."""
        drawn = [self._cost(self.search.space.sample(rng)) for rng in map(np.random.default_rng, range(64))]
        return [None if cost is None else cost.as_metrics().get(name) for cost in drawn]

    # Suggesting ------------------------------------------------------------------------------------------------------

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Generate ``count`` architectures; fewer once nothing new is left in the space."""
        suggestions: list[Suggestion] = []
        while len(suggestions) < count:
            with _one_thread():
                suggestion = self._next(suggestions)
            if suggestion is None:
                break
            suggestions.append(suggestion)
        return suggestions

    def _next(self, suggestions: Sequence[Suggestion]) -> Suggestion | None:
        import torch

        seed = int(self.search.rng.integers(2**31))
        noise = torch.Generator().manual_seed(seed)
        scored, taken = self.observations.scored, [suggestion.architecture for suggestion in suggestions]
        if self._fidelities is None:
            return self._newcomer(scored, taken, taken, noise)
        if self._fidelities.due([suggestion.settings for suggestion in suggestions]):
            promoted = self._promoted(self._fidelities, scored, taken)
            if promoted is not None:
                return promoted
        tried = [*(trial.architecture for trial in self.search.trials), *taken]
        found = self._newcomer(scored, taken, tried, noise)
        if found is None:  # nothing is left that has not been trained briefly
            return self._promoted(self._fidelities, scored, taken)
        return replace(found, settings=self._fidelities.briefly())

    def _newcomer(
        self, scored: list[Trial], taken: list[Architecture], avoided: list[Architecture], noise: torch.Generator
    ) -> Suggestion | None:
        """A network that is not among those ``avoided``; those ``taken`` are about to be trained."""
        self.observations.refuse_missing(self.settings.unguided)
        begun = [t for t in self.search.trials if t.status != "failed" and t.origin.kind not in NOT_OURS]
        started = len(begun) + len(taken)
        early = started < self.settings.unguided or len(scored) < 2
        found = self._start(noise, avoided) if early else self._guided(scored, taken, avoided, noise)
        return found or self._fallback(noise, avoided)

    def _promoted(self, fidelities: Fidelities, scored: list[Trial], taken: list[Architecture]) -> Suggestion | None:
        """Of the networks that have been trained briefly, the most promising one; ``None`` where none waits."""
        waiting, rung = fidelities.waiting(taken), fidelities.rung
        if not waiting or rung is None:
            return None
        if len(scored) < 2:
            best = min(waiting, key=lambda trial: float(trial.metrics[rung]))
        else:
            worth = self._values([trial.architecture for trial in waiting], self._acquisition(scored, taken)[1])
            best = max(zip(worth, waiting, strict=True), key=lambda pair: pair[0])[1]
        return Suggestion(best.architecture, "promoted", best.id, fidelities.to_the_end())

    def _start(self, noise: torch.Generator, taken: list[Architecture]) -> Suggestion | None:
        """Before the surrogate knows anything: what other data sets suggest, else what the prior likes."""
        if self._transferred is not None:
            return self._transfer(self._transferred, noise, taken)
        drawn = None if self.settings.starts == "random" else self._starts.draw(taken)
        return None if drawn is None else Suggestion(drawn, "start")

    def _transfer(self, wish: Wish, noise: torch.Generator, taken: list[Architecture]) -> Suggestion | None:
        from .guidance import along_gradient

        encoding = self.generator.encoding
        pull = along_gradient(wish, self._strength(_PREDICTED), self._reference())
        found = self.pool.generate(self.settings.candidates, noise, pull=pull, taken=taken)
        if not found:
            return None
        best = wish(encoding.one_hot(encoding.indices(found))).argmax()
        return Suggestion(found[int(best)], "transferred")

    def _reference(self) -> torch.Tensor:
        """Random architectures, by which strengths are scaled."""
        encoding = self.generator.encoding
        return encoding.one_hot(encoding.sample(64, np.random.default_rng(self.options.seed)))

    def _fallback(self, noise: torch.Generator, taken: list[Architecture]) -> Suggestion | None:
        """A random architecture, where nothing else was found; generated where draws miss the budget."""
        drawn = self.search.draw(taken)
        if drawn is None:
            return next((Suggestion(a, "generated") for a in self.pool.generate(16, noise, taken=taken)), None)
        return Suggestion(drawn, "random")

    def _acquisition(self, scored: list[Trial], taken: list[Architecture]) -> tuple[Known, Acquisition]:
        from .acquisition import Acquisition, fit_models

        seed = self.options.seed
        known = self.observations.known(scored, taken)
        if self._fitted is None or not self._fitted[0].agrees(known):  # what is pending is no part of the fit
            exact = self.observations.exact(scored)
            self._fitted = (known, fit_models(self.features, known, self.settings.surrogate, seed, exact))
        return known, Acquisition(self.features, known, self._fitted[1], seed)

    def _guided(
        self, scored: list[Trial], taken: list[Architecture], avoided: list[Architecture], noise: torch.Generator
    ) -> Suggestion | None:
        known, acquisition = self._acquisition(scored, taken)
        found = self.propose(scored, avoided, noise, self._pull(known, acquisition))
        if not found:
            return None
        return Suggestion(self._most_promising(found, avoided, acquisition), "guided")

    def _values(self, architectures: Sequence[Architecture], acquisition: Wish) -> list[float]:
        import torch

        encoding = self.generator.encoding
        with torch.no_grad():
            worth = acquisition(encoding.one_hot(encoding.indices(architectures))).nan_to_num(-math.inf)
        listed: list[float] = worth.tolist()
        return listed

    def _most_promising(
        self, found: Sequence[Architecture], taken: Sequence[Architecture], acquisition: Wish
    ) -> Architecture:
        """The best that can be had of the candidates by changing one choice after the other.

        The acquisition function has many peaks, and the best candidate need not stand below the highest: several of the
        best go on until no change of any of them brings a better one.
        """
        count = _CLIMBERS if len(self.search.trials) < _MANY else 1

        def best_of(of: Sequence[Architecture], held: Sequence[Valued]) -> list[Valued]:
            valued = [*held, *zip(self._values(of, acquisition), of, strict=True)]
            ranked = sorted(valued, key=lambda pair: pair[0], reverse=True)
            kept = [each for _, each in held]
            admitted = ((v, a) for v, a in ranked if a in kept or (a not in taken and not self.search.refusal(a)))
            return list(islice(admitted, count))

        seen, climbers = {tuple(each.items()) for each in found}, best_of(found, [])
        while True:
            around = (step for _, each in climbers for step in self.search.space.neighbours(each))
            steps = {key: step for step in around if (key := tuple(step.items())) not in seen}
            if not steps:
                break
            seen.update(steps)
            climbers = best_of(list(steps.values()), climbers)
        return climbers[0][1]

    def _pull(self, known: Known, acquisition: Wish) -> Tilt:
        from .guidance import along_gradient

        if self.settings.guidance == "denoised":
            return along_gradient(acquisition, self._strength(_ACQUIRED), self._reference())
        from .predictor import NoiseAwarePredictor

        predictor = NoiseAwarePredictor(self.generator.encoding, self.generator.levels, self.options.seed)
        predictor.fit(known.matrices, known.targets.mean(1))
        return predictor.tilt(self._strength(_PREDICTED))

    def _strength(self, usual: float) -> float:
        return usual if self.settings.strength is None else self.settings.strength

    def _rank(self, trial: Trial) -> float:
        return -math.inf if (score := self.observations.score(trial)) is None else score

    def propose(
        self, scored: Sequence[Trial], taken: Sequence[Architecture], noise: torch.Generator, pull: Tilt
    ) -> list[Architecture]:
        """Candidates of which the most promising one is suggested: half from nothing, half from the best trials."""
        encoding, count = self.generator.encoding, self.settings.candidates
        best = sorted(scored, key=self._rank, reverse=True)[:8]
        parents = encoding.indices([best[i % len(best)].architecture for i in range(count // 2)])
        found = self.pool.generate(count - count // 2, noise, pull=pull, taken=taken)
        return found + self.pool.generate(count // 2, noise, pull=pull, parents=parents, taken=[*taken, *found])

    def update(self, trials: Sequence[Trial]) -> None:
        """Nothing to do: each suggestion is made from all trials, so that a resumed search goes on exactly."""

    def state(self) -> dict[str, Any]:
        """Return how many architectures were generated, and how many of these were invalid."""
        return {"generated": self.pool.generated, "invalid": self.pool.invalid}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the counts."""
        self.pool.generated, self.pool.invalid = int(state["generated"]), int(state["invalid"])
