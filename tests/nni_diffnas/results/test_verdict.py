"""What follows from the scores: who is by hand, who is better, at what level; and files that are read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import JobError
from nni_diffnas.api.trial import BY_HAND, Objective
from nni_diffnas.results.intervals import LOOKS
from nni_diffnas.results.verdict import DEFAULT, VERDICT_FILE, WINNER, Judged, Verdict, read_verdict

FOUND = Judged(WINNER, WINNER, (1.0, 1.01, 0.99), Cost(2_000_000, 30_000), "e-0007", ("winner-1", "winner-2"))
NARROWER = Judged("by hand (narrower)", BY_HAND, (2.0, 2.1, 1.9), Cost(2_000_000, 50_000))
SHALLOWER = Judged("by hand (shallower)", BY_HAND, (3.0, 3.1, 2.9))
WHOLE = Judged(DEFAULT, DEFAULT, (0.9, 1.1, 1.0), Cost(8_000_000, 40_000))


def verdict(*networks: Judged, **changes: object) -> Verdict:
    return replace(Verdict(Objective(), networks, Path("out")), **changes)


def test_the_best_by_hand_is_what_has_to_be_beaten() -> None:
    found = verdict(FOUND, SHALLOWER, NARROWER, WHOLE)
    assert found.winner is FOUND
    assert found.by_hand is found.yardstick is NARROWER
    assert found.default is WHOLE
    assert found.better is True
    assert found.beats(WHOLE) is None
    assert verdict(FOUND, WHOLE).yardstick is WHOLE
    assert verdict(FOUND, WHOLE).better is None
    assert verdict(FOUND).better is None


def test_the_direction_turns_better_and_best() -> None:
    turned = verdict(FOUND, NARROWER, SHALLOWER, objective=Objective("accuracy", "maximize"))
    assert turned.by_hand is SHALLOWER
    assert turned.better is False


def test_of_several_networks_by_hand_each_has_to_be_beaten() -> None:
    unsure = replace(SHALLOWER, scores=(0.5, 6.0, 2.5))
    assert verdict(FOUND, NARROWER).better is True
    assert verdict(FOUND, NARROWER, unsure).by_hand is NARROWER
    assert verdict(FOUND, NARROWER, unsure).better is None, "the other one may be the better of the two"
    ahead = replace(NARROWER, scores=(0.5, 0.51, 0.49))
    assert verdict(FOUND, ahead, unsure).better is False, "one that is ahead is enough"


def test_the_level_pays_for_looks_and_for_choosing_among_networks_by_hand() -> None:
    found = verdict(FOUND, NARROWER, SHALLOWER, WHOLE, looks=LOOKS)
    assert found.level(NARROWER) == pytest.approx(1 - 0.05 / 8)
    assert found.level(WHOLE) == pytest.approx(1 - 0.05 / 4)
    assert verdict(FOUND, NARROWER, WHOLE).level(NARROWER) == pytest.approx(0.95)


def test_pairing_takes_out_what_the_seeds_have_in_common() -> None:
    a, b = replace(FOUND, scores=(10.0, 20.0, 30.0)), replace(NARROWER, scores=(12.0, 24.1, 36.0))
    assert verdict(a, b).better is None
    assert verdict(a, b, paired=True).better is True


def test_the_share_is_that_of_the_quantity_of_the_budget() -> None:
    assert verdict(FOUND, NARROWER, WHOLE).share == 0.25
    assert verdict(FOUND, NARROWER, WHOLE, quantity="params").share == 0.75
    assert verdict(FOUND, NARROWER, WHOLE, quantity="latency_ms").share is None
    assert verdict(FOUND, NARROWER).share is None


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    assert read_verdict(tmp_path) is None
    (tmp_path / "verdict").mkdir()
    saved = verdict(
        FOUND, NARROWER, SHALLOWER, WHOLE, output=tmp_path / "verdict", looks=LOOKS, longer=4.0, paired=True
    )
    saved.save()
    assert read_verdict(tmp_path) == saved


def test_a_file_of_version_0_1_is_read(tmp_path: Path) -> None:
    costs = [{"macs": 2, "params": 3, "latency_ms": None}, {"macs": 8, "params": 4, "latency_ms": None}]
    body = {"objective": {"metric": "rfid", "direction": "minimize"}, "winner": [1.0, 1.1], "default": [3.0, 3.2]}
    (tmp_path / VERDICT_FILE).write_text(json.dumps({**body, "trial": "e-0007", "costs": costs}))
    (tmp_path / "winner-10000").mkdir()
    found = Verdict.load(tmp_path / VERDICT_FILE)
    assert (found.winner.scores, found.winner.trial, found.winner.runs) == ((1.0, 1.1), "e-0007", ("winner-10000",))
    assert found.default is not None
    assert (found.default.scores, found.by_hand, found.share) == ((3.0, 3.2), None, 0.25)
    (tmp_path / VERDICT_FILE).write_text(json.dumps({**body, "trial": "", "costs": []}))
    assert Verdict.load(tmp_path / VERDICT_FILE).share is None


@pytest.mark.parametrize("text", ["", "[]", '{"objective": {"metric": "rfid"}}', '{"objective": {}, "networks": [1]}'])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / VERDICT_FILE).write_text(text)
    with pytest.raises(JobError, match="cannot be read: compute it again"):
        Verdict.load(tmp_path / VERDICT_FILE)
