from __future__ import annotations

import math
from dataclasses import replace

from nni_diffnas.api.trial import BY_HAND, RECOMMENDED, REFERENCE, UNRANKED, Objective, Origin, Trial
from nni_diffnas.searching.ranking import Outcome


def trial(number: int, value: float, kind: str = "random") -> Trial:
    return Trial(f"t{number}", "e", {"a": number}, Origin("s", kind)).succeeded({"rfid": value})


def test_ranks_and_describes_best_median_and_default() -> None:
    trials = [trial(0, 5.0, "default"), trial(1, 3.0), trial(2, 9.0), trial(3, 4.0), trial(4, math.nan)]
    trials.append(Trial("t5", "e", {"a": 5}, Origin("s", "random")).failed("out of memory"))
    outcome = Outcome.of(trials, Objective("rfid", "minimize"))
    assert [t.id for t in outcome.ranked] == ["t1", "t3", "t0", "t2"]
    assert outcome.median is not None
    assert outcome.median.id == "t3"
    assert outcome.default is not None
    assert outcome.default.id == "t0"
    text = outcome.describe()
    assert "a=1" in text
    assert "1 of 6 trials failed" in text
    assert Outcome.of(trials, Objective("rfid", "maximize")).ranked[0].id == "t2"


def test_a_default_network_that_stays_ahead_is_said_and_the_next_best_challenges_it() -> None:
    again = Trial("t1", "e", {"a": 0}, Origin("s", "random")).succeeded({"rfid": 3.5})  # the default network once more
    outcome = Outcome.of([trial(0, 3.0, "default"), again, trial(2, 4.0)], Objective())
    assert outcome.challenger is not None
    assert outcome.challenger.id == "t2"
    assert "No trial beat the default network; the next best is t2 (4)" in outcome.describe()
    better = Outcome.of([trial(0, 3.0, "default"), trial(2, 2.0)], Objective())
    assert better.challenger is better.best
    assert "No trial beat" not in better.describe()
    assert Outcome.of([trial(0, 3.0, "default")], Objective()).challenger is None


def test_the_best_network_by_hand_has_its_own_line() -> None:
    trials = [trial(0, 9.0, BY_HAND), trial(1, 5.0, BY_HAND), trial(2, 4.0), trial(3, 8.0)]
    outcome = Outcome.of(trials, Objective())
    assert outcome.by_hand is trials[1]
    assert [line.split()[:2] for line in outcome.describe().splitlines()[1:4]] == [
        ["best", "4"], ["by", "hand"], ["median", "5"],
    ]  # fmt: skip
    assert "No trial beat" not in outcome.describe()
    assert "by hand" not in Outcome.of(trials[2:], Objective()).describe()


def test_a_recommended_network_that_stays_ahead_is_said() -> None:
    trials = [trial(0, 9.0, BY_HAND), trial(1, 4.0, RECOMMENDED), trial(2, 5.0)]
    outcome = Outcome.of(trials, Objective())
    assert outcome.challenger is trials[1]
    assert outcome.known == {"by hand": trials[0], "recommended": trials[1]}
    titles = [line[:11].strip() for line in outcome.describe().splitlines()[1:6]]
    assert titles == ["best", "by hand", "recommended", "median", "default"]
    assert "The best is the network that the space recommends for this budget" in outcome.describe()
    assert "recommends" not in Outcome.of([*trials, trial(3, 3.0)], Objective()).describe()


def test_what_is_behind_the_network_by_hand_is_not_called_best_without_saying_so() -> None:
    again = Trial("t9", "e", {"a": 1}, Origin("s", "random")).succeeded({"rfid": 3.0})  # the same by hand once more
    outcome = Outcome.of([trial(0, 9.0, BY_HAND), trial(1, 3.1, BY_HAND), again, trial(2, 4.0)], Objective())
    assert outcome.challenger is not None
    assert outcome.challenger.id == "t2"
    assert "No trial beat the network by hand; the next best is t2 (4)" in outcome.describe()
    both = Outcome.of([trial(0, 2.0, "default"), trial(1, 3.1, BY_HAND), trial(2, 4.0)], Objective())
    assert "No trial beat the network by hand or the default network; the next best is t2" in both.describe()
    turned = Outcome.of([trial(1, 3.1, BY_HAND), trial(2, 4.0)], Objective("rfid", "maximize"))
    assert "No trial beat" not in turned.describe()
    teacher = Trial("t0", "e", {"a": 0}, Origin("s", REFERENCE)).succeeded({"rfid": 1.0, UNRANKED: 1.0})
    said = Outcome.of([teacher, trial(1, 3.1, BY_HAND), trial(2, 4.0)], Objective()).describe()
    assert "No trial beat the network by hand; the next best is t2" in said
    assert "The default network, which is no candidate here, has the better rfid (1)." in said


def test_a_reference_is_compared_with_and_never_wins() -> None:
    teacher = Trial("t0", "e", {"a": 0}, Origin("s", REFERENCE)).succeeded({"rfid": 1.0, UNRANKED: 1.0})
    outcome = Outcome.of([teacher, trial(1, 3.0)], Objective())
    assert outcome.best is not None
    assert outcome.default is not None
    assert (outcome.best.id, outcome.default.id) == ("t1", "t0")
    said = "The default network, which is no candidate here, has the better rfid (1)."
    assert said in outcome.describe()
    assert said not in Outcome.of([teacher, trial(1, 0.5)], Objective()).describe()
    assert said not in Outcome.of([teacher, trial(1, 3.0)], Objective("rfid", "maximize")).describe()


def test_scores_that_are_all_equal_are_not_called_better() -> None:
    """As of trainings of a single step, after which all networks draw the same."""
    teacher = Trial("t0", "e", {"a": 0}, Origin("s", REFERENCE)).succeeded({"rfid": 3.0, UNRANKED: 1.0})
    said = Outcome.of([teacher, trial(1, 3.0, BY_HAND), trial(2, 3.0)], Objective()).describe()
    assert "The default network, which is no candidate here, has the same rfid (3)." in said
    assert "All 2 scored trials have the very same rfid, so that none is better than another" in said
    assert "very same" not in Outcome.of([trial(1, 3.0), trial(2, 3.0), trial(3, 4.0)], Objective()).describe()
    assert "very same" not in Outcome.of([trial(1, 3.0)], Objective()).describe()


def test_trials_that_cannot_be_ranked_are_trials_too() -> None:
    halved = replace(trial(2, 9.0), metrics={"rfid@25": 9.0, UNRANKED: 1.0})
    broken = [Trial(f"t{i}", "e", {"a": i}, Origin("s", "random")).failed("out of memory") for i in (3, 4)]
    said = Outcome.of([trial(0, 5.0), halved, *broken, Trial("t5", "e", {}, Origin("s", "random"))], Objective())
    assert "2 of 4 trials failed" in said.describe()


def test_no_success_is_said() -> None:
    assert "No trial succeeded" in Outcome.of([], Objective()).describe()
