from __future__ import annotations

from pathlib import Path

import pytest

from nni_diffnas.errors import DiffNASError, JobError, PluginError
from nni_diffnas.job import Job, load_job

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold fields"),
        ("a: [", "not YAML"),
        ("space: {type: unet}\nevaluator: {type: diffusion}\nspacee: 1", "spacee"),
        ("evaluator: {type: diffusion}", "'space' is missing"),
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
