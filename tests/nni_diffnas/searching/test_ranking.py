from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.trial import REFERENCE, UNRANKED, Objective, Origin, Trial
from nni_diffnas.results.verdict import VERDICT_FILE, Verdict
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


def test_trials_that_cannot_be_ranked_are_trials_too() -> None:
    halved = replace(trial(2, 9.0), metrics={"rfid@25": 9.0, UNRANKED: 1.0})
    broken = [Trial(f"t{i}", "e", {"a": i}, Origin("s", "random")).failed("out of memory") for i in (3, 4)]
    said = Outcome.of([trial(0, 5.0), halved, *broken, Trial("t5", "e", {}, Origin("s", "random"))], Objective())
    assert "2 of 4 trials failed" in said.describe()


def test_no_success_is_said() -> None:
    assert "No trial succeeded" in Outcome.of([], Objective()).describe()


def test_verdict_interval_is_the_paired_student_interval() -> None:
    verdict = Verdict(Objective(), winner=(1.0, 2.0, 3.0), default=(2.0, 4.0, 6.0), output=Path("out"))
    # Differences -1, -2, -3: mean -2, deviation 1, t(0.975, 2) = 4.302653.
    low, high = verdict.interval
    assert math.isclose(high, -2 + 4.302653 / math.sqrt(3), rel_tol=1e-6)
    assert math.isclose(low, -2 - 4.302653 / math.sqrt(3), rel_tol=1e-6)
    assert verdict.better is None
    assert "no difference" in verdict.describe()


def test_verdict_says_what_the_winner_costs(tmp_path: Path) -> None:
    verdict = Verdict(Objective(), winner=(1.0, 2.0), default=(2.0, 4.0), output=tmp_path)
    assert "of the default." not in verdict.describe()
    cheap = replace(verdict, costs=(Cost(2_000_000, 30_000), Cost(8_000_000, 40_000)))
    assert "needs 25% of the MACs and 75% of the parameters of the default" in cheap.describe()
    cheap.save()
    assert Verdict.load(tmp_path / VERDICT_FILE) == cheap


def test_verdict_knows_the_direction() -> None:
    clear = Verdict(Objective(), winner=(1.0, 1.01, 0.99), default=(2.0, 2.0, 2.0), output=Path("out"))
    assert clear.better is True
    turned = Verdict(Objective("accuracy", "maximize"), clear.winner, clear.default, Path("out"))
    assert turned.better is False
