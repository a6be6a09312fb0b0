"""Who is judged, what is trained, and that nothing is trained twice; trainings in processes of their own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from judged_toys import FOUND, NARROWER, SHALLOWER, installed_toys, toy_job

from nni_diffnas.api.errors import JobError, SpaceError, TrialFailure
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import BY_HAND, Origin, Trial
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source, render_report
from nni_diffnas.results.intervals import LOOKS
from nni_diffnas.results.judging import contestants, judge
from nni_diffnas.results.model_card import CARD
from nni_diffnas.results.read import export_trial
from nni_diffnas.results.verdict import VERDICT_FILE, Verdict
from nni_diffnas.searching.ranking import Outcome

WINNER = Trial("e-0007", "e", FOUND, Origin("s", "random"))


@pytest.fixture(autouse=True, scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed_toys(tmp_path_factory.mktemp("toys") / "site"):
        yield


def by_hand(number: int, architecture: Architecture, value: float) -> Trial:
    return Trial(f"e-000{number}", "e", architecture, Origin("s", BY_HAND)).succeeded({"rfid": value})


def test_all_networks_by_hand_are_judged_where_the_search_has_none(tmp_path: Path) -> None:
    found = contestants(toy_job(tmp_path / "log"), WINNER)
    assert [each.name for each in found] == ["winner", "by hand (narrower)", "by hand (shallower)", "default"]
    assert [each.architecture for each in found[:3]] == [FOUND, NARROWER, SHALLOWER]


def test_the_best_trial_by_hand_of_the_search_stands_for_all(tmp_path: Path) -> None:
    trials = [by_hand(1, SHALLOWER, 11.0), by_hand(2, NARROWER, 9.0), WINNER.succeeded({"rfid": 1.0})]
    found = contestants(toy_job(tmp_path / "log"), WINNER, trials)
    assert [(each.name, each.trial) for each in found] == [("winner", "e-0007"), ("by hand", "e-0002"), ("default", "")]
    assert found[1].architecture == NARROWER


def test_where_the_budget_admits_the_default_it_is_what_has_to_be_beaten(tmp_path: Path) -> None:
    found = contestants(toy_job(tmp_path / "log", macs=50_000), WINNER)
    assert [each.name for each in found] == ["winner", "default"]


def test_further_networks_are_judged_beside(tmp_path: Path) -> None:
    wide = {"level0.width": 32, "level0.depth": 1, "attention": False}
    assert contestants(toy_job(tmp_path / "log"), WINNER, also={"wide": wide})[-1].name == "wide"
    with pytest.raises(SpaceError):
        contestants(toy_job(tmp_path / "log"), WINNER, also={"wide": {"depth": 9}})


@pytest.mark.parametrize("depth", [1, 2])
def test_a_network_is_not_compared_with_itself(tmp_path: Path, depth: int) -> None:
    known = replace(WINNER, architecture={**SHALLOWER, "level0.depth": depth})
    with pytest.raises(JobError, match=r"Trial e-0007 is the network '.*' itself"):
        contestants(toy_job(tmp_path / "log"), known)


def test_another_metric_than_the_objective_is_compared_on_the_same_trainings(tmp_path: Path) -> None:
    job, out = toy_job(tmp_path / "log"), tmp_path / "out"
    told = judge(job, WINNER, out, (2,), workers=1)
    trained = (tmp_path / "log").read_text()
    other = judge(job, WINNER, out, (2,), workers=1, metric="loss")
    assert other.objective.metric == "loss"
    assert other.winner.scores == pytest.approx([score / 100 for score in told.winner.scores])
    assert (tmp_path / "log").read_text() == trained
    with pytest.raises(JobError, match="does not measure 'blur': name one of rfid, loss"):
        judge(job, WINNER, out, (2,), workers=1, metric="blur")


@pytest.mark.slow
def test_a_result_that_is_damaged_is_trained_again(tmp_path: Path) -> None:
    job, out = toy_job(tmp_path / "log"), tmp_path / "out"
    told = judge(job, WINNER, out, (2,), workers=1)
    trained = len((tmp_path / "log").read_text().splitlines())
    for text, run in zip(("{", '{"metrics": {}}'), told.winner.runs, strict=True):
        (out / run / "result.json").write_text(text)
    assert judge(job, WINNER, out, (2,), workers=1) == told
    assert len((tmp_path / "log").read_text().splitlines()) == trained + 2


def test_thresholds_of_halving_do_not_end_a_fresh_training(tmp_path: Path) -> None:
    halved = replace(WINNER, settings={"stop.rfid@25": 3.0, "beta": "auto"})
    assert contestants(toy_job(tmp_path / "log"), halved)[0].settings == {"beta": "auto"}


def test_what_is_trained_is_kept_and_more_seeds_or_another_length_add_to_it(tmp_path: Path) -> None:
    job, log, out = toy_job(tmp_path / "log"), tmp_path / "log", tmp_path / "out"
    found = judge(job, WINNER, out, LOOKS, workers=1)
    assert [len(network.scores) for network in found.networks] == [3] * 4, "decided at the first look"
    assert found.better is True
    assert found.by_hand is not None
    assert (found.by_hand.name, found.share) == ("by hand (shallower)", 0.75)
    assert Verdict.load(out / VERDICT_FILE) == found
    assert all((out / run).is_dir() for network in found.networks for run in network.runs)
    begun = log.read_text().splitlines()
    assert len(begun) == 12
    assert all("held_out" in line for line in begun)

    longer = judge(job, WINNER, out, (2,), workers=1, longer=4)
    assert len(log.read_text().splitlines()) == 20
    assert longer.winner.scores == pytest.approx([score / 4 for score in found.winner.scores[:2]])
    assert Verdict.load(out / VERDICT_FILE).longer == 4

    again = judge(job, WINNER, out, LOOKS, workers=1)
    assert again == found
    assert len(log.read_text().splitlines()) == 20, "nothing is trained twice"


def test_seeds_are_taken_until_the_limit_where_nothing_is_told_apart(tmp_path: Path) -> None:
    stands: list[Verdict] = []
    job = toy_job(tmp_path / "log", alike=True, scatter=0.1)
    found = judge(job, WINNER, tmp_path / "out", LOOKS, workers=1, watch=stands.append)
    assert found.better is None
    assert [len(stand.winner.scores) for stand in stands] == [3, 6, 9, 12]
    assert [stand.winner.scores[:3] for stand in stands] == [found.winner.scores[:3]] * 4


@pytest.mark.parametrize(
    ("ends", "said"), [("failed", "no memory"), ("killed", "was killed.*the same command goes on")]
)
def test_a_failed_training_starts_nothing_more(tmp_path: Path, ends: str, said: str) -> None:
    with pytest.raises(TrialFailure, match=said):
        judge(toy_job(tmp_path / "log", ends=ends), WINNER, tmp_path / "out", (12,), workers=1)
    assert len((tmp_path / "log").read_text().splitlines()) <= 3, "of 48, what ran or was handed over"
    assert not (tmp_path / "out" / VERDICT_FILE).exists()


@pytest.mark.slow
def test_a_killed_verdict_goes_on_by_the_same_command(tmp_path: Path) -> None:
    job, log = toy_job(tmp_path / "log", seconds=0.5), tmp_path / "log"
    run_search(job, "RandomSearch", tmp_path / "toys", 4)
    searched = len(log.read_text().splitlines())
    command = [sys.executable, "-m", "nni_diffnas.cli", "verdict", str(tmp_path / "toys"), "--workers", "1"]
    command += ["--seeds", "auto"]
    folder = tmp_path / "toys" / "verdict"
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while len(list(folder.glob("*/result.json"))) < 3 and killed.poll() is None:
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("*/result.json")}
    assert 3 <= len(kept) < 9
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[0] == "The best trial, toys-0002, is one of the networks to beat: the next best, toys-0003, is judged."
    assert said[2].startswith("after 3 seeds, winner / by hand: ")
    assert "of the best by hand (95 % interval" in said[-1]
    assert all(file.stat().st_mtime_ns == written for file, written in kept.items())
    runs = [line.split()[0] for line in log.read_text().splitlines()[searched:]]
    assert len(set(runs)) == 9
    assert len(runs) <= 10, "only the one that was killed is trained again"


@pytest.mark.slow
def test_a_point_of_the_front_that_a_search_for_less_macs_has_found_is_judged(tmp_path: Path) -> None:
    options = {"objectives": ["macs"], "unguided": 2, "training_steps": 5, "candidates": 16, "sampler_steps": 4}
    trials = run_search(toy_job(tmp_path / "log"), "DiffusionGuided", tmp_path / "toys", 9, options)
    assert any(trial.origin.kind == "guided" for trial in trials)
    page = render_report(read_source(str(tmp_path / "toys")))
    listed = re.search(r"On the front of rfid and MACs: ([^.]*)\.", page)
    assert listed is not None
    best = Outcome.of(trials, toy_job(tmp_path / "log").make_objective()).best
    others = {t.id: t for t in trials if t.origin.kind != BY_HAND and best is not None and t.id != best.id}
    chosen = next(others[each] for each in listed[1].split(", ") if each in others)
    command = [sys.executable, "-m", "nni_diffnas.cli", "verdict", str(tmp_path / "toys"), "--trial", chosen.id]
    done = subprocess.run([*command, "--seeds", "2", "--workers", "1"], capture_output=True, text=True, check=True)
    found = Verdict.load(tmp_path / "toys" / "verdict" / VERDICT_FILE)
    assert found.winner.trial == chosen.id
    assert "of the default's MACs the network found has" in done.stdout.splitlines()[-1]


def test_a_search_of_real_digits_is_judged_by_the_command(tmp_path: Path) -> None:
    job = Job.model_validate(
        {
            "space": {"type": "unet", "preset": "digits"},
            "data": {"source": "digits", "held_out": 0.1},
            "evaluator": {
                "type": "diffusion",
                "extractor": "random",
                "training": {"images": 256},
                "score_images": 60,
                "sampler_steps": 3,
                "curve_points": 0,
            },
            "budget": {"macs": {"max": 3.0e6}},
        }
    )
    trials = run_search(job, "RandomSearch", tmp_path / "began" / "digits", 6, {"train_first": "default and by hand"})
    shutil.move(tmp_path / "began" / "digits", tmp_path / "digits")
    command = [sys.executable, "-m", "nni_diffnas.cli", "verdict", str(tmp_path / "digits")]
    command += ["--seeds", "2", "--longer", "1.5", "--workers", "1", "--arch", "wide ConvNeXt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    said = "4 networks, 2 seeds each: about [\\d.]+ (s|min) by the trials"
    assert re.search(rf"^{said}", done.stdout, re.MULTILINE)
    first = next(number for number, line in enumerate(lines) if line.startswith("rfid on held-out images"))
    assert [line[2:15].strip() for line in lines[first + 1 : first + 5]] == [
        "winner",
        "by hand",
        "default",
        "wide ConvNeXt",
    ]
    by_hand = Outcome.of(trials, job.make_objective()).by_hand
    assert by_hand is not None
    assert f"({by_hand.id})" in lines[first + 2]
    best = Outcome.of(trials, job.make_objective()).found[0]
    assert best.cost is not None
    assert lines[-1].startswith(
        f"At {100 * best.cost.macs / 5_817_344:.0f} % of the default's MACs the network found has "
    )
    assert "2 fresh seeds each, trained 1.5 times as long as in the search): " in lines[-1]
    assert len(list((tmp_path / "digits" / "verdict").glob("*/nearest.png"))) == 8
    page = render_report(read_source(str(tmp_path / "digits")))
    assert lines[-1].replace("'", "&#39;") in page
    folder = ExperimentFolder(tmp_path / "digits")
    assert lines[-1] in (export_trial(folder, job, best, tmp_path / "best", trials) / CARD).read_text()
    other = next(trial for trial in trials if trial is not best)
    assert lines[-1] not in (export_trial(folder, job, other, tmp_path / "other", trials) / CARD).read_text()
