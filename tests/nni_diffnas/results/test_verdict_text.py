"""The sentence that a user acts on, in all its variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.trial import BY_HAND, Objective
from nni_diffnas.results.intervals import LOOKS
from nni_diffnas.results.verdict import DEFAULT, WINNER, Judged, Verdict
from nni_diffnas.results.verdict_text import describe_verdict, gain_in_words, look_in_words, method_in_words

LOW, HIGH, SAME = (21.0, 22.0, 20.0), (25.0, 24.0, 26.0), (19.0, 24.0, 20.5)
WHOLE = Judged(DEFAULT, DEFAULT, (20.0, 21.5, 21.0), Cost(5_800_000, 190_000))


def verdict(found: tuple[float, ...], by_hand: tuple[float, ...] | None, **changes: object) -> Verdict:
    networks = [Judged(WINNER, WINNER, found, Cost(2_610_000, 80_000), "e-0007")]
    if by_hand is not None:
        networks.append(Judged("by hand", BY_HAND, by_hand, Cost(2_600_000, 90_000), "e-0001"))
    return replace(Verdict(Objective(), (*networks, WHOLE), Path("out")), **changes)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            verdict(LOW, HIGH),
            "At 45 % of the default's MACs the network found has 0.84 times the rfid of the best by hand (95 % "
            "interval 0.76 to 0.93, 3 fresh seeds each): the search gained 16 %; it has 1.01 times that of the default "
            "(0.91 to 1.11): not told apart from it.",
        ),
        (
            verdict(HIGH, LOW),
            "At 45 % of the default's MACs the network found has 1.19 times the rfid of the best by hand (95 % "
            "interval 1.08 to 1.32, 3 fresh seeds each): the search lost 19 %, it has not paid; it has 1.20 times that "
            "of the default (1.10 to 1.31): worse.",
        ),
        (
            verdict(SAME, LOW, looks=(2, 3), longer=4),
            ", 3 fresh seeds each, trained 4 times as long as in the search): they are not told apart within the limit "
            "of 3 seeds, and the search has not been shown to gain anything; it has",
        ),
        (verdict(SAME, LOW, looks=LOOKS), "they are not told apart yet, with 12 seeds as the limit, and the search"),
        (verdict(SAME, None), "times the rfid of the default (95 % interval"),
        (verdict(SAME, None), "3 fresh seeds each): they are not told apart."),
        (verdict((11.0, 10.0, 9.0), None), "times the rfid of the default"),
        (verdict((11.0, 10.0, 9.0), None), ": it is better."),
        (verdict(LOW, HIGH, objective=Objective("accuracy", "maximize")), "the search lost 16 %, it has not paid"),
        (verdict(HIGH, LOW, objective=Objective("accuracy", "maximize")), "the search gained 19 %"),
        (verdict(LOW, HIGH, quantity="params"), "At 42 % of the default's parameters the network found"),
        (verdict((-3.0, -3.1, -2.9), (1.0, 1.1, 0.9)), "has -4 rfid against the best by hand (95 % interval -4.2"),
        (verdict((-3.0, -3.1, -2.9), (1.0, 1.1, 0.9)), "the search gained 4; it has -23.83 against the default ("),
        (verdict((0.995, 0.9951, 0.9949), (1.0, 1.0001, 0.9999)), "0.995 times the rfid of the best by hand"),
        (verdict((0.995, 0.9951, 0.9949), (1.0, 1.0001, 0.9999)), "the search gained 0.5 %"),
    ],
)
def test_one_sentence_says_what_the_search_gained(found: Verdict, said: str) -> None:
    sentence = gain_in_words(found)
    assert said in sentence
    assert describe_verdict(found).splitlines()[-1] == sentence
    assert "\n" not in sentence


def test_a_recommended_network_is_no_gain_of_the_search() -> None:
    found = verdict(LOW, HIGH)
    recommended = replace(found.winner, recommended=True)
    said = gain_in_words(replace(found, networks=(recommended, *found.networks[1:])))
    assert said.startswith("At 45 % of the default's MACs the network that the space recommends has 0.84 times")
    assert "it is 16 % better, which was known without a search" in said
    assert "gained" not in said
    worse = verdict(HIGH, LOW)
    worse = replace(worse, networks=(replace(worse.winner, recommended=True), *worse.networks[1:]))
    assert "it is 19 % worse; it has" in gain_in_words(worse)


def test_a_winner_alone_has_nothing_to_be_compared_with() -> None:
    alone = replace(verdict(LOW, None), networks=verdict(LOW, None).networks[:1])
    assert gain_in_words(alone) == "The network found has 21 rfid; there was nothing to compare it with."
    assert "not decided, and this was the last look" in look_in_words(alone)


def test_a_student_is_compared_with_its_teacher() -> None:
    found = verdict(HIGH, None)
    teacher = replace(WHOLE, name="teacher")
    said = gain_in_words(replace(found, networks=(found.winner, teacher)))
    assert "of the teacher's MACs" in said
    assert "times the rfid of the teacher (" in said


def test_the_table_has_every_network_and_the_winner_against_each_other() -> None:
    lines = describe_verdict(verdict(LOW, HIGH)).splitlines()
    assert lines[0] == "rfid on held-out images, 3 fresh seeds:"
    assert lines[1] == "  winner   21  (21, 22, 20)  2.61 MMACs, 80 k params  (e-0007)"
    assert lines[4] == "  winner / by hand: 0.84 times [0.76, 0.93], difference -4 [-6.267, -1.733]"
    assert lines[5].startswith("  winner / default: ")


def test_the_method_is_stated() -> None:
    assert "unpaired (Welch's t" in method_in_words(verdict(LOW, HIGH))
    assert "Bonferroni" not in method_in_words(verdict(LOW, HIGH))
    assert "paired by seed (Student's t)" in method_in_words(verdict(LOW, HIGH, paired=True))
    looks = method_in_words(verdict(LOW, HIGH, looks=LOOKS))
    assert "for all 4 looks, after 3, 6, 9 and 12 seeds: each interval is one of 98.75 % (Bonferroni)" in looks
    two = verdict(LOW, HIGH)
    other = Judged("by hand (other)", BY_HAND, HIGH)
    said = method_in_words(replace(two, networks=(*two.networks, other)))
    assert "for each of 2 networks by hand" in said
    assert "97.5 %" in said


def test_a_look_says_whether_it_goes_on() -> None:
    assert look_in_words(verdict(LOW, HIGH, looks=LOOKS)).startswith("after 3 seeds, winner / by hand: 0.84 times [")
    assert look_in_words(verdict(LOW, HIGH, looks=LOOKS)).endswith("; decided")
    assert look_in_words(verdict(SAME, LOW, looks=LOOKS)).endswith("; not decided, 3 more of each")
    assert look_in_words(verdict(SAME, LOW, looks=(2, 3))).endswith("; not decided, and this was the last look")
