"""What a report is made of."""

from __future__ import annotations

from pathlib import Path

from nni_diffnas.api.space import Architecture, Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.memory import SearchMemory
from nni_diffnas.report import read_source

EARLIER = Space({"width": (8, 16), "attention": (False, True)})
TODAY = Space(
    {"width": (8, 16), "block": ("plain", "gated"), "attention": ("none", "softmax")},
    stock={"block": "plain"},
    former={"attention": ((False, "none"), (True, "softmax"))},
)


def trial(name: str, architecture: Architecture, protocol: str = "p") -> Trial:
    origin = Origin("RandomSearch", "random")
    return Trial(name, "e", architecture, origin, "succeeded", {"rfid": 1.0}, protocol=protocol)


def test_trials_of_an_earlier_release_are_ranked_with_those_of_this_one(tmp_path: Path) -> None:
    file = tmp_path / "memory.sqlite"
    with SearchMemory(file) as memory:
        memory.add(trial("old", {"width": 8, "attention": True}), EARLIER)
        memory.add(trial("alien", {"width": 8, "attention": True}, protocol="q"), EARLIER)
        memory.add(trial("new", {"width": 16, "block": "gated", "attention": "none"}), TODAY)
    source = read_source(str(file))
    assert [each.id for each in source.trials] == ["old", "new"]
    assert source.trials[0].architecture == {"width": 8, "block": "plain", "attention": "softmax"}
    assert [each.id for each in source.others] == ["alien"]
