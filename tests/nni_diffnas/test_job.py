from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from blockwise_teachers import save_teacher

from nni_diffnas.api.blocks import BlockFamily
from nni_diffnas.api.errors import DiffNASError, JobError, PluginError
from nni_diffnas.job import Job, data_source, load_job, refuse_secrets
from nni_diffnas.language_model.redaction import Redactor
from nni_diffnas.latency import TimedFamily
from nni_diffnas.search_spaces import TableFamily, UNetFamily

GOOD = """
space: {type: unet, preset: digits}
data: {source: digits}
evaluator: {type: diffusion}
budget: {params: {max: 1000000}}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "job.yml"
    file.write_text(text)
    return file


def test_loads_and_makes_everything(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD))
    family = job.make_family()
    assert family.cost(family.default).params > 0
    assert job.make_budget().admits(family.cost(family.default))
    assert job.make_objective().metric == "rfid"
    assert job.make_evaluation() is not None


@pytest.mark.parametrize("metric", ["rfid", "rfid_inf", "kid", "loss", "held_out_loss"])
def test_the_worst_network_is_not_searched_for(metric: str, tmp_path: Path) -> None:
    measured = GOOD.replace("{type: diffusion}", "{type: diffusion, loss_images: 64}")
    job = load_job(write(tmp_path, f"{measured}objective: {{metric: {metric}, direction: maximize}}\n"))
    with pytest.raises(JobError, match=f"less {metric} is better, so that the worst network would win: set it to min"):
        job.make_evaluation()
    fast = load_job(write(tmp_path, GOOD + "objective: {metric: images_per_second, direction: maximize}\n"))
    assert fast.make_evaluation() is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold fields"),
        ("a: [", "not YAML"),
        ("space: {type: unet}\nevaluator: {type: diffusion}\nspacee: 1", "spacee"),
        ("evaluator: {type: diffusion}", "'space' is missing"),
        ("on: push\njobs: {build: {runs-on: linux}}\n", r"none of a job's fields \(space, data, .*something else"),
        (GOOD.replace("evaluator:", "evaluater:"), "'evaluater' is unknown: use space, data, evaluator"),
        (GOOD + "seed: -1", "'seed' cannot be -1"),
        (GOOD + "objective: {metric: rfid, direction: up}", "direction"),
        (GOOD + "openai_api_key: abcdef", "OPENAI_API_KEY"),
        (GOOD.replace("source: digits", "source: digits, note: sk-abcdefghijklmnopqrstuv"), "secret"),
    ],
)
def test_refusals_are_one_sentence_that_names_the_field(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=said) as caught:
        load_job(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["sk-abcdefghijklmnopqrstuv", "xai-0123456789abcdef", "Bearer abcdefgh.ijkl", "Bearer words:only", "sk-short"],
)
def test_what_a_job_refuses_as_a_key_is_what_is_taken_out_of_answers(text: str) -> None:
    removed = Redactor("").text(text) != text
    with pytest.raises(JobError, match="secret") if removed else nullcontext():
        refuse_secrets({"note": text}, "The job")


@pytest.mark.parametrize("limit", [".inf", "1e300", ".nan", "0"])
def test_a_time_limit_is_one_that_a_clock_can_count(limit: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="field 'max_trial_seconds' cannot be"):
        load_job(write(tmp_path, f"{GOOD}max_trial_seconds: {limit}\n"))


@pytest.mark.parametrize("field", ["data: {source: digits, size: yes}", "data: {source: digits, split_seed: no}"])
def test_yes_is_no_number_for_an_evaluator_either(field: str, tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD.replace("data: {source: digits}", field)))
    with pytest.raises(JobError, match=r"data\.\w+ is (True|False), which does not fit: .*give a number"):
        job.make_evaluation()


def test_the_home_of_a_user_who_is_not_there_is_a_name_like_any_other() -> None:
    assert data_source("~nobody-of-this-name/pictures").endswith("~nobody-of-this-name/pictures")


@pytest.mark.parametrize("space", ["blockwise", "table"])
def test_a_family_that_states_latency_itself_is_left_as_it_is(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNI_DIFFNAS_CACHE", str(tmp_path))
    if space == "table":
        content = {"labels": ["a"], "choices": [[0], [1]], "metrics": ["rfid", "latency_ms"]}
        np.savez(tmp_path / "t.npz", **content, values=[[2.0, 1.5], [1.0, 3.0]])
        options = f"{{type: table, path: {tmp_path / 't.npz'}}}"
    else:
        options = f"{{type: blockwise, latency: true, teacher: {save_teacher(tmp_path / 'teacher')}}}"
    text = GOOD.replace("{type: unet, preset: digits}", options).replace(
        "{params:", "{latency_ms: {max: 1000}, params:"
    )
    family = load_job(write(tmp_path, text)).make_family()
    assert isinstance(family, BlockFamily if space == "blockwise" else TableFamily)
    assert family.cost(family.default).latency_ms is not None


def test_a_timed_family_keeps_what_the_family_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NNI_DIFFNAS_CACHE", str(tmp_path))
    monkeypatch.setattr(UNetFamily, "cuts", {"level0.blocks": (1,)})
    monkeypatch.setattr(UNetFamily, "pipeline", tmp_path)
    family = load_job(write(tmp_path, GOOD.replace("{params:", "{latency_ms: {max: 1000}, params:"))).make_family()
    assert isinstance(family, TimedFamily)
    assert (family.cuts, family.pipeline) == ({"level0.blocks": (1,)}, tmp_path)


def test_an_objective_that_nobody_measures_is_refused_before_anything_trains(tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD + "objective: {metric: fid}"))
    with pytest.raises(JobError, match=r"objective.metric is 'fid', .* name one of rfid, .*macs"):
        job.make_evaluation()


def test_missing_file_and_plugin(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be read"):
        load_job(tmp_path / "none.yml")
    job = load_job(write(tmp_path, GOOD.replace("type: unet", "type: nonesuch")))
    with pytest.raises(PluginError, match=r"nonesuch.*unet"):
        job.make_family()


@pytest.mark.parametrize(
    ("old", "new"),
    [("preset: digits", "presett: digits"), ("type: diffusion", "type: diffusion, imagess: 3"), ("params:", "paramz:")],
)
def test_unknown_options_of_a_section_are_refused(old: str, new: str, tmp_path: Path) -> None:
    job = load_job(write(tmp_path, GOOD.replace(old, new)))
    with pytest.raises(DiffNASError):
        (job.make_family(), job.make_evaluation(), job.make_budget())


def test_relative_paths_start_at_the_job_file(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    text = GOOD.replace("source: digits", "source: pictures, root: data")
    job = load_job(write(tmp_path, text))
    assert job.data == {"source": str(tmp_path / "pictures"), "root": str(tmp_path / "data")}
    assert load_job(write(tmp_path, GOOD)).data == {"source": "digits"}


def test_latency_as_objective_has_to_be_bounded_to_be_measured() -> None:
    content = {
        "space": {"type": "unet", "preset": "digits"},
        "data": {"source": "digits"},
        "evaluator": {"type": "diffusion"},
        "objective": {"metric": "latency_ms"},
    }
    with pytest.raises(JobError, match="a window on latency_ms"):
        Job.model_validate(content).make_evaluation()
    Job.model_validate({**content, "budget": {"latency_ms": {"max": 50}}}).make_evaluation()


def test_a_source_is_a_data_set_before_it_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("digits", "pictures"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))

    def source(written: str) -> str:
        return str(load_job(write(tmp_path, GOOD.replace("source: digits", f"source: {written}"))).data["source"])

    assert source("digits") == "digits"
    assert source("./digits") == str(tmp_path / "digits")
    assert source("pictures") == source("~/pictures") == str(tmp_path / "pictures")
    assert source("nothing") == "nothing"
