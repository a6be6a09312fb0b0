"""`DiffusionGuided` as a strategy: learning, budget, objectives, resume, bad input."""

import math

import numpy as np
import pytest
from botorch.acquisition.multi_objective import logei as multi_objective

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Space
from nni_diffnas.search_spaces import TableFamily, UNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided
from nni_diffnas.table import Table

SPACE = Space(dict.fromkeys("abcde", (0, 1, 2)), (("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")))


@pytest.fixture
def make():
    kept: dict[str, bytes] = {}

    def cache(name, make):
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def made(**options):
        plain = {"training_steps": 10, "candidates": 32, "sampler_steps": 5, "cache": cache}
        return DiffusionGuided(**{"objective": "score", "direction": "maximize", **plain, **options})

    return made


def score(architecture) -> float:
    values = np.array([int(value) for value in architecture.values()])
    return float(-np.abs(values - np.array([2, 0, 2, 0, 2])[: len(values)]).sum())


def run(search, trials: int, value=score) -> list[str]:
    keys = []
    for _ in range(trials):
        for trial in search.ask(1):
            keys.append(search.space.key_of(trial.architecture))
            search.tell(trial.id, {"score": value(trial.architecture)})
    return keys


def test_finds_the_best_of_243_in_a_few_trials(make) -> None:
    search = Search(make(seed=1), SPACE)
    run(search, 16)
    assert max(trial.metrics["score"] for trial in search.trials) == 0
    kinds = [trial.origin.kind for trial in search.trials]
    assert kinds[:4] == ["start"] * 4
    assert set(kinds[4:]) == {"guided"}
    assert search.strategy.pool.invalid == 0
    assert search.strategy.pool.generated > 100


def test_candidates_below_the_highest_peak_reach_it_though_another_one_is_better(make) -> None:
    search = Search(make(train_first="none"), SPACE)
    encoding = search.strategy.generator.encoding
    low, high = (dict.fromkeys("abcde", value) for value in (0, 2))

    def peaks(p):
        """A peak of 3 at all zeros, and one of 5 at all twos."""
        agree = [(p * encoding.one_hot(encoding.indices([peak]))).sum((1, 2)) for peak in (low, high)]
        return (agree[0] - 2.0).maximum(agree[1])

    found = [low, {**high, "a": 0, "b": 0, "c": 1}, {**high, "a": 1, "b": 1, "c": 1}]
    assert peaks(encoding.one_hot(encoding.indices(found))).tolist() == [3.0, 2.0, 2.0]
    assert search.strategy._most_promising(found, [], peaks) == high
    best = search.strategy._most_promising(found, [high], peaks)
    assert sum(best[label] != high[label] for label in best) == 1, "what is taken is passed by"


def test_same_history_same_suggestion_after_a_resume(make) -> None:
    one = Search(make(seed=3), SPACE)
    run(one, 6)
    snapshot, trials = one.snapshot(), one.trials
    two = Search(make(seed=3), SPACE, experiment=one.experiment)
    two.restore(trials, snapshot)
    assert run(one, 3) == run(two, 3)


def test_batches_hold_distinct_architectures_and_count_the_pending(make) -> None:
    search = Search(make(), SPACE)
    run(search, 5)
    asked = search.ask(3) + search.ask(2)
    assert len({SPACE.key_of(trial.architecture) for trial in asked}) == 5


@pytest.mark.parametrize("options", [{"surrogate": "ensemble"}, {"guidance": "noise-aware"}])
def test_other_surrogate_and_guidance_learn_too(make, options) -> None:
    search = Search(make(**options), SPACE)
    run(search, 10)
    assert max(trial.metrics["score"] for trial in search.trials) >= -2
    asked = search.ask(2)
    assert asked[0].architecture != asked[1].architecture


def test_budget_and_front_on_a_unet(make) -> None:
    family = UNetFamily("digits")
    strategy = make(budget=Budget({"macs": Window(4e6, 5e6)}), objectives=["params"], unguided=2)
    search = Search(strategy, family.space, family)
    run(search, 8, lambda a: math.log(family.cost(a).macs))
    assert search.trials[0].origin.kind == "reference"  # the default network, which the budget forbids
    assert all(4e6 <= trial.cost.macs <= 5e6 for trial in search.trials[1:])
    assert search.trials[-1].origin.kind == "guided"
    assert multi_objective._C is None, "nothing was compiled"


@pytest.mark.parametrize("value", [lambda a: 1.0, lambda a: math.inf, lambda a: math.nan])
def test_constant_or_infinite_scores_do_not_stop_the_search(make, value) -> None:
    search = Search(make(), SPACE)
    assert len(set(run(search, 6, value))) == 6


def test_failed_trials_do_not_stop_the_search(make) -> None:
    search = Search(make(), SPACE)
    for i in range(8):
        (trial,) = search.ask(1)
        if i % 2:
            search.tell_failed(trial.id, "diverged")
        else:
            search.tell(trial.id, {"score": score(trial.architecture)})
    assert search.trials[-1].origin.kind == "guided"


def test_small_spaces_are_exhausted_and_then_the_search_ends(make) -> None:
    for space, size in ((Space({"a": (1,)}), 1), (Space({"a": (0, 1, 2)}), 3)):
        search = Search(make(), space)
        assert len(run(search, size)) == size
        assert search.ask(1) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unguided": 1}, "unguided is 1"),
        ({"strength": math.inf}, "strength is inf"),
        ({"strength": 1e308}, "strength is 1e\\+308"),
        ({"surrogate": "forest"}, "surrogate is 'forest'"),
        ({"objectives": ["score"]}, "without score"),
    ],
)
def test_options_out_of_range_are_refused(make, options, message) -> None:
    with pytest.raises(StrategyError, match=message):
        make(**options)


@pytest.mark.parametrize("further", [lambda value: 2.0 - value, lambda value: 1.0], ids=["against it", "constant"])
def test_a_further_objective_that_trials_measure_is_fitted_as_well(make, further) -> None:
    search = Search(make(objectives=["error"]), SPACE)
    for _ in range(8):
        (trial,) = search.ask(1)
        value = score(trial.architecture)
        search.tell(trial.id, {"score": value, "error": further(value)})
    assert search.trials[-1].origin.kind == "guided"


def test_a_further_objective_that_nothing_states_is_refused(make) -> None:
    search = Search(make(objectives=["speed"]), SPACE)
    run(search, 4)
    with pytest.raises(StrategyError, match="objectives names 'speed', which no trial so far has measured"):
        search.ask(1)
    table = Table(SPACE, np.zeros((1, len(SPACE.choices)), int), ("score",), np.zeros((1, 1)), "score", "score")
    with pytest.raises(StrategyError, match="objectives names 'macs', which the search space does not state"):
        Search(make(objectives=["macs"]), SPACE, TableFamily.of(table))
