"""The learning curves of a search with halving: who is drawn how, who was stopped where, and why."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from searches import run_search

from nni_diffnas.api.trial import BY_HAND, REFERENCE, UNRANKED, Origin, Trial
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import Source, read_source, render_report
from nni_diffnas.report.learning import curves_of, learning
from nni_diffnas.trial.result_file import TrialRecord


def halved(folder: Path) -> Source:
    """Six trials: a reference, one by hand, two whole ones, and two stopped at 25 and at 50 %."""
    experiment = run_search(folder, trials=6)
    with SearchMemory(experiment.memory) as memory:
        for i, trial in enumerate(memory.trials()):
            rungs = {"rfid@25": 100.0 + i, "rfid@50": 50.0 + i}
            final = {"rfid": 30.0 if i == 1 else 10.0 + i, **rungs}
            stops = {4: {"rfid@25": 180.0}, 5: rungs}
            metrics = {**stops[i], UNRANKED: 1.0} if i in stops else final
            kind = {0: REFERENCE, 1: BY_HAND}.get(i, "random")
            standing = {UNRANKED: 1.0} if kind == REFERENCE else {}
            memory.update(replace(trial, metrics={**metrics, **standing}, origin=Origin("s", kind)))
    return read_source(str(folder))


def test_every_trial_has_its_curve_and_ends_where_it_was_stopped(tmp_path: Path) -> None:
    metric, curves = curves_of(halved(tmp_path / "abc"))
    assert metric == "rfid"
    assert [(curve.style, curve.stopped, curve.end) for curve in curves] == [
        ("default", False, 100),
        ("hand", False, 100),
        ("best", False, 100),
        ("", False, 100),
        ("", True, 25),
        ("", True, 50),
    ]
    assert curves[0].points == ((25.0, 100.0), (50.0, 50.0), (100.0, 10.0))


def test_the_page_says_who_was_stopped_where_and_why(tmp_path: Path) -> None:
    source = halved(tmp_path / "abc")
    stopped = source.trials[4]
    folder = ExperimentFolder(tmp_path / "abc").path / "environments" / "local-env" / "trials" / "xyz"
    folder.mkdir(parents=True)
    TrialRecord(folder, stopped.id).succeed({"metrics": {}})
    sentence = "stopped after 9 images: its rfid is 180, above 101"
    (folder / "evaluation.json").write_text(json.dumps({"stopped": sentence}))
    html = render_report(source)
    text = " ".join(re.sub(r"<title>.*?</title>|<[^>]+>", " ", html).split()).replace("&nbsp;", " ")
    assert "4 trials trained to the end; 2 were stopped on the way" in text
    assert "others: 1 of 6 at 25 %, 1 of 5 at 50 %." in text
    assert f"{stopped.id} {sentence}" in text
    assert f"{source.trials[5].id} stopped at 50 % with rfid 55" in text, "its folder is not here"
    assert html.count('class="cross"') == 4, "two strokes each"
    (folder / "evaluation.json").write_text("[no JSON")
    assert "stopped at 25 % with rfid 180" in render_report(source)


def test_the_metric_that_halving_compares_is_drawn(tmp_path: Path) -> None:
    source = halved(tmp_path / "abc")
    with SearchMemory(source.memory) as memory:
        body = memory.events("experiment")[-1].body
        memory.log("experiment", "abc", {**body, "options": {"halving": {"eta": 3, "metric": "loss"}}})
    assert learning(read_source(str(tmp_path / "abc"))) is None, "nothing was measured of it on the way"

    def by_loss(trial: Trial) -> Trial:
        return replace(trial, metrics={name.replace("rfid", "loss"): value for name, value in trial.metrics.items()})

    source = read_source(str(tmp_path / "abc"))
    found = learning(replace(source, trials=tuple(map(by_loss, source.trials))))
    assert found is not None
    assert found["metric"] == "loss"


def test_a_search_without_rungs_has_no_curves(tmp_path: Path) -> None:
    source = read_source(str(run_search(tmp_path / "abc", trials=4).path))
    assert learning(source) is None
    assert "How the trials learned" not in render_report(source)
