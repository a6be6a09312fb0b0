"""Who is judged, what is trained, and that nothing is trained twice; trainings in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from judged_toys import FOUND, NARROWER, SHALLOWER, installed_toys, toy_job

from nni_diffnas.errors import JobError, SpaceError, TrialFailure
from nni_diffnas.experiment import ExperimentFolder
from nni_diffnas.in_process import run_search
from nni_diffnas.intervals import LOOKS
from nni_diffnas.judging import judge
from nni_diffnas.trial import BY_HAND, Origin, Trial
from nni_diffnas.verdict import VERDICT_FILE, Verdict

WINNER = Trial("e-0007", "e", FOUND, Origin("s", "random"))


@pytest.fixture(autouse=True, scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed_toys(tmp_path_factory.mktemp("toys") / "site"):
        yield


def by_hand(number: int, architecture: dict[str, object], value: float) -> Trial:
    return Trial(f"e-000{number}", "e", architecture, Origin("s", BY_HAND)).succeeded({"rfid": value})


def test_all_networks_by_hand_are_judged_where_the_search_has_none_and_the_best_counts(tmp_path: Path) -> None:
    found = judge(toy_job(tmp_path / "log"), WINNER, tmp_path / "out")
    assert [network.name for network in found.networks] == [
        "winner", "by hand (narrower)", "by hand (shallower)", "default",
    ]  # fmt: skip
    assert found.by_hand is not None
    assert found.by_hand.name == "by hand (shallower)"
    assert found.better is True
    assert found.share == 0.75
    assert [len(network.scores) for network in found.networks] == [3] * 4
    assert "held_out" in (tmp_path / "log").read_text()
    assert all((tmp_path / "out" / run).is_dir() for network in found.networks for run in network.runs)
    assert Verdict.load(tmp_path / "out" / VERDICT_FILE) == found


def test_the_best_trial_by_hand_of_the_search_stands_for_all(tmp_path: Path) -> None:
    trials = [by_hand(1, NARROWER, 9.0), by_hand(2, SHALLOWER, 11.0), WINNER.succeeded({"rfid": 1.0})]
    found = judge(toy_job(tmp_path / "log"), WINNER, tmp_path / "out", (2,), trials=trials)
    assert [(network.name, network.trial) for network in found.networks] == [
        ("winner", "e-0007"), ("by hand", "e-0001"), ("default", ""),
    ]  # fmt: skip


def test_where_the_budget_admits_the_default_it_is_what_has_to_be_beaten(tmp_path: Path) -> None:
    found = judge(toy_job(tmp_path / "log", macs=50_000), WINNER, tmp_path / "out", (2,))
    assert [network.name for network in found.networks] == ["winner", "default"]
    assert found.yardstick is found.default


def test_further_networks_are_judged_beside(tmp_path: Path) -> None:
    wide = {"level0.width": 32, "level0.depth": 1, "attention": False}
    found = judge(toy_job(tmp_path / "log"), WINNER, tmp_path / "out", (2,), also={"wide": wide})
    assert found.networks[-1].name == "wide"
    with pytest.raises(SpaceError):
        judge(toy_job(tmp_path / "log"), WINNER, tmp_path / "out", (2,), also={"wide": {"depth": 9}})


def test_a_network_is_not_compared_with_itself(tmp_path: Path) -> None:
    for architecture in (SHALLOWER, {"level0.width": 16, "level0.depth": 2, "attention": False}):
        with pytest.raises(JobError, match=r"Trial e-0007 is the network '.*' itself"):
            judge(toy_job(tmp_path / "log"), replace(WINNER, architecture=architecture), tmp_path / "out")
    assert not (tmp_path / "log").exists()


def test_thresholds_of_halving_do_not_end_a_fresh_training(tmp_path: Path) -> None:
    halved = replace(WINNER, settings={"stop.rfid@25": 3.0, "beta": "auto"})
    judge(toy_job(tmp_path / "log"), halved, tmp_path / "out", (2,))
    assert "winner" in (tmp_path / "log").read_text()
    assert "stop.rfid@25" not in (tmp_path / "log").read_text()
    assert "['beta']" in (tmp_path / "log").read_text()


def test_more_seeds_keep_those_that_are_trained_and_another_length_is_another_training(tmp_path: Path) -> None:
    job, log = toy_job(tmp_path / "log"), tmp_path / "log"
    few = judge(job, WINNER, tmp_path / "out", (2,))
    assert len(log.read_text().splitlines()) == 8
    more = judge(job, WINNER, tmp_path / "out", (3,))
    assert len(log.read_text().splitlines()) == 12
    assert more.winner.scores[:2] == few.winner.scores
    longer = judge(job, WINNER, tmp_path / "out", (2,), longer=4)
    assert len(log.read_text().splitlines()) == 20
    assert longer.winner.scores == pytest.approx([score / 4 for score in few.winner.scores])
    assert "times as long" in (tmp_path / "out" / VERDICT_FILE).read_text() or longer.longer == 4
    again = judge(job, WINNER, tmp_path / "out", (3,))
    assert len(log.read_text().splitlines()) == 20
    assert again == more


def test_seeds_are_taken_until_the_winner_and_by_hand_are_told_apart_or_the_limit_is_reached(tmp_path: Path) -> None:
    stands: list[Verdict] = []
    decided = judge(toy_job(tmp_path / "log"), WINNER, tmp_path / "one", LOOKS, watch=stands.append)
    assert decided.better is True
    assert len(decided.winner.scores) == 3
    alike = toy_job(tmp_path / "log", alike=True, scatter=0.1)
    stands.clear()
    open_ = judge(alike, WINNER, tmp_path / "two", LOOKS, watch=stands.append)
    assert open_.better is None
    assert [len(stand.winner.scores) for stand in stands] == [3, 6, 9, 12]
    assert [stand.better for stand in stands] == [None] * 4


def test_a_failed_training_starts_nothing_more_and_what_has_ended_is_kept(tmp_path: Path) -> None:
    log, out, fails = tmp_path / "log", tmp_path / "out", tmp_path / "fails"
    judge(toy_job(log), WINNER, out, (2,))
    fails.touch()
    job = toy_job(log, fails=str(fails))
    with pytest.raises(TrialFailure, match="no memory"):
        judge(job, WINNER, out, (12,), workers=1)
    assert 9 <= len(log.read_text().splitlines()) <= 12, "of 40 that were left, those that ran or were handed over"
    fails.unlink()
    judge(job, WINNER, out, (2,))
    assert 9 <= len(log.read_text().splitlines()) <= 12


def test_a_killed_verdict_goes_on_by_the_same_command(tmp_path: Path) -> None:
    job, log = toy_job(tmp_path / "log", seconds=0.2), tmp_path / "log"
    run_search(job, "RandomSearch", tmp_path / "toys", 4)
    searched = len(log.read_text().splitlines())
    command = [sys.executable, "-m", "nni_diffnas.cli", "verdict", str(tmp_path / "toys"), "--workers", "1"]
    folder = ExperimentFolder(tmp_path / "toys").path / "verdict"
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 100
    while len(list(folder.glob("*/result.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("*/result.json")}
    assert 3 <= len(kept) < 12
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "the search" in done.stdout.splitlines()[-1]
    assert all(file.stat().st_mtime_ns == written for file, written in kept.items())
    runs = [line.split()[0] for line in log.read_text().splitlines()[searched:]]
    assert len(set(runs)) == 12
    assert len(runs) <= 13, "only the one that was killed is trained again"
