"""What SearchMemory remembers; its file and its processes have tests of their own."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import SpaceError, StrategyError
from nni_diffnas.api.space import Space
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.memory import SearchMemory

SPACE = Space(
    {"attention": (True, False), "heads": (1, 2, 4), "width": (16, 32.5, "wide")},
    conditions={"heads": (("attention", (True,)),)},
)
OTHER = Space({"width": (16, 32)})
ORIGIN = Origin("random", "random")


def trial(id: str, width: object = 16, experiment: str = "first", protocol: str = "p", **fields: Any) -> Trial:
    return Trial(id, experiment, {"attention": False, "width": width}, ORIGIN, protocol=protocol, **fields)


@pytest.fixture
def memory(tmp_path: Path):
    with SearchMemory(tmp_path / "memory.db") as opened:
        yield opened


def score(memory: SearchMemory, id: str, rfid: float, **fields: Any) -> None:
    memory.add(trial(id, **fields).succeeded({"rfid": rfid}), SPACE)


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXT
BODIES = st.dictionaries(TEXT, st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6))
TRIALS = st.builds(
    Trial,
    id=TEXT,
    experiment=TEXT,
    architecture=st.integers(0, 2**31).map(lambda seed: SPACE.sample(np.random.default_rng(seed))),
    origin=st.builds(Origin, TEXT, TEXT, st.none() | TEXT),
    status=st.sampled_from(["pending", "succeeded", "failed"]),
    metrics=st.dictionaries(TEXT, st.floats(allow_nan=False) | st.integers(-(2**60), 2**60), max_size=3),
    cost=st.none() | st.builds(Cost, st.integers(0, 2**60), st.integers(0, 2**60), st.none() | st.floats(0, 1e9)),
    settings=st.dictionaries(TEXT, st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | TEXT, max_size=3),
    protocol=TEXT,
    reason=TEXT,
    seconds=st.none() | st.floats(0, 1e9),
    job_id=TEXT,
)


@settings(max_examples=40, deadline=None)
@given(trials=st.lists(TRIALS, unique_by=lambda one: one.id, max_size=5), body=BODIES, blob=st.binary(max_size=20))
def test_everything_comes_back_from_a_reopened_file_exactly(
    tmp_path_factory: pytest.TempPathFactory, trials: list[Trial], body: dict[str, Any], blob: bytes
) -> None:
    path = tmp_path_factory.mktemp("memory") / "memory.db"
    with SearchMemory(path) as memory:
        for one in trials:
            memory.add(one, SPACE)
        memory.log("lesson", "first", body)
        memory.save_state("first", "json", body)
        memory.save_state("first", "bytes", blob)
    with SearchMemory(path, create=False) as memory:
        assert memory.trials() == trials
        assert memory.events("lesson", "first")[-1].body == body
        assert memory.load_state("first", "json") == body
        assert memory.load_state("first", "bytes") == blob
        assert set(memory.spaces()) == ({SPACE.key} if trials else set())


def test_metrics_that_are_no_finite_numbers_are_kept(memory: SearchMemory) -> None:
    score(memory, "nan", math.nan)
    score(memory, "infinite", -math.inf)
    nan, infinite = (one.metrics["rfid"] for one in memory.trials())
    assert math.isnan(nan)
    assert infinite == -math.inf


def test_values_keep_their_type(memory: SearchMemory) -> None:
    space = Space({"flag": (True, False), "count": (1, 2), "ratio": (1.0, 2.0)})
    memory.add(Trial("a", "first", {"flag": True, "count": 1, "ratio": 1.0}, ORIGIN), space)
    (known,) = memory.trials()
    assert [type(value) for value in known.architecture.values()] == [bool, int, float]
    restored = memory.spaces()[space.key]
    assert restored == space
    assert [[type(value) for value in values] for values in restored.choices.values()] == [
        [bool, bool],
        [int, int],
        [float, float],
    ]


def test_the_journal_tells_every_change_once_and_in_order(memory: SearchMemory) -> None:
    pending = trial("a")
    memory.add(pending, SPACE)
    memory.add(pending, SPACE)
    memory.log("rejected", "first", {"why": "too large"})
    memory.update(pending.succeeded({"rfid": 2.0}, seconds=1.5))
    memory.update(pending.succeeded({"rfid": 2.0}, seconds=1.5))
    memory.add(trial("b", experiment="second").failed("out of memory"), SPACE)
    events = memory.events()
    assert [(event.kind, event.trial, event.experiment) for event in events] == [
        ("submitted", "a", "first"),
        ("rejected", None, "first"),
        ("succeeded", "a", "first"),
        ("submitted", "b", "second"),
        ("failed", "b", "second"),
    ]
    assert events[2].body == {"status": "succeeded", "metrics": {"rfid": 2.0}, "seconds": 1.5}
    assert [event.number for event in events] == sorted(event.number for event in events)
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert [event.kind for event in memory.events("rejected", "first")] == ["rejected"]
    assert [event.trial for event in memory.events(experiment="second")] == ["b", "b"]


def test_the_journal_alone_rebuilds_every_trial(memory: SearchMemory) -> None:
    memory.add(trial("a"), SPACE)
    memory.update(trial("a").failed("NaN"))
    memory.update(trial("a"))
    memory.update(trial("a").succeeded({"rfid": 1.0}, cost=Cost(1, 2)))
    rebuilt: dict[str, Any] = {}
    for event in memory.events():
        rebuilt.update(event.body)
    assert [Trial.from_json(rebuilt)] == memory.trials()
    assert [event.kind for event in memory.events()] == ["submitted", "failed", "changed", "succeeded"]


def test_trials_are_filtered(memory: SearchMemory) -> None:
    for id in "abcd":
        memory.add(trial(id), SPACE)
    memory.add(Trial("e", "second", {"width": 16}, ORIGIN, protocol="q"), OTHER)
    memory.update(trial("c").succeeded({"rfid": 1.0}))
    memory.update(trial("a").failed("crash"))
    memory.update(trial("b").succeeded({"rfid": 1.0}))

    def ids(**conditions: Any) -> str:
        return "".join(one.id for one in memory.trials(**conditions))

    assert ids() == "abcde"
    assert ids(status="pending") == "de"
    assert ids(status="succeeded") == "bc"
    assert ids(experiment="second") == ids(space_key=OTHER.key) == ids(protocol="q") == "e"
    assert ids(experiment="second", status="failed") == ""


def test_the_same_network_is_found_whatever_its_absent_labels_say(memory: SearchMemory) -> None:
    memory.add(Trial("a", "first", {"attention": False, "heads": 4, "width": 16}, ORIGIN, protocol="p"), SPACE)
    score(memory, "b", 1.0, protocol="q")
    score(memory, "c", 1.0, width="wide")
    key = SPACE.key_of({"width": 16, "attention": False})
    assert [one.id for one in memory.find(SPACE.key, key)] == ["a", "b"]
    assert [one.id for one in memory.find(SPACE.key, key, protocol="q")] == ["b"]
    assert memory.find(OTHER.key, key) == []


def test_an_id_belongs_to_one_trial(memory: SearchMemory) -> None:
    memory.add(trial("a"), SPACE)
    for thief in (trial("a", width="wide"), trial("a", experiment="second")):
        with pytest.raises(StrategyError, match="own id"):
            memory.add(thief, SPACE)
        with pytest.raises(StrategyError, match="own id"):
            memory.update(thief)
    with pytest.raises(StrategyError, match="'b' is not in the memory"):
        memory.update(trial("b"))
    assert memory.trials() == [trial("a")]
    assert len(memory.events()) == 1


def test_an_architecture_of_another_space_is_refused(memory: SearchMemory) -> None:
    with pytest.raises(SpaceError, match="attention"):
        memory.add(trial("a"), OTHER)
    assert memory.trials() == []


@pytest.mark.parametrize("body", [{"set": {1}}, {"nested": [{1: "key"}]}, {"array": np.zeros(2)}])
def test_what_json_cannot_keep_is_refused(memory: SearchMemory, body: dict[str, Any]) -> None:
    with pytest.raises(StrategyError, match="cannot keep"):
        memory.log("lesson", "first", body)
    with pytest.raises(StrategyError, match="cannot keep"):
        memory.save_state("first", "state", body)
    assert memory.events() == []
    assert memory.load_state("first", "state") is None


def test_a_state_replaces_the_one_before(memory: SearchMemory) -> None:
    memory.save_state("first", "strategy", {"generation": 1})
    memory.save_state("first", "strategy", {"generation": 2})
    memory.save_state("second", "strategy", {"generation": 7})
    assert memory.load_state("first", "strategy") == {"generation": 2}


def test_a_transaction_happens_whole_or_not_at_all(memory: SearchMemory) -> None:
    def fail_halfway() -> None:
        with memory.transaction():
            score(memory, "a", 1.0)
            memory.save_state("first", "state", {"seen": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert memory.trials() == []
    assert memory.load_state("first", "state") is None
    assert memory.events() == []


def test_a_failure_that_is_caught_inside_a_transaction_undoes_only_itself(memory: SearchMemory) -> None:
    def fail() -> None:
        with memory.transaction():
            score(memory, "b", 1.0)
            memory.update(trial("unknown"))

    with memory.transaction():
        score(memory, "a", 1.0)
        with pytest.raises(StrategyError):
            fail()
    assert [one.id for one in memory.trials()] == ["a"]


def test_several_threads_share_one_memory(memory: SearchMemory) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(50):
                with memory.transaction():
                    memory.add(trial(f"{name}{i}"), SPACE)
                    memory.save_state(name, "state", {"last": i})
                memory.update(trial(f"{name}{i}").succeeded({"rfid": float(i)}))
                assert memory.trials(status="succeeded")[0].metrics["rfid"] == 0.0
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(memory.trials(status="succeeded")) == 200
    assert len(memory.events()) == 400


def test_a_closed_memory_says_so(memory: SearchMemory) -> None:
    memory.close()
    memory.close()
    with pytest.raises(StrategyError, match="is closed"):
        memory.trials()


def test_a_memory_serves_the_next_experiment(tmp_path: Path) -> None:
    with SearchMemory(tmp_path / "memory.db") as memory:
        for i, width in enumerate((16, 32.5, "wide")):
            score(memory, str(i), 3.0 - i, width=width)
    with SearchMemory(tmp_path / "memory.db", create=False) as memory:
        score(memory, "another", 2.5, experiment="second")
        known = memory.trials("first", SPACE.key, protocol="p")
        assert [one.architecture["width"] for one in known] == [16, 32.5, "wide"]
        assert json.dumps(memory.spaces()[SPACE.key].to_json()) == json.dumps(SPACE.to_json())
