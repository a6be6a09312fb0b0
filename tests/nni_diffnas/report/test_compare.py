"""Searches side by side: arms by set-up, intervals against scipy's own, refusals."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import command
from scipy.stats import ttest_ind
from searches import run_search

from nni_diffnas.api.errors import JobError
from nni_diffnas.api.trial import BY_HAND
from nni_diffnas.report import compare, read_source
from nni_diffnas.report.charts import Band
from nni_diffnas.report.compare import axis_limit
from nni_diffnas.report.source import Source


def sources(tmp_path: Path, strategy: str, seeds: int, **options: int) -> list[Source]:
    named = "-".join([strategy, *(f"{k}{v}" for k, v in options.items())])
    folders = [run_search(tmp_path / f"{named}-{s}", strategy, 10 + s, seed=s, **options) for s in range(seeds)]
    return [read_source(str(folder.path)) for folder in folders]


def test_searches_that_differ_in_their_seed_only_are_one_arm(tmp_path: Path) -> None:
    listed = [
        *sources(tmp_path, "RandomSearch", 3),
        *sources(tmp_path, "RegularizedEvolution", 2, population=4, sample=2),
        *sources(tmp_path, "RegularizedEvolution", 2, population=8, sample=2),
    ]
    found = compare(listed)
    assert [(arm.name, len(arm.curves)) for arm in found.arms] == [
        ("RandomSearch", 3),
        ("RegularizedEvolution population 4, sample 2", 2),
        ("RegularizedEvolution population 8, sample 2", 2),
    ]
    assert found.length == 10
    for arm in found.arms[:1]:
        for curve, source in zip(arm.curves, listed, strict=False):
            values = [trial.metrics["rfid"] for trial in source.ended]
            assert curve[-1] == min(values)


def test_the_interval_of_the_difference_is_welch_s(tmp_path: Path) -> None:
    found = compare(
        [*sources(tmp_path, "RandomSearch", 4), *sources(tmp_path, "RegularizedEvolution", 3, population=3, sample=3)]
    )
    a, b = found.arms
    difference = found.difference(b, a)
    wanted = ttest_ind(b.best(10), a.best(10), equal_var=False).confidence_interval(0.95)
    assert difference is not None
    assert difference[1:] == pytest.approx((wanted.low, wanted.high))
    band = a.band("c0")
    assert np.all(np.array(band.low) <= np.array(band.mean))


def test_what_a_hand_would_do_is_a_line_of_its_own(tmp_path: Path) -> None:
    listed = sources(tmp_path, "RandomSearch", 3)
    assert "by hand" not in compare(listed).describe()
    marked = []
    for source in listed[:2]:
        chosen = source.outcome.ranked[2]
        trials = [replace(t, origin=replace(t.origin, kind=BY_HAND)) if t is chosen else t for t in source.trials]
        marked.append(replace(source, trials=tuple(trials)))
    found = compare([*marked, listed[2]])
    values = [source.outcome.ranked[2].metrics["rfid"] for source in listed[:2]]
    assert found.by_hand == tuple(values)
    (line,) = [line for line in found.describe().splitlines() if line.startswith("  by hand")]
    assert line.split()[2] == f"{np.mean(values):.4g}"
    assert "2 searches" in line
    html = found.render()
    assert "<td>by hand</td>" in html
    assert "<title>by hand: " in html


def test_the_axis_leaves_bad_starts_out_and_shows_the_last_interval_whole() -> None:
    band = Band("a", (90.0, 6.0, 5.0), (80.0, 4.0, 3.0), (99.0, 8.0, 7.0), "c0")
    other = Band("b", (7.5, 5.0, 5.0), (), (), "c1")
    assert axis_limit([band, other], lower_is_better=True) == np.median([90, 7.5])
    assert axis_limit([other, replace(band, mean=(6.5, 6.0, 5.0))], lower_is_better=True) == 7.0
    assert axis_limit([band], lower_is_better=False) == 3.0


def test_one_search_has_no_band_and_says_so(tmp_path: Path) -> None:
    found = compare([*sources(tmp_path, "RandomSearch", 1), *sources(tmp_path, "RegularizedEvolution", 1)])
    assert found.arms[0].band("c0").low == ()
    assert "has no interval" in found.describe()
    assert "has no interval" in found.render()


def test_a_search_that_had_no_score_yet_is_named_and_no_difference_is_sure(tmp_path: Path) -> None:
    short = [read_source(str(run_search(tmp_path / f"r{s}", trials=2, seed=s).path)) for s in range(2)]
    late = [
        read_source(str(run_search(tmp_path / f"e{s}", "RegularizedEvolution", 6, seed=s, population=3, sample=2).path))
        for s in range(2)
    ]
    trials = [replace(t, status="failed", metrics={}, reason="x") if i < 2 else t for i, t in enumerate(late[0].trials)]
    found = compare([*short, replace(late[0], trials=tuple(trials)), late[1]])
    assert found.length == 2
    assert [row["sure"] for row in found.rows()] == [False, False]
    said = "No score after 2 trials, so that no interval can be told: e0."
    assert said in found.describe()
    assert "[+nan" not in found.describe()
    assert said in found.render()
    assert "after 2 trials each" in found.render()


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = read_source(str(run_search(tmp_path / "one").path))
    other = read_source(str(run_search(tmp_path / "other", protocol="toy/2").path))
    with pytest.raises(JobError, match="'other' has another protocol than 'one'"):
        compare([one, other])
    with pytest.raises(JobError, match="at least two"):
        compare([one])


def test_a_search_counts_once(tmp_path: Path) -> None:
    """As by ``compare experiments/*``, where NNI keeps a link to the latest one."""
    folder = run_search(tmp_path / "one").path
    (tmp_path / "_latest").symlink_to(folder)
    shutil.copytree(folder, tmp_path / "copy")
    for other in ("one", "_latest", "copy"):
        with pytest.raises(JobError, match=r"is named twice .*: name each search once"):
            compare([read_source(str(folder)), read_source(str(tmp_path / other))])


def test_the_commands_write_pages(tmp_path: Path) -> None:
    shared = tmp_path / "memory.sqlite"
    for seed in range(2):
        run_search(tmp_path / f"seed{seed}", seed=seed, memory=shared)
    for arguments, said in (
        (["report", "memory.sqlite", "--output", "r.html"], "r.html"),
        (["compare", "memory.sqlite", "--output", "c.html"], "RandomSearch"),
    ):
        done = command(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert (tmp_path / arguments[-1]).read_text().startswith("<!doctype html>")
