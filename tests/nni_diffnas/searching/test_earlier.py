"""What trials of earlier searches tell this one."""

from __future__ import annotations

import pytest
from small_search import ORIGIN, SPACE, Fixed

from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import RegularizedEvolution
from nni_diffnas.testing import SmallFamily


def test_warm_start_reaches_the_strategy_before_its_first_suggestion() -> None:
    earlier = Search(Fixed(Suggestion({"a": 1, "b": True}, "x")), SPACE)
    done = earlier.tell(earlier.ask(1)[0].id, {"rfid": 1.0})
    search = Search(
        Fixed(Suggestion({"a": 1, "b": True}, "x"), Suggestion({"a": 2, "b": True}, "x"), warm_start=[done]), SPACE
    )
    assert search.strategy.seen == [done]
    assert search.warm_start == "of 1 trials of warm_start 1 count"
    assert [trial.architecture["a"] for trial in search.ask(2)] == [2]


@pytest.mark.parametrize(
    "useless",
    [
        Trial("old", "e", {"a": 1, "b": True}, ORIGIN),
        Trial("old", "e", {"a": 1, "b": True}, ORIGIN, protocol="other").succeeded({"rfid": 0.1}),
        Trial("old", "e", {"a": 9, "b": True}, ORIGIN).succeeded({"rfid": 0.1}),
        Trial("old", "e", {"a": 1}, ORIGIN).succeeded({"rfid": 0.1}),
    ],
    ids=["pending", "another protocol", "outside the space", "another space"],
)
def test_a_warm_start_takes_only_what_can_be_compared(useless: Trial) -> None:
    search = Search(Fixed(Suggestion({"a": 1, "b": True}, "x"), warm_start=[useless]), SPACE)
    assert (search.strategy.seen, search.trials, search.pending) == ([], [], [])
    assert search.warm_start.startswith("of 1 trials of warm_start 0 count: the others have not ended, lie outside")
    assert search.warm_start.endswith(", as by 'other' instead of ''") == (useless.protocol == "other")
    assert len(search.ask(1)) == 1, "it may be trained again"


def test_own_trials_in_the_file_of_a_warm_start_are_no_earlier_ones() -> None:
    done = Trial("e-0000", "e", {"a": 1, "b": True}, ORIGIN).succeeded({"rfid": 1.0})
    search = Search(Fixed(Suggestion({"a": 2, "b": True}, "x"), warm_start=[done]), SPACE, experiment="e")
    assert search.warm_start == ""
    assert (search.strategy.seen, search.trials) == ([], []), "a resume brings them, and would bring them twice"


def test_scores_of_another_protocol_set_no_threshold_and_father_no_child() -> None:
    family = SmallFamily()
    easy = [
        Trial(f"w{width}", "old", {**family.default, "width": width}, ORIGIN, protocol="other").succeeded(
            {"rfid": 0.01, "rfid@25": 0.01}
        )
        for width in (8, 16, 24, 32)
    ]
    search = Search(
        RegularizedEvolution(warm_start=easy, halving=2, population=2, sample=2), family.space, family, "mine"
    )
    for kind in ("default", "random", "random"):
        (trial,) = search.ask(1)
        assert trial.origin.kind == kind
        search.tell(trial.id, {"rfid": 50.0, "rfid@25": 60.0})
    (child,) = search.ask(1)
    assert search.parameters(child)["run.stop.rfid@25"] == 60.0
    assert child.origin.parent in {trial.id for trial in search.trials}
    assert not str(child.origin.parent).startswith("w")
