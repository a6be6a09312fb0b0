"""`DiffusionGuided`: Bayesian optimisation whose candidates a diffusion model over architectures generates.

After DiffusionNAG (arXiv 2305.16943), which steers the diffusion by a predictor; here by a BoTorch acquisition function
through the denoised estimate, and by the budget. See ``docs/methods/guided.md`` for what is the paper's and what is
ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.cache import cached_bytes
from nni_diffnas.doors.strategy import AskTellStrategy

if TYPE_CHECKING:
    import torch
    from botorch.models.model import Model
    from numpy.typing import ArrayLike, NDArray

    from .acquisition import Known
    from .cost_model import CostModel
    from .encoding import Indices
    from .generator import Generator
    from .guidance import Wish
    from .network import Tilt
    from .transfer import Experience

__all__ = ["DiffusionGuided"]


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


_RESTARTS = 6
"""How often architectures out of budget are sent back into the noise; most need none."""

_COSTS = ("macs", "params", "latency_ms")

_SEEN = _COSTS[:2]
"""Costs that the surrogates see unasked; latency depends on the machine."""


class DiffusionGuided(AskTellStrategy):
    """Generate candidates by guided diffusion, train the most promising one.

    The first trials are generated without guidance by the scores (the budget guides them from the start). From then on
    a surrogate is fitted to the finished trials, the diffusion is steered towards its acquisition function, and of the
    architectures that come out, the one with the highest acquisition is suggested. Half of them start from nothing,
    half from the best trials, noised half-way.

    Args:
        unguided: trials before the first guided one, the default network included; at least 2.
        strength: of the guidance, in nats for each standard deviation of the acquisition function among random
            architectures; 0 or more.
        candidates: architectures generated for each suggestion, at least 2.
        surrogate: ``gp`` or ``ensemble``.
        guidance: ``denoised``, through the denoised estimate, or ``noise-aware``, by a predictor that has seen
            noised architectures, as in the paper.
        objectives: further metrics to minimise together with the objective; the suggestions then improve the front.
            ``macs``, ``params`` and ``latency_ms`` are known exactly, others are learned.
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
        strength: float = 5.0,
        candidates: int = 96,
        surrogate: str = "gp",
        guidance: str = "denoised",
        objectives: Sequence[str] = (),
        experience: Sequence[Experience] = (),
        dataset: ArrayLike | None = None,
        sampler_steps: int = 8,
        training_steps: int = 200,
        cache: Callable[[str, Callable[[], bytes]], bytes] = cached_bytes,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        for name, value, low in (
            ("unguided", unguided, 2),
            ("strength", strength, 0),
            ("candidates", candidates, 2),
            ("sampler_steps", sampler_steps, 2),
            ("training_steps", training_steps, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
                raise StrategyError(f"{name} is {value!r}: give a number of at least {low}.")
        for name, chosen, known in (
            ("surrogate", surrogate, ("gp", "ensemble")),
            ("guidance", guidance, ("denoised", "noise-aware")),
        ):
            if chosen not in known:
                raise StrategyError(f"{name} is {chosen!r}: choose one of {', '.join(known)}.")
        if isinstance(objectives, str) or self.options.objective.metric in objectives:
            raise StrategyError(
                f"objectives is {objectives!r}: list further metrics, without {self.options.objective.metric}."
            )
        if bool(experience) != (dataset is not None):
            raise StrategyError("Experience of other data sets and the features of this one (dataset) go together.")
        self.experience, self.dataset = tuple(experience), dataset
        self.unguided, self.strength, self.candidates = unguided, strength, candidates
        self.surrogate, self.guidance = surrogate, guidance
        # What is known exactly comes last.
        self.objectives = tuple(sorted(objectives, key=lambda name: name in _COSTS))
        self.sampler_steps, self.training_steps = sampler_steps, training_steps
        self._cache = cache
        self.generated = self.invalid = 0
        """Architectures generated so far, and how many of them were not architectures of the space."""

    # Setup -----------------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Train the generator, or take it from the cache; copy the costs that guide."""
        with _one_thread():
            self._set_up()

    def _set_up(self) -> None:
        from .features import Features
        from .generator import Generator

        def make() -> bytes:
            generator = Generator(self.search.space)
            generator.train(self.training_steps)
            return generator.to_bytes()

        content = self._cache(f"generators/{self.search.space.key}-{self.training_steps}", make)
        self.generator: Generator = Generator.from_bytes(content, self.search.space)
        self.features = Features(self.generator.encoding, {} if self.search.family is None else self.search.family.cuts)
        asked = list(
            dict.fromkeys([*self.search.budget.windows, *(name for name in self.objectives if name in _COSTS)])
        )
        if asked and self.search.family is None:
            raise StrategyError(f"This space cannot say {', '.join(asked)} before training: leave them out.")
        self._prior: Wish | None = None
        if self.experience and self.dataset is not None:
            from .transfer import TaskPredictor

            predictor = TaskPredictor(self.features, self.experience, seed=self.options.seed)
            task = predictor.encode(self.dataset)
            self._prior = partial(predictor.predict, task)
            self.features.known.append(lambda p: predictor.predict(task, p)[..., None])
        # What is known before training says much of the score, so the surrogates see it too.
        names = [name for name in _COSTS if name in asked or (name in _SEEN and self._knows(name))]
        self._fitted: tuple[Known, list[Model]] | None = None
        self._cost_model: CostModel | None = None
        if names and self.search.family is not None:
            from .cost_model import CostModel

            self._cost_model = CostModel(self.features, self.search.family, names)
            self.features.known.append(self._cost_model.standard)

    def _cost(self, architecture: Architecture) -> Cost | None:
        """MACs, parameters and perhaps latency; ``None`` where the space cannot say."""
        return None if self.search.family is None else self.search.family.cost(architecture)

    def _knows(self, name: str) -> bool:
        """Whether the family states this cost of any architecture, and it is not the same for all."""
        drawn = [self._cost(self.search.space.sample(rng)) for rng in map(np.random.default_rng, range(64))]
        values = [None if cost is None else cost.as_metrics().get(name) for cost in drawn]
        return all(value is not None and value > 0 for value in values) and len(set(values)) > 1

    # Suggesting ------------------------------------------------------------------------------------------------------

    def suggest(self, count: int) -> Sequence[Suggestion]:
        """Generate ``count`` architectures; fewer once nothing new is left in the space."""
        suggestions: list[Suggestion] = []
        while len(suggestions) < count:
            taken = [suggestion.architecture for suggestion in suggestions]
            with _one_thread():
                suggestion = self._next(taken)
            if suggestion is None:
                break
            suggestions.append(suggestion)
        return suggestions

    def _next(self, taken: list[Architecture]) -> Suggestion | None:
        import torch

        seed = int(self.search.rng.integers(2**31))
        noise = torch.Generator().manual_seed(seed)
        scored = self._scored()
        started = len(scored) + len(self.search.pending) + len(taken)
        early = started < self.unguided or len(scored) < 2
        found = self._unguided(noise, taken) if early else self._guided(scored, taken, seed, noise)
        return found or self._fallback(taken)

    def _unguided(self, noise: torch.Generator, taken: list[Architecture]) -> Suggestion | None:
        """Before the surrogate knows anything: what other data sets suggest, else what the generator brings."""
        tilts = self._budget_tilts()
        if self._prior is None:
            found = self._generate(min(self.candidates, 16), noise, tilts, None, taken)
            return Suggestion(found[0], "generated") if found else None
        from .guidance import along_gradient

        encoding = self.generator.encoding
        pull = along_gradient(self._prior, self.strength, self._reference())
        found = self._generate(self.candidates, noise, [pull, *tilts], None, taken)
        if not found:
            return None
        best = self._prior(encoding.one_hot(encoding.indices(found))).argmax()
        return Suggestion(found[int(best)], "transferred")

    def _reference(self) -> torch.Tensor:
        """Random architectures, by which strengths are scaled."""
        encoding = self.generator.encoding
        return encoding.one_hot(encoding.sample(64, np.random.default_rng(self.options.seed)))

    def _fallback(self, taken: list[Architecture]) -> Suggestion | None:
        """A random architecture, said to be one, where the generator brings nothing new."""
        drawn = self.search.draw(taken)
        return None if drawn is None else Suggestion(drawn, "random")

    def _guided(
        self, scored: list[Trial], taken: list[Architecture], seed: int, noise: torch.Generator
    ) -> Suggestion | None:
        import torch

        from .acquisition import Acquisition, fit_models
        from .guidance import along_gradient

        encoding = self.generator.encoding
        known = self._known_to_search(scored, taken)
        if self._fitted is None or not self._fitted[0].agrees(known):  # what is pending is no part of the fit
            models = fit_models(self.features, known, self.surrogate, self.options.seed, self._exact(scored))
            self._fitted = (known, models)
        models = self._fitted[1]
        acquisition = Acquisition(self.features, known, models, self.options.seed)
        if self.guidance == "noise-aware":
            from .predictor import NoiseAwarePredictor

            predictor = NoiseAwarePredictor(encoding, self.generator.levels, self.options.seed)
            predictor.fit(known.matrices, known.targets.mean(1))
            pull = predictor.tilt(self.strength)
        else:
            pull = along_gradient(acquisition, self.strength, self._reference())
        tilts = [pull, *self._budget_tilts()]
        half = self.candidates // 2
        best = sorted(scored, key=self._rank, reverse=True)[:8]
        parents = encoding.indices([best[i % len(best)].architecture for i in range(half)])
        found = self._generate(self.candidates - half, noise, tilts, None, taken)
        found += [a for a in self._generate(half, noise, tilts, parents, taken) if a not in found]
        if not found:
            return None
        with torch.no_grad():
            values = acquisition(encoding.one_hot(encoding.indices(found))).nan_to_num(-math.inf)
        return Suggestion(found[int(values.argmax())], "guided")

    def _generate(
        self,
        count: int,
        noise: torch.Generator,
        tilts: Sequence[Tilt],
        parents: Any,
        taken: list[Architecture],
    ) -> list[Architecture]:
        """Generate; leave out what is invalid (counted), known, out of budget or there twice."""
        from .guidance import together

        encoding = self.generator.encoding

        def admits(indices: Indices) -> NDArray[np.bool_]:
            costs = [self._cost(architecture) for architecture in encoding.architectures(indices)]
            return np.array([cost is None or self.search.budget.admits(cost) for cost in costs], dtype=bool)

        indices, valid = self.generator.within(
            count,
            noise,
            admits,
            rounds=_RESTARTS if self.search.budget.windows else 0,
            tilt=together(tilts),
            steps=self.sampler_steps,
            start=parents,
            start_position=0.0 if parents is None else 0.5,
        )
        self.generated += len(valid)
        self.invalid += int((~valid).sum())
        unique = np.unique(indices[valid], axis=0, return_index=True)[1]
        drawn = encoding.architectures(indices[valid][np.sort(unique)])
        return [a for a in drawn if a not in taken and not self.search.refusal(a)]

    def _budget_tilts(self) -> list[Tilt]:
        from .guidance import towards_window

        tilts = []
        for name, window in self.search.budget.windows.items():
            model = self._cost_model
            assert model is not None

            def quantity(p: torch.Tensor, name: str = name, model: CostModel = model) -> torch.Tensor:
                return model.log(name, p)

            low = -math.inf if window.min is None else math.log(max(window.min, 1e-9))
            high = math.inf if window.max is None else math.log(max(window.max, 1e-9))
            tilts.append(towards_window(quantity, low, high))
        return tilts

    # What is known ---------------------------------------------------------------------------------------------------

    def _scored(self) -> list[Trial]:
        """Finished trials of this protocol with all objectives, in order of submission."""
        return [
            trial
            for trial in self.search.trials
            if trial.protocol == self.search.about.protocol
            and self.search.objective.score(trial.metrics) is not None
            and all(self._minimised(trial, name) is not None for name in self.objectives)
        ]

    def _minimised(self, trial: Trial, name: str) -> float | None:
        """Negative logarithm of a further objective; ``None`` where it is missing or not a positive number."""
        metrics = {**(trial.cost.as_metrics() if trial.cost else {}), **trial.metrics}
        value = metrics.get(name)
        return None if value is None or not 0 < value < math.inf else -math.log(value)

    def _rank(self, trial: Trial) -> float:
        return -math.inf if (score := self.search.objective.score(trial.metrics)) is None else score

    def _known_to_search(self, scored: list[Trial], taken: list[Architecture]) -> Known:
        import torch

        from .acquisition import Known
        from .outcomes import Outcomes

        encoding = self.generator.encoding
        failed = [
            trial
            for trial in self.search.trials
            if trial.status == "failed" and trial.protocol == self.search.about.protocol
        ]
        scores = np.array([self._rank(trial) for trial in scored])
        columns = [Outcomes(scores)(np.append(scores, [scores.min()] * len(failed)))]
        for name in self.objectives:
            values = np.array([self._minimised(trial, name) for trial in scored], dtype=np.float64)
            worst = [values.min() if name not in _COSTS else self._minimised(t, name) or values.min() for t in failed]
            columns.append((np.append(values, worst) - values.mean()) / (values.std() or 1.0))
        architectures = [trial.architecture for trial in scored + failed]
        pending = [trial.architecture for trial in self.search.pending] + taken
        return Known(
            encoding.one_hot(encoding.indices(architectures)),
            torch.from_numpy(np.stack(columns, axis=1)),
            encoding.one_hot(encoding.indices(pending)),
        )

    def _exact(self, scored: list[Trial]) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """For each objective that is a cost: inputs of the surrogates to its target, scaled as the column is."""
        found: list[Callable[[torch.Tensor], torch.Tensor]] = []
        for name in self.objectives:
            if name not in _COSTS or self._cost_model is None:
                continue
            values = np.array([self._minimised(trial, name) for trial in scored], dtype=np.float64)
            mean, deviation = float(values.mean()), float(values.std()) or 1.0
            model = self._cost_model
            at = model.names.index(name) - len(model.names)  # the costs are the last inputs of the surrogates
            slope = -float(model.deviation[at]) / deviation
            offset = (-float(model.mean[at]) - mean) / deviation

            def target(x: torch.Tensor, at: int = at, slope: float = slope, offset: float = offset) -> torch.Tensor:
                return x[..., at, None] * slope + offset

            found.append(target)
        return found

    def update(self, trials: Sequence[Trial]) -> None:
        """Nothing to do: each suggestion is made from all trials, so that a resumed search goes on exactly."""

    def state(self) -> dict[str, Any]:
        """Return how many architectures were generated, and how many of these were invalid."""
        return {"generated": self.generated, "invalid": self.invalid}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the counts."""
        self.generated, self.invalid = int(state["generated"]), int(state["invalid"])
