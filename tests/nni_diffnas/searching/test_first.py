"""What is trained before the strategy is asked."""

from __future__ import annotations

import pytest
from small_search import ORIGIN

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.errors import StrategyError
from nni_diffnas.api.family import Family
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import BY_HAND, RECOMMENDED, REFERENCE, Origin, Trial
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import RandomSearch
from nni_diffnas.testing import SmallFamily


class Scalable(SmallFamily):
    """Its default has 32,000 MACs; by hand there are two ways to 16,000, one of them twice, and one that is none."""

    def scaled(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        narrower = {**self.default, "width": 8}
        shallower = {**self.default, "depth": 1}
        return {"narrower": narrower, "again": dict(narrower), "shallower": shallower, "none": self.default}


class Studied(Scalable):
    """Recommends one of those by hand, a further one, and one that no budget of these tests admits."""

    def recommended(self, budget: Budget, within: Family | None = None) -> dict[str, Architecture]:
        again, both = {**self.default, "depth": 1}, {**self.default, "width": 8, "depth": 1}
        return {"again": again, "both": both, "large": {**self.default, "depth": 3}}


SMALL = Budget({"macs": Window(max=20_000)})


def kinds(search: Search, count: int) -> list[str]:
    return [trial.origin.kind for _ in range(count) for trial in search.ask(1)]


def test_where_the_budget_excludes_the_default_its_versions_by_hand_come_next() -> None:
    family = Scalable()
    search = Search(RandomSearch(budget=SMALL), family.space, family)
    assert kinds(search, 4) == [REFERENCE, BY_HAND, BY_HAND, "random"]
    assert [t.architecture for t in search.trials[1:3]] == [
        {**family.default, "width": 8},
        {**family.default, "depth": 1},
    ]
    assert all(not trial.settings for trial in search.trials[1:]), "they are candidates"
    assert search.first() == []


def test_where_the_budget_admits_the_default_it_comes_alone() -> None:
    family = Scalable()
    assert kinds(Search(RandomSearch(), family.space, family), 2) == ["default", "random"]
    assert kinds(Search(RandomSearch(budget=SMALL, train_first="none"), family.space, family), 2) == ["random"] * 2
    with pytest.raises(StrategyError, match="train_first is 'default': use 'all', 'default and by hand', 'none'"):
        RandomSearch(train_first="default")


def test_what_the_family_recommends_is_trained_after_those_by_hand() -> None:
    family = Studied()
    search = Search(RandomSearch(budget=SMALL), family.space, family)
    assert kinds(search, 5) == [REFERENCE, BY_HAND, BY_HAND, RECOMMENDED, "random"]
    assert search.trials[3].architecture == family.space.validate({**family.default, "width": 8, "depth": 1})
    yardsticks = Search(RandomSearch(budget=SMALL, train_first="default and by hand"), family.space, family)
    assert kinds(yardsticks, 4) == [REFERENCE, BY_HAND, BY_HAND, "random"]


def test_the_recommended_ones_can_be_stopped_unlike_those_by_hand() -> None:
    family = Studied()
    search = Search(RandomSearch(budget=SMALL, halving=2), family.space, family)
    for _ in range(3):
        (trial,) = search.ask(1)
        assert not any("@" in name for name in search.parameters(trial))
        search.tell(trial.id, {"rfid": 1.0, "rfid@25": 2.0})
    (trial,) = search.ask(1)
    assert trial.origin.kind == RECOMMENDED
    assert any("@" in name for name in search.parameters(trial))


def test_a_resume_among_the_first_goes_on_with_the_rest() -> None:
    family = Scalable()
    begun = Search(RandomSearch(budget=SMALL, seed=1), family.space, family, experiment="e")
    begun.ask(2)
    resumed = Search(RandomSearch(budget=SMALL, seed=1), family.space, family, experiment="e")
    resumed.restore(begun.trials, begun.snapshot())
    assert kinds(resumed, 2) == [BY_HAND, "random"] == kinds(begun, 2)


def test_a_search_that_has_gone_past_its_first_ones_trains_none_by_hand() -> None:
    family = Scalable()
    done = [
        Trial("e-0000", "e", family.default, Origin("RandomSearch", REFERENCE), settings={REFERENCE: True}),
        Trial("e-0001", "e", {**family.default, "width": 8, "depth": 1}, ORIGIN),
    ]
    search = Search(RandomSearch(budget=SMALL), family.space, family, experiment="e")
    search.restore(done, {})
    assert kinds(search, 1) == ["random"]


@pytest.mark.parametrize("seed", [-1, 1.5, "a", 2**31])
def test_a_seed_is_a_whole_number(seed) -> None:
    with pytest.raises(StrategyError, match=r"seed is .*: give a whole number from 0 to 2147483647"):
        RandomSearch(seed=seed)
