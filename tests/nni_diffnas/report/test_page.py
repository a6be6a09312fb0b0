"""The report as a reader gets it: what it says, that it needs nothing else, and what it refuses."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from chat_server import ChatServer
from gpt_search import GOOD, says
from PIL import Image
from searches import run_search
from toy_family import ToyFamily

from nni_diffnas.api.cost import Cost
from nni_diffnas.api.errors import JobError
from nni_diffnas.api.pareto import pareto_front
from nni_diffnas.api.trial import BY_HAND, RECOMMENDED, UNRANKED, Objective, Origin, Trial
from nni_diffnas.evaluators.training.compute import computing
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import Source, read_source, render_report
from nni_diffnas.report.charts import draw_shares
from nni_diffnas.results.verdict import Judged, Verdict
from nni_diffnas.trial.result_file import TrialRecord


class Page(HTMLParser):
    """Checks that every element is closed, and collects text and addresses."""

    VOID = ("meta", "img", "br", "link", "hr")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing to close."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)


def report(experiment: ExperimentFolder, against: Source | None = None) -> tuple[str, Page]:
    html = render_report(read_source(str(experiment.path)), against)
    return html, Page(html)


def samples_of(experiment: ExperimentFolder, trial_id: str) -> bytes:
    folder = experiment.path / "environments" / "local-env" / "trials" / f"Job{trial_id[-4:]}"
    folder.mkdir(parents=True)
    TrialRecord(folder, trial_id).succeed({"metrics": {"rfid": 1.0}})
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 128).save(buffer, "png")
    (folder / "samples.png").write_bytes(buffer.getvalue())
    return buffer.getvalue()


def test_a_search_with_failures_tells_scores_origins_reasons_and_how_to_repeat_it(tmp_path: Path) -> None:
    search = read_source(str(run_search(tmp_path / "abc", "RegularizedEvolution", 30, fail=7, population=6).path))
    html, page = report(ExperimentFolder(tmp_path / "abc"))
    best = search.outcome.best
    assert best is not None
    assert f"{best.metrics['rfid']:.4g}" in page.text
    assert best.id in page.text
    assert "30 of 30 trials, 4 failed" in page.text
    assert "loss is not finite <step 3>" in page.text
    assert "<step 3>" not in html
    for words in ("mutation", "random", "default", "population: 6", "nni 3.0", "nni-diffnas verdict abc"):
        assert words in page.text
    assert page.text.startswith("RegularizedEvolution on digits (abc)")
    assert "has not come to its end" not in page.text


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc")
    samples_of(experiment, "abc-0000")
    html, page = report(experiment)
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"@import|url\(|<link", html)


def test_samples_of_best_median_and_default_are_shown_once_and_those_of_each_trial_on_demand(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc", trials=5)
    source = read_source(str(experiment.path))
    for trial in source.trials:
        samples_of(experiment, trial.id)
    html, page = report(experiment)
    shown = {t.id for t in (source.outcome.best, source.outcome.median, source.outcome.default) if t}
    assert len(page.addresses) == len(shown) + len(source.trials)
    folded = re.findall(r'<details class="picture">.*?data-samples="([^"]+)"></details>', html)
    assert folded == [trial.id for trial in source.outcome.ranked]


def test_the_report_says_on_what_the_best_trial_was_trained(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc", trials=5)
    best = read_source(str(experiment.path)).outcome.best
    assert best is not None
    samples_of(experiment, best.id)
    output = experiment.output(best.id)
    assert output is not None
    record = {"seed": 41, "computing": computing(torch.device("cpu"))}
    (output / "evaluation.json").write_text(json.dumps(record))
    _, page = report(experiment)
    assert "Trained on: cpu." in page.text
    assert "trains with seed 41" in page.text


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"computing": 5}', '{"computing": {}}', "\udcff"])
def test_what_a_trial_was_cut_off_in_writing_is_left_out(tmp_path: Path, text: str) -> None:
    experiment = run_search(tmp_path / "abc")
    best = read_source(str(experiment.path)).outcome.best
    assert best is not None
    output = tmp_path / "abc" / "trials" / "0001"
    output.mkdir(parents=True)
    TrialRecord(output, best.id).claim()
    (output / "evaluation.json").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert "Trained on" not in report(experiment)[1].text


def test_a_search_for_less_macs_shows_its_front_and_how_one_of_it_is_judged(tmp_path: Path) -> None:
    options = {"objectives": ["macs"], "unguided": 2, "training_steps": 5, "candidates": 16, "sampler_steps": 4}
    _, page = report(run_search(tmp_path / "abc", "DiffusionGuided", 6, **options))
    trials = read_source(str(tmp_path / "abc")).outcome.ranked
    assert any(trial.origin.kind == "guided" for trial in trials)
    points = [(trial.cost.macs, float(trial.metrics["rfid"])) for trial in trials if trial.cost]
    front = ", ".join(trials[i].id for i in pareto_front(points))
    assert f"On the front of rfid and MACs: {front}." in page.text
    assert "nni-diffnas verdict abc --trial TRIAL says" in page.text


def test_what_is_measured_and_minimised_too_has_a_front(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc", trials=4)
    with SearchMemory(tmp_path / "abc" / "memory.sqlite") as memory:
        for i, trial in enumerate(memory.trials()):
            memory.update(replace(trial, metrics={**trial.metrics, "kid": 4.0 - i, "broken": math.nan}))
        body = memory.events("experiment")[-1].body
        memory.log("experiment", "abc", {**body, "options": {"objectives": ["kid", "broken"]}})
    _, page = report(experiment)
    assert "On the front of rfid and kid: " in page.text
    assert "On the front of rfid and broken" not in page.text


def test_what_is_pointed_at_is_known_for_every_scored_trial(tmp_path: Path) -> None:
    html, _ = report(run_search(tmp_path / "abc", trials=12, fail=4))
    found = re.search(r'id="trials">(.*?)</script>', html, re.DOTALL)
    assert found
    known = json.loads(found[1])
    assert len(known) == 9
    assert set(re.findall(r'data-trial="([^"]+)"', html)) <= set(known)


def test_a_search_that_is_not_over_says_so_and_not_that_it_runs(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc", trials=4)
    source = read_source(str(experiment.path))
    with SearchMemory(experiment.memory) as memory:
        memory.log("experiment", "abc", {**source.starts[-1].body, "max_trials": 9})
        pending = next(t for t in source.trials if t.origin.kind == "random")
        memory.add(
            type(pending)("abc-pending", "abc", pending.architecture, pending.origin, protocol=pending.protocol),
            ToyFamily().space,
        )
    _, page = report(experiment)
    assert "The search has not come to its end: this page shows 4 of 9 trials" in page.text
    assert "running" not in page.text, "nobody knows: it may have been killed"


def test_what_was_stopped_on_its_way_has_not_failed(tmp_path: Path) -> None:
    source = read_source(str(run_search(tmp_path / "abc", trials=8).path))
    stopped = {UNRANKED: 1.0, "rfid@25": 90.0}
    trials = [replace(t, metrics=stopped) if i in (3, 4) else t for i, t in enumerate(source.trials)]
    text = Page(render_report(replace(source, trials=tuple(trials)))).text
    assert "random trials of this search (2 were stopped on the way; all of these count as the worst)" in text
    trials[5] = trials[5].failed("out of memory")
    text = Page(render_report(replace(source, trials=tuple(trials)))).text
    assert "(1 failed and 2 were stopped on the way; all of these count as the worst)" in text


def test_few_random_trials_give_no_expectation_and_a_random_search_does(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc", "RegularizedEvolution", 8, population=2, sample=1)
    _, page = report(experiment)
    assert "No expectation of random search" in page.text
    random = read_source(str(run_search(tmp_path / "random", trials=20, seed=1).path))
    _, page = report(experiment, random)
    assert "19 random trials of random" in page.text


def test_a_random_search_of_another_protocol_is_refused(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc")
    other = read_source(str(run_search(tmp_path / "other", protocol="toy/2").path))
    with pytest.raises(JobError, match="'other' cannot be compared"):
        report(experiment, other)


def test_the_verdict_is_shown_where_one_was_computed(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc")
    assert "Not known yet" in report(experiment)[1].text
    folder = experiment.path / "verdict"
    folder.mkdir()
    networks = [
        Judged("winner", "winner", (1.0, 1.1, 1.2), Cost(20, 4), "abc-0009", runs=("winner-1",)),
        Judged("by hand", "by hand", (3.0, 3.2, 3.1), Cost(20, 4)),
        Judged("default", "default", (1.0, 1.1, 1.3), Cost(40, 5)),
    ]
    Verdict(Objective(), tuple(networks), folder).save()
    (folder / "winner-1").mkdir()
    Image.new("L", (4, 4)).save(folder / "winner-1" / "nearest.png")
    html, shown = report(experiment)
    assert "At 50 % of the default's MACs the network found has 0.35 times the rfid of the best by hand" in shown.text
    assert "the search gained 65 %; it has 0.97 times that of the default" in shown.text
    assert "by hand 3.1 3, 3.2, 3.1 0.35 times [" in shown.text
    assert "unpaired (Welch's t" in shown.text
    assert "samples of the winner above the nearest training images" in html


def test_what_a_hand_would_do_has_its_line(tmp_path: Path) -> None:
    source = read_source(str(run_search(tmp_path / "abc").path))

    def by_hand(chosen: Trial) -> Page:
        trials = [replace(t, origin=Origin("s", BY_HAND)) if t is chosen else t for t in source.trials]
        html = render_report(replace(source, trials=tuple(trials)))
        assert "<title>by hand: " in html, "the line in the curve"
        return Page(html)

    first, best = source.outcome.ranked[3], source.outcome.ranked[0]
    text = by_hand(first).text
    assert f"by hand rfid {first.metrics['rfid']:.4g}" in text
    assert "against by hand" in text
    assert "has not paid" not in text
    text = by_hand(best).text
    assert "No trial was better than the network by hand: the search has not paid." in text
    assert "the network by hand itself" in text
    assert f"the best trial of the search's own, {source.outcome.ranked[1].id}," in text


def test_what_the_space_recommends_has_its_line_its_dot_and_its_sentence(tmp_path: Path) -> None:
    source = read_source(str(run_search(tmp_path / "abc").path))

    def recommended(chosen: Trial) -> str:
        trials = [replace(t, origin=Origin("s", RECOMMENDED)) if t is chosen else t for t in source.trials]
        return render_report(replace(source, trials=tuple(trials)))

    html = recommended(source.outcome.ranked[2])
    assert "<title>recommended: " in html, "the line in the curve"
    assert 'class="dot recommended"' in html
    assert "against the recommended" in Page(html).text
    text = Page(recommended(source.outcome.ranked[0])).text
    assert "No trial was better than the network that the space recommends for this budget" in text
    assert "the recommended network itself" in text


def test_networks_by_hand_stand_out_against_every_cost_latency_among_them(tmp_path: Path) -> None:
    source = read_source(str(run_search(tmp_path / "abc").path))
    hand = source.outcome.ranked[3]

    def timed(i: int, trial: Trial) -> Trial:
        origin = Origin("s", BY_HAND) if trial is hand else trial.origin
        return replace(trial, origin=origin, metrics={**trial.metrics, "latency_ms": 1.0 + i})

    html = render_report(replace(source, trials=tuple(timed(i, t) for i, t in enumerate(source.trials))))
    assert "On the front of rfid and latency in ms: " in Page(html).text
    charts = re.findall(r'<svg[^>]*aria-label="rfid against ([^"]+)".*?</svg>', html)
    assert charts == ["MACs", "parameters", "latency in ms"]
    assert html.count('class="dot hand"') == 3


def test_a_search_by_loss_shows_the_distance_too(tmp_path: Path) -> None:
    source = read_source(str(run_search(tmp_path / "abc").path))
    trials = tuple(
        replace(t, metrics={**t.metrics, "held_out_loss": float(t.metrics["rfid"]) / 10, "latency_ms": 1.0 + i})
        for i, t in enumerate(source.trials)
    )
    ranked = replace(source, trials=trials, objective=Objective("held_out_loss", "minimize"))
    charts = re.findall(r'aria-label="(\w+ against [^"]+)"', render_report(ranked))
    assert charts == [
        *(f"held_out_loss against {cost}" for cost in ("MACs", "parameters", "latency in ms")),
        *(f"rfid against {cost}" for cost in ("MACs", "latency in ms")),
    ]


def test_what_choices_are_worth_is_said_of_many_trials_and_left_out_of_few(tmp_path: Path) -> None:
    text = report(run_search(tmp_path / "many", trials=30))[1].text
    assert "What the choices are worth" in text
    assert "an additive model of 30 trials" in text
    assert "What the choices are worth" not in report(run_search(tmp_path / "few", trials=19))[1].text


def test_the_ledger_of_a_language_model_is_summed_up(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc")
    row = {"model": "gpt-4", "outcome": "ok", "prompt_tokens": 100, "completion_tokens": 7, "latency_s": 2.0}
    with SearchMemory(experiment.memory) as memory:
        for _ in range(3):
            memory.log("ledger", "abc", {**row, "cost_usd": 0.25})
    text = report(experiment)[1].text
    assert "gpt-4 ok 3 300 21 6 s 0.7500" in text


def test_what_a_language_model_proposed_is_told_by_round_and_its_reason_beside_the_score(tmp_path: Path) -> None:
    reason = "wide <b>first</b>"
    model = says([{**GOOD[0], "reason": reason}], GOOD[:1], GOOD[1:2], GOOD[:1])  # one at once, one repaired, then none
    with ChatServer(model) as server:
        options = {"base_url": server.url, "repairs": 1, "train_first": "none"}
        experiment = run_search(tmp_path / "abc", "GPTProposer", 3, **options)
    html, page = report(experiment)
    bars = re.findall(r"<title>(round .*?)</title>", html)
    assert [bar for bar in bars if ": 0 " not in bar] == [
        "round 1: 1 proposed",
        "round 2: 1 repaired",
        "round 3: 1 filled",
    ]
    assert "proposed at once (1) after repairs (1) filled without the model (1)" in page.text
    assert f"proposal {reason}" in re.sub(r"proposal [\d.]+ \w+", "proposal", page.text)
    assert reason not in html


def test_many_rounds_share_bars() -> None:
    drawing = draw_shares([(number, 1, 0, 1) for number in range(1, 101)], most_bars=20)
    assert drawing.count("<rect") == 60
    assert "round 96\u2013100: 5 filled" in drawing


def test_a_memory_of_several_experiments_shows_all_that_can_be_ranked_together(tmp_path: Path) -> None:
    shared = tmp_path / "shared.sqlite"
    run_search(tmp_path / "old", trials=3, protocol="toy/0", memory=shared)
    run_search(tmp_path / "one", trials=5, memory=shared)
    run_search(tmp_path / "two", "RegularizedEvolution", 6, memory=shared, train_first="none")
    source = read_source(str(shared))
    assert (len(source.trials), len(source.others)) == (11, 3)
    text = Page(render_report(source)).text
    assert "3 trials of this memory are left out" in text
    assert "11 of 11 trials" in text
    assert "random * RandomSearch 2" in text
    assert "RandomSearch" in text
    assert "RegularizedEvolution" in text


def test_a_search_from_python_is_shown_by_its_memory(tmp_path: Path) -> None:
    run_search(tmp_path / "abc", job=False)
    page = Page(render_report(read_source(str(tmp_path / "abc" / "memory.sqlite"))))
    assert "holds no job file" in page.text


def test_nothing_to_show_is_refused_in_one_sentence(tmp_path: Path) -> None:
    SearchMemory(tmp_path / "empty.sqlite").close()
    with pytest.raises(JobError, match="holds no trials yet"):
        read_source(str(tmp_path / "empty.sqlite"))
    with pytest.raises(JobError, match="nonesuch"):
        read_source("nonesuch")


def test_a_job_of_another_search_is_refused(tmp_path: Path) -> None:
    experiment, job = run_search(tmp_path / "abc"), tmp_path / "job.yml"
    job.write_text("space: {type: toy}\nevaluator: {type: toy}\nobjective: {metric: accuracy}\n")
    with pytest.raises(JobError, match=r"job\.yml' ranks by 'accuracy', which no trial of '.*abc' has measured"):
        read_source(str(experiment.path), job)


def test_a_memory_in_an_experiments_folder_finds_the_outputs_of_trials_whose_job_nobody_noted(tmp_path: Path) -> None:
    experiment = run_search(tmp_path / "abc", trials=3)
    samples_of(experiment, "abc-0001")
    for named in (experiment.path, experiment.memory):
        source = read_source(str(named))
        outputs = [source.output(replace(trial, job_id="")) for trial in source.trials]
        assert [output is not None and (output / "samples.png").is_file() for output in outputs] == [False, True, False]
