"""Many networks trained up to the first rung, few of them to their end."""

import math
from collections.abc import Callable

import pytest

from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import UNRANKED, Trial
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import DiffusionGuided

SPACE = Space(dict.fromkeys("abcde", (0, 1, 2)))


def make(**options) -> DiffusionGuided:
    plain = {"training_steps": 5, "candidates": 32, "sampler_steps": 4, "cache": lambda name, make: make()}
    return DiffusionGuided(**{"objective": "loss", "halving": 4, "promote": True, **plain, **options})


def loss_of(trial: Trial) -> float:
    return 1.0 + sum(trial.architecture.values())


def train(search: Search, trial: Trial, loss: Callable[[Trial], float] = loss_of) -> Trial:
    """As an evaluator does: it ends at the first rung whose threshold it passes."""
    parameters, measured = search.parameters(trial), {}
    for at, more in ((25, 2.0), (50, 1.5)):
        measured[f"loss@{at}"] = more * loss(trial)
        if measured[f"loss@{at}"] > parameters.get(f"run.stop.loss@{at}", math.inf):
            return search.tell(trial.id, {**measured, UNRANKED: 1.0})
    return search.tell(trial.id, {**measured, "loss": loss(trial)})


def searched(search: Search, trials: int, loss: Callable[[Trial], float] = loss_of) -> list[Trial]:
    return [train(search, trial, loss) for _ in range(trials) for trial in search.ask(1)]


def test_one_of_four_is_trained_to_its_end_and_it_is_the_best_that_waits() -> None:
    search = Search(make(), SPACE)
    trials = searched(search, 26)
    kinds = [trial.origin.kind for trial in trials]
    assert "loss" in trials[0].metrics, "as long as no rung is known, a trial goes to its end"
    assert [at for at, kind in enumerate(kinds) if kind == "promoted"] == [5, 10, 15, 20, 25]
    assert set(kinds[11:]) == {"guided", "promoted"}
    for trial in trials[1:]:
        assert ("loss" in trial.metrics) <= (trial.origin.kind == "promoted")
        assert ("loss@50" in trial.metrics) == (trial.origin.kind == "promoted"), "the others end at the first rung"
    first = trials[5]
    assert loss_of(first) == min(map(loss_of, trials[1:5]))
    begun_as = next(trial for trial in trials if trial.id == first.origin.parent)
    assert begun_as.architecture == first.architecture
    briefly = [SPACE.key_of(trial.architecture) for trial in trials if trial.origin.kind != "promoted"]
    assert len(set(briefly)) == len(briefly), "nothing is trained briefly twice"
    promoted = [SPACE.key_of(trial.architecture) for trial in trials if trial.origin.kind == "promoted"]
    assert len(set(promoted)) == len(promoted) <= len(set(promoted) & set(briefly))


def test_what_was_trained_further_teaches_once() -> None:
    search = Search(make(), SPACE)
    trials = searched(search, 12)
    known = search.strategy.observations.known(search.strategy.observations.scored, [])
    assert len(known.matrices) == len({SPACE.key_of(trial.architecture) for trial in trials}) == 10


def test_a_batch_counts_what_is_about_to_begin_and_what_failed_is_not_promoted_again() -> None:
    search = Search(make(), SPACE)
    searched(search, 5)
    asked = search.ask(3)
    assert [trial.origin.kind for trial in asked] == ["promoted", "start", "start"]
    search.tell_failed(asked[0].id, "diverged")
    for trial in asked[1:]:
        train(search, trial)
    (again,) = search.ask(1)
    assert again.origin.kind == "promoted"
    assert again.architecture != asked[0].architecture


def test_same_history_same_suggestion_after_a_resume() -> None:
    one = Search(make(seed=2), SPACE)
    searched(one, 14)
    two = Search(make(seed=2), SPACE, experiment=one.experiment)
    two.restore(one.trials, one.snapshot())

    def seen(search: Search) -> list[tuple[str, str]]:
        return [(SPACE.key_of(trial.architecture), trial.origin.kind) for trial in searched(search, 4)]

    assert seen(one) == seen(two)


def test_a_small_space_is_trained_to_its_end_and_then_the_search_ends() -> None:
    search = Search(make(), Space({"a": (0, 1, 2)}))
    trials = searched(search, 10)
    assert len(trials) == 5
    assert sum("loss" in trial.metrics for trial in trials) == 3
    assert search.ask(1) == []


def test_losses_that_are_all_the_same_do_not_stop_the_search() -> None:
    trials = searched(Search(make(), SPACE), 22, lambda trial: 1.0)
    assert sum("loss" in trial.metrics for trial in trials) == 5


def test_promoting_without_halving_is_refused() -> None:
    with pytest.raises(StrategyError, match="promote is given without halving"):
        make(halving=None)
