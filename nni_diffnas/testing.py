"""What every plug-in has to do: cases that a plug-in's own tests inherit.

Example:
    .. code-block:: python

        from nni_diffnas.testing import StrategyCases

        class TestMyStrategy(StrategyCases):
            def make(self, **options):
                return MyStrategy(**options)

pytest collects the inherited tests. Each case says in its name what it wants, and needs nothing but a temporary folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .api.cost import Budget, Cost, Window
from .api.evaluation import Evaluation, TrialContext
from .api.family import Family
from .api.space import Architecture, Space, Value, digest
from .api.trial import Trial
from .doors.strategy import AskTellStrategy
from .searching.search import Search

if TYPE_CHECKING:
    import torch

__all__ = ["EvaluationCases", "FamilyCases", "SmallFamily", "StrategyCases"]


class SmallFamily(Family):
    """96 architectures of four labels, one of which does not always apply; a MAC a unit, nothing to build."""

    @cached_property
    def space(self) -> Space:
        """Width, depth, attention, and heads where there is attention."""
        return Space(
            choices={"width": (8, 16, 24, 32), "depth": (1, 2, 3), "attention": (False, True), "heads": (1, 2, 4)},
            edges=(("width", "depth"), ("depth", "attention"), ("width", "attention"), ("attention", "heads")),
            conditions={"heads": (("attention", (True,)),)},
        )

    @property
    def default(self) -> Architecture:
        """A network in the middle."""
        return {"width": 16, "depth": 2, "attention": False}

    def build(self, architecture: Mapping[str, Value]) -> torch.nn.Module:
        """An empty module."""
        from torch import nn

        self.space.validate(architecture)
        return nn.Module()

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """Grows with every choice."""
        chosen: dict[str, Any] = self.space.validate(architecture)
        macs = 1000 * chosen["width"] * chosen["depth"] + 5000 * chosen.get("heads", 0)
        return Cost(macs=macs, params=macs // 10)


class StrategyCases:
    """Cases for a strategy; write `make`, and change the others where the strategy needs more."""

    trials: int = 20
    """How many are tried in a case."""

    def make(self, **options: Any) -> AskTellStrategy:
        """Construct the strategy; ``options`` are those of `AskTellStrategy`."""
        raise NotImplementedError

    def family(self) -> Family:
        """The space on which it is tried."""
        return SmallFamily()

    def measure(self, trial: Trial) -> dict[str, Any]:
        """Final metrics of a trial, the same whenever it is asked."""
        return {"rfid": int(digest(dict(trial.architecture))[:6], 16) / 2**24}

    def search(self, experiment: str = "cases", **options: Any) -> Search:
        """A search by the strategy, ready to be asked, in an experiment of this id."""
        family = self.family()
        return Search(self.make(**options), family.space, family, "cases/1", experiment=experiment, task="cases")

    def run(self, search: Search, count: int) -> list[Architecture]:
        """Train ``count`` trials, one at a time; return what was suggested."""
        seen = []
        for _ in range(count):
            for trial in search.ask(1):
                seen.append(trial.architecture)
                search.tell(trial.id, self.measure(trial))
        return seen

    def test_suggestions_are_of_the_space_and_never_repeat(self) -> None:
        search = self.search()
        seen = self.run(search, self.trials)
        assert len(seen) == self.trials
        assert all(search.space.validate(architecture) == architecture for architecture in seen)
        assert len({json.dumps(dict(architecture)) for architecture in seen}) == self.trials

    def test_several_workers_get_different_architectures(self) -> None:
        search = self.search()
        self.run(search, 6)
        asked = search.ask(3) + search.ask(1)
        assert len({json.dumps(dict(trial.architecture)) for trial in asked}) == len(asked)
        for trial in reversed(asked):  # they end in any order
            search.tell(trial.id, self.measure(trial))
        assert search.pending == []
        assert len(self.run(search, 3)) == 3

    def test_the_budget_is_kept(self) -> None:
        budget = Budget({"macs": Window(max=40_000)})
        search = self.search(budget=budget)
        assert self.run(search, 8)
        assert all(trial.cost is not None and budget.admits(trial.cost) for trial in search.trials)

    def test_the_same_seed_and_history_give_the_same_suggestions(self) -> None:
        assert self.run(self.search(seed=3), self.trials) == self.run(self.search(seed=3), self.trials)

    def test_a_resume_goes_on_as_if_nothing_had_happened(self) -> None:
        search = self.search(seed=4)
        self.run(search, self.trials // 2)
        (pending,) = search.ask(1)
        snapshot = json.loads(json.dumps(search.snapshot()))  # primitives only: that is what the memory keeps
        trials = [Trial.from_json(json.loads(json.dumps(trial.to_json()))) for trial in search.trials]
        resumed = self.search(seed=4)
        resumed.restore(trials, snapshot)
        for one in (search, resumed):
            one.tell(pending.id, self.measure(pending))
        assert self.run(resumed, 5) == self.run(search, 5)

    def test_failed_trials_are_learnt_and_the_search_goes_on(self) -> None:
        search = self.search()
        for number in range(self.trials):
            for trial in search.ask(1):
                if number % 2:
                    search.tell_failed(trial.id, "out of memory")
                else:
                    search.tell(trial.id, self.measure(trial))
        assert len([trial for trial in search.trials if trial.status == "failed"]) == self.trials // 2

    def test_nothing_but_failures_breaks_nothing(self) -> None:
        search = self.search()
        for _ in range(8):
            for trial in search.ask(1):
                search.tell_failed(trial.id, "the loss is nan")
        assert len(search.trials) == 8

    def test_an_exhausted_space_ends_the_search(self) -> None:
        search = self.search(budget=Budget({"macs": Window(max=16_000)}))
        asked = 0
        while trials := search.ask(2):
            asked += len(trials)
            assert asked <= search.space.size
            for trial in trials:
                search.tell(trial.id, self.measure(trial))
        assert asked > 0

    def test_trials_of_an_earlier_search_are_used(self) -> None:
        earlier = self.search("earlier", seed=5)
        known = self.run(earlier, 8)
        search = self.search(seed=6, warm_start=earlier.trials, train_first="none")
        assert not [architecture for architecture in self.run(search, 6) if architecture in known]


class FamilyCases:
    """Cases for a search space; write `make`."""

    samples: int = 5

    def make(self) -> Family:
        """Construct the family."""
        raise NotImplementedError

    def architectures(self) -> list[Architecture]:
        """The default and some random ones."""
        family, rng = self.make(), np.random.default_rng(0)
        return [family.default, *(family.space.sample(rng) for _ in range(self.samples))]

    def test_the_space_survives_its_way_through_nni(self) -> None:
        space = self.make().space
        assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
        offered = Space.from_nni(json.loads(json.dumps(space.to_nni())))
        assert dict(offered.choices) == dict(space.choices)

    def test_two_constructions_are_the_same_space(self) -> None:
        assert self.make().space.key == self.make().space.key

    def test_architectures_are_valid_and_survive_their_encoding(self) -> None:
        space = self.make().space
        for architecture in self.architectures():
            assert space.validate(architecture) == architecture
            assert space.decode(space.encode([architecture])[0]) == architecture

    def test_costs_are_known_before_anything_is_built(self) -> None:
        family = self.make()
        costs = [family.cost(architecture) for architecture in self.architectures()]
        assert all(cost.macs >= 0 and cost.params >= 0 for cost in costs)
        assert [family.cost(architecture) for architecture in self.architectures()] == costs

    def test_costs_of_many_are_those_of_each(self) -> None:
        family = self.make()
        rows = family.space.draw(self.samples, np.random.default_rng(1))
        for name, values in family.costs(family.space, rows).items():
            each = [family.cost(family.space.at(row)).as_metrics()[name] for row in rows]
            assert values.tolist() == each, name

    def test_what_is_scaled_by_hand_or_recommended_meets_the_budget(self) -> None:
        family = self.make()
        budget = Budget({"macs": Window(max=max(family.cost(family.default).macs // 2, 1))})
        for architecture in (*family.scaled(budget).values(), *family.recommended(budget).values()):
            assert family.space.validate(architecture) == architecture
            assert budget.admits(family.cost(architecture))

    def test_the_stated_parameters_are_those_of_the_network(self) -> None:
        import torch

        family = self.make()
        for architecture in self.architectures():
            with torch.device("meta"):
                network = family.build(architecture)
            weights = sum(parameter.numel() for parameter in network.parameters())
            assert weights in (0, family.cost(architecture).params), architecture

    def test_every_label_is_described(self) -> None:
        family = self.make()
        assert all(family.describe(label) for label in family.space.labels)


class EvaluationCases:
    """Cases for an evaluator; write `make` and `model`, with settings that take seconds."""

    architecture: ClassVar[Architecture] = {}
    """Of the model."""

    def make(self) -> Evaluation:
        """Construct the evaluation."""
        raise NotImplementedError

    def model(self) -> torch.nn.Module:
        """A fresh network that it can train, always the same."""
        raise NotImplementedError

    def evaluate(self, output: Path, reports: list[dict[str, float]] | None = None, seed: int = 0) -> dict[str, Any]:
        """Run one trial."""
        evaluation = self.make()
        evaluation.prepare()
        evaluation.prepare()  # every trial does it again
        output.mkdir(parents=True, exist_ok=True)
        heard: list[dict[str, float]] = [] if reports is None else reports
        context = TrialContext(self.architecture, output, seed, lambda metrics: heard.append(dict(metrics)))
        return evaluation.evaluate(self.model(), context)

    def test_equal_settings_mean_equal_scores(self) -> None:
        assert self.make().protocol == self.make().protocol != ""

    def test_metrics_are_finite_numbers_by_name(self, tmp_path: Path) -> None:
        reports: list[dict[str, float]] = []
        metrics = self.evaluate(tmp_path / "trial", reports)
        assert metrics
        for one in (metrics, *reports):
            for name, value in one.items():
                assert isinstance(name, str)
                assert isinstance(value, int | float), (name, value)
                assert math.isfinite(value), (name, value)
        json.dumps(metrics)

    def test_the_same_seed_gives_the_same_score(self, tmp_path: Path) -> None:
        one, two = self.evaluate(tmp_path / "one"), self.evaluate(tmp_path / "two")
        timed = {name for name in one if "second" in name}
        assert {k: v for k, v in one.items() if k not in timed} == {k: v for k, v in two.items() if k not in timed}

    def test_it_writes_into_its_output_folder_only(self, tmp_path: Path) -> None:
        before = set(Path.cwd().iterdir())
        self.evaluate(tmp_path / "trial")
        assert {file.name for file in tmp_path.iterdir()} == {"trial"}
        assert set(Path.cwd().iterdir()) <= before | {Path.cwd() / ".pytest_cache"}
