"""A whole search in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nni_diffnas
from nni_diffnas.api.errors import JobError
from nni_diffnas.memory import SearchMemory
from nni_diffnas.results.verdict import Verdict


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "waves.npz", images=pixels)
    return tmp_path / "waves.npz"


def test_one_call_finds_reports_judges_and_draws(images: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = nni_diffnas.search(images, budget=1, strategy="RandomSearch", trials=2, images_per_trial=128)
    assert found.folder == images.parent / "waves-search"
    assert "2 trials of 128 images" in capfd.readouterr().out
    best = found.best
    assert best.cost is not None
    assert best.cost.macs <= 1_468_928, "the default's, at 4x4 pixels"
    assert "held_out_loss" in best.metrics
    assert "<html" in found.report().read_text()
    verdict = found.verdict(seeds=2)
    assert isinstance(verdict, Verdict)
    assert "fresh seeds" in capfd.readouterr().out
    assert found.pipeline(batch_size=2, num_inference_steps=2).images[0].size == (4, 4)

    again = nni_diffnas.search("waves.npz")
    assert again.best.id == best.id, "the same call goes on with what is done"
    for other, said in {
        "budget": "another budget than 0.5",
        "seed": "seed 0, not 5",
        "trials": "trials 2, not 3",
        "images_per_trial": "images_per_trial 128, not 64",
        "strategy": "strategy 'RandomSearch', not 'DiffusionGuided'",
    }.items():
        given: dict[str, Any] = {
            "budget": 0.5, "seed": 5, "trials": 3, "images_per_trial": 64, "strategy": "DiffusionGuided",
        }  # fmt: skip
        with pytest.raises(JobError, match=f"holds a search with {said}: leave that out, or name another folder"):
            nni_diffnas.search("waves.npz", **{other: given[other]})
    with pytest.raises(JobError, match=r"holds a search of '.*waves.npz', not of 'digits'"):
        nni_diffnas.search("digits", folder="waves-search")
    with pytest.raises(JobError, match="seeds is 1: give 2 or more"):
        found.verdict(seeds=1)
    found.folder.rename(images.parent / "renamed")
    assert nni_diffnas.search("waves.npz", folder="renamed").best.id == best.id


@pytest.mark.parametrize(
    "given", [{"hours": "2h"}, {"hours": None}, {"trials": "3"}, {"trials": 2.5}, {"size": "16"}, {"seed": True}]
)
def test_what_is_no_number_is_refused(images: Path, given: dict[str, Any]) -> None:
    (name, value) = next(iter(given.items()))
    with pytest.raises(JobError, match=f"{name} is {value!r}: give a (whole )?number"):
        nni_diffnas.search(images, **given)


@pytest.mark.parametrize("given", [{"seed": -1}, {"trials": -3}, {"images_per_trial": -5}, {"hours": -1.0}])
def test_numbers_that_nobody_can_mean_are_refused(images: Path, given: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=r"(is -\d+|The time is -1 hours): give "):
        nni_diffnas.search(images, **given)
    assert [file.name for file in images.parent.iterdir()] == [images.name]


def test_a_search_of_another_door_goes_on_or_says_why_it_cannot(images: Path) -> None:
    home = images.parent / "abc"
    home.mkdir()
    job = {
        "space": {"type": "unet", "preset": "digits"},
        "data": {"source": str(images)},
        "evaluator": {"type": "diffusion", "training": {"steps": 5}},
    }
    with SearchMemory(home / "memory.sqlite") as memory:
        for most, said in ((None, "a search of as many trials as you like"), (3, "images_per_trial None, not 64")):
            memory.log("experiment", "abc", {"job": job, "strategy": "RandomSearch", "max_trials": most})
            with pytest.raises(JobError, match=said):
                nni_diffnas.search(images, folder=home, images_per_trial=64 if most else None)


def test_a_folder_with_something_else_is_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(images.parents[1]))
    for folder in (images.parent, f"~/{images.parent.name}"):
        with pytest.raises(JobError, match="is not an empty folder: name another one by folder"):
            nni_diffnas.search(images, folder=folder)
