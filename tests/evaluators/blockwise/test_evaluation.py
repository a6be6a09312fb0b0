"""Training blocks and students of tiny teachers, in pixels; what is compared, returned, inherited and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blockwise_teachers import QUICK, save_teacher

from nni_diffnas.api.errors import DataError, JobError, TrialFailure
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.trial import UNRANKED
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.choosing import _add_losses, compare_paths, front_of, prefix_macs
from nni_diffnas.evaluators.blockwise.forward_hooks import block_loss, record
from nni_diffnas.evaluators.blockwise.settings import BETAS, SupernetSettings
from nni_diffnas.evaluators.blockwise.supernet import train_supernet
from nni_diffnas.evaluators.blockwise.swapping import swapped_losses
from nni_diffnas.evaluators.blockwise.teacher_pipeline import NoisedImages, TeacherPipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily


def evaluation(**options: Any) -> BlockwiseEvaluation:
    made = BlockwiseEvaluation({"source": "digits"}, **{**QUICK, **options})
    made.prepare()
    return made


def context(family: BlockwiseUNetFamily, folder: Path, architecture: Any = None, **settings: Any) -> TrialContext:
    folder.mkdir(exist_ok=True)
    return TrialContext(
        family.default if architecture is None else architecture, folder, 0, settings=settings, family=family
    )


def run(judge: BlockwiseEvaluation, family: BlockwiseUNetFamily, asked: TrialContext) -> dict[str, Any]:
    torch.manual_seed(asked.seed)
    return judge.evaluate(family.build(asked.architecture), asked)


def images(family: BlockwiseUNetFamily, seed: int = 0) -> tuple[TeacherPipeline, NoisedImages]:
    teacher = TeacherPipeline(family)
    clean = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return teacher, NoisedImages(teacher, clean, None, seed)


def test_beta_goes_from_distillation_to_noise() -> None:
    assert {name: (beta(0.0), beta(1.0)) for name, beta in BETAS.items()} == {
        "constant0": (0.0, 0.0),
        "constant1": (1.0, 1.0),
        "half": (0.5, 0.5),
        "hard": (0.0, 1.0),
        "linear": (0.0, 1.0),
        "cosine": (0.0, 1.0),
    }
    for name in ("hard", "linear", "cosine"):
        values = [BETAS[name](done / 10) for done in range(11)]
        assert values == sorted(values)


def test_what_a_teachers_file_leaves_open_is_told(tmp_path: Path) -> None:
    save_teacher(tmp_path)
    told = evaluation()
    told.check(BlockwiseUNetFamily(str(tmp_path)))
    assert told.describe_data() == told.images.describe()
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    del config["prediction_type"]
    file.write_text(json.dumps(config))
    told.check(BlockwiseUNetFamily(str(tmp_path)))
    line = told.describe_data()[-1]
    assert line.startswith("the teacher: Its scheduler's file names no prediction_type: epsilon, which DDPMScheduler")


def test_noised_images_have_the_schedules_levels(family: BlockwiseUNetFamily) -> None:
    _, drawn = images(family)
    batch = drawn.draw(64)
    assert torch.allclose(batch.a**2 + batch.s**2, torch.ones_like(batch.a), atol=1e-5)
    assert torch.allclose(batch.noised, batch.a * batch.clean + batch.s * batch.noise)
    ordered = batch.times.sort().values
    assert all(int(i * 1000 / 64) <= int(time) < (i + 1) * 1000 / 64 for i, time in enumerate(ordered)), "stratified"
    again = images(family)[1].draw(64)
    assert torch.equal(again.noised, batch.noised)


def test_a_teachers_block_has_no_loss_against_itself(family: BlockwiseUNetFamily) -> None:
    teacher, drawn = images(family)
    batch = drawn.draw(16)
    paths = {block.name: family.block_path(block.name) for block in family.blocks}
    calls = record(teacher.network, paths, lambda: teacher.network(batch.noised, batch.times))
    assert list(calls) == list(paths)
    for name, call in calls.items():
        outputs = call.run(teacher.network.get_submodule(paths[name]))
        assert float(block_loss(outputs, call, call.variances())) == 0.0
        mean = tuple(output.mean().expand_as(output) for output in call.outputs)
        assert float(block_loss(mean, call, call.variances())) == pytest.approx(1.0, abs=0.01)
    assert len(calls["down0"].outputs) == 2, "the level's skip and its output, which is a skip too"
    stopped = record(teacher.network, paths, lambda: teacher.network(batch.noised, batch.times), last="down1")
    assert list(stopped) == ["down0", "down1"]


def test_choosing_keeps_to_its_share_and_matches_plain_scoring(family: BlockwiseUNetFamily) -> None:
    teacher, drawn = images(family)
    block = family.blocks[3]
    torch.manual_seed(0)
    supernet: Any = family.supernet(block.name, teacher.network)
    settings = SupernetSettings(steps=60, batch_size=32, cached_images=64, front=6, first_images=8)
    losses: list[float] = []
    trained = train_supernet(supernet, block, teacher, drawn, settings, 0, lambda loss, step: losses.append(loss))
    assert losses[-1] < losses[0]
    choosing = compare_paths(supernet, block, trained, settings, 0)
    assert choosing.macs <= 0.1 * trained.macs
    assert choosing.teacher.path == block.teacher
    assert len(choosing.scored) >= 12, "the rounds end before too few are left to choose from"
    front = front_of(block, choosing, settings.front)
    assert len(front) <= settings.front
    assert block.teacher in [scored.path for scored in front]
    assert block.cost(front[0].path).macs == block.rest.macs + sum(
        min(cost.macs for cost in layer.costs) for layer in block.layers
    ), "the cheapest path is among them, so that every feasible budget has a choice"
    for scored in front:
        supernet.choose(scored.path)
        rows = trained.call.rows(torch.arange(scored.images))
        with torch.no_grad():
            loss = float(block_loss(rows.run(supernet), rows, trained.variances))
        assert loss == pytest.approx(scored.loss, rel=1e-4)
    costs = [block.cost(scored.path).macs for scored in front if scored.path != block.teacher]
    assert costs == sorted(costs)


def test_prefixes_are_counted_once(family: BlockwiseUNetFamily) -> None:
    block = family.blocks[3]
    one, other = block.layers
    paths = [(0, 0), (0, 1), (2, 1)]
    expected = 3 * block.rest.macs + one.costs[0].macs + one.costs[2].macs
    expected += other.costs[0].macs + 2 * other.costs[1].macs
    assert prefix_macs(block, paths) == expected


def test_losses_accumulate_over_images(family: BlockwiseUNetFamily) -> None:
    teacher, drawn = images(family)
    block = family.blocks[0]
    supernet: Any = family.supernet(block.name, teacher.network)
    settings = SupernetSettings(steps=2, batch_size=16, cached_images=32)
    trained = train_supernet(supernet, block, teacher, drawn, settings, 0, lambda loss, step: None)
    supernet.eval()
    parts: dict[tuple[int, ...], float] = {}
    whole: dict[tuple[int, ...], float] = {}
    _add_losses(supernet, trained, [block.teacher], parts, 0, 8)
    _add_losses(supernet, trained, [block.teacher], parts, 8, 32)
    _add_losses(supernet, trained, [block.teacher], whole, 0, 32)
    assert parts[block.teacher] == pytest.approx(whole[block.teacher], rel=1e-4)


def test_too_short_a_training_cannot_pay_for_choosing(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    judge = evaluation(supernet={"steps": 1, "batch_size": 1, "cached_images": 64})
    with pytest.raises(TrialFailure, match=r"raise supernet\.steps"):
        run(judge, family, context(family, tmp_path, task="block", block="down0"))


def test_a_block_trial_returns_a_front_that_nni_can_ship(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    metrics = run(evaluation(), family, context(family, tmp_path, task="block", block="up0"))
    block = family.blocks[3]
    assert metrics[UNRANKED] == 1
    assert "rfid" not in metrics
    assert len(json.dumps(metrics)) < 8000
    for macs, params, latency, loss, *path in metrics["front"]:
        assert (macs, params) == (block.cost(path).macs, block.cost(path).params)
        assert latency == -1.0
        assert loss > 0
    assert metrics["choosing_macs"] <= 0.1 * metrics["train_macs"]
    assert json.loads((tmp_path / "evaluation.json").read_text())["settings"] == {"task": "block", "block": "up0"}


def test_a_path_swapped_into_the_teacher_is_judged_by_the_networks_prediction(family: BlockwiseUNetFamily) -> None:
    teacher, drawn = images(family)
    block, batch = family.blocks[1], drawn.draw(8)
    supernet: Any = family.supernet(block.name, teacher.network)
    place = family.block_path(block.name)
    paths = [block.teacher, tuple(0 for _ in block.layers)]
    losses = swapped_losses(teacher, place, supernet, paths, batch)
    wanted = teacher.predict(teacher.network, batch.noised, batch.times, {})
    for path, loss in zip(paths, losses, strict=True):
        architecture = family.assemble(path if other is block else other.teacher for other in family.blocks)
        student = family.build(architecture).eval()
        state = {**family.teacher().state_dict()}
        student.load_state_dict(
            {name: value for name, value in state.items() if not name.startswith(place)}, strict=False
        )
        student.get_submodule(place).load_state_dict(supernet.path_state(path))
        with torch.no_grad():
            made = teacher.predict(student, batch.noised, batch.times, {})
        assert loss == pytest.approx(float((made - wanted).square().mean() / wanted.var()), rel=1e-3)
    again = teacher.predict(teacher.network, batch.noised, batch.times, {})
    assert torch.equal(again, wanted), "the teacher is itself again"


def test_the_front_tells_what_swapping_found(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    def front(folder: str, **supernet: int) -> dict[str, Any]:
        judge = evaluation(supernet={**QUICK["supernet"], **supernet})
        return run(judge, family, context(family, tmp_path / folder, task="block", block="middle"))

    own, swapped = front("own"), front("swapped", swap_images=8)
    assert [row[4:] for row in own["front"]] == [row[4:] for row in swapped["front"]]
    assert [row[3] for row in own["front"]] != [row[3] for row in swapped["front"]]
    assert swapped["choosing_macs"] > own["choosing_macs"]
    assert swapped["output_variance"] == 1.0


def test_the_same_block_trial_twice_is_the_same(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    first, second = (
        run(evaluation(), family, context(family, tmp_path, task="block", block="down0"))["front"] for _ in range(2)
    )
    assert first == second


def test_students_are_retrained_scored_and_saved(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    architecture = family.space.sample(np.random.default_rng(0))
    judge = evaluation(inherit="supernet")
    missing = context(family, tmp_path / "missing", architecture, task="retrain")
    with pytest.raises(TrialFailure, match="not trained on this machine"):
        run(evaluation(inherit="supernet", supernet={**QUICK["supernet"], "steps": 41}), family, missing)
    for block in family.blocks:
        run(judge, family, context(family, tmp_path / block.name, task="block", block=block.name))
    asked = context(family, tmp_path / "student", architecture, task="retrain", beta="hard")
    metrics = run(judge, family, asked)
    assert metrics["rfid"] > 0
    assert metrics["train_macs"] > 0
    assert (asked.output / "model.safetensors").is_file()
    assert (asked.output / "samples.png").is_file()


def test_a_student_that_falls_behind_ends_itself(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    judge = evaluation(training={"images": 128, "batch_size": 32, "reports": 4}, curve_points=3, curve_images=16)
    assert judge.rungs == ("rfid",)
    whole = run(judge, family, context(family, tmp_path / "whole", task="retrain"))
    assert {"rfid@25", "rfid@50", "rfid@75", "rfid"} <= whole.keys()
    limit = {"stop.rfid@50": whole["rfid@50"] / 2}
    stopped = run(judge, family, context(family, tmp_path / "stopped", task="retrain", **limit))
    assert stopped[UNRANKED] == 1
    assert {"rfid@25", "rfid@50"} == {name for name in stopped if name.startswith("rfid")}
    assert "above" in json.loads((tmp_path / "stopped" / "evaluation.json").read_text())["stopped"]


def test_a_student_in_the_teachers_shape_inherits_all(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    judge = evaluation(training={"images": 32, "batch_size": 32, "learning_rate": 1e-9, "reports": 1})
    student = run(judge, family, context(family, tmp_path / "student", task="retrain", beta="constant0"))
    teacher = run(judge, family, context(family, tmp_path / "teacher", task="teacher"))
    assert student["loss"] == pytest.approx(0.0, abs=1e-9), "its blocks are the teacher's"
    assert student["rfid"] == pytest.approx(teacher["rfid"], rel=1e-3)
    assert "train_macs" not in teacher


def test_the_papers_way_is_one_option() -> None:
    paper = evaluation(recipe="paper", supernet={"steps": 7}).settings
    assert (paper.beta, paper.features, paper.soft_target, paper.bank) == ("cosine", "teacher", 0.0, 0)
    assert paper.importance == "norm"
    assert (paper.supernet.optimizer, paper.supernet.steps) == ("adam", 7)
    assert evaluation(recipe="paper", beta="linear").settings.beta == "linear"
    ours = BlockwiseEvaluation({"source": "digits"}, training={"images": 64}).settings
    assert ours.training.batch_size == BlockwiseEvaluation({"source": "digits"}).settings.training.batch_size == 16
    assert (ours.beta, ours.features, ours.soft_target, ours.supernet.optimizer) == ("half", "own", 1.0, "muon")


def test_a_bank_saves_the_teacher_work(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    def macs(**options: Any) -> float:
        judge = evaluation(beta="constant1", **options)
        folder = tmp_path / "-".join(options)
        return float(run(judge, family, context(family, folder, task="retrain"))["train_macs"])

    plain, banked = macs(), macs(bank=32, bank_passes=2, bank_memory=0.0)
    assert plain - banked == 64 * family.teacher_cost.macs, "of 128 images every other is one that was answered before"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"training": {"images": 64, "prediction": "v"}}, "training.prediction"),
        ({"inherit": "nothing", "beta": "constant0"}, "untrained"),
        ({"beta": "quadratic"}, "quadratic"),
        ({"bank": 64, "soft_target": 0.0}, "leave one of them out"),
        ({"supernet": {"choosing_share": 0.5}}, "choosing_share"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        BlockwiseEvaluation({"source": "digits"}, **{**QUICK, **options})


def test_images_that_do_not_fit_are_refused_before_training(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    for shape, said in (((4, 16, 16), "16x16 with 1 channels"), ((4, 8, 8, 3), "8x8 with 3 channels")):
        np.savez(tmp_path / "images.npz", images=np.arange(np.prod(shape)).astype(np.uint8).reshape(shape))
        judge = BlockwiseEvaluation({"source": str(tmp_path / "images.npz"), "held_out": 0}, **QUICK)
        with pytest.raises(DataError, match=f"{said}, the teacher takes images of 8x8 with 1"):
            judge.check(family)
    with pytest.raises(JobError, match="the teacher has 500 timesteps"):
        BlockwiseEvaluation({"source": "digits"}, **{**QUICK, "training": {"images": 64}, "sampler_steps": 1000}).check(
            BlockwiseUNetFamily(save_teacher(tmp_path / "short", steps=500))
        )


def test_other_spaces_tasks_and_blocks_are_refused(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    from nni_diffnas.search_spaces import UNetFamily

    judge, others = evaluation(), UNetFamily("digits")
    with pytest.raises(JobError, match="space 'blockwise'"):
        judge.check(others)
    with pytest.raises(JobError, match="student of a teacher"):
        judge.evaluate(others.build(others.default), context(others, tmp_path))
    with pytest.raises(JobError, match="'down7' is unknown"):
        run(judge, family, context(family, tmp_path, task="block", block="down7"))
    with pytest.raises(JobError, match="'dance'"):
        run(judge, family, context(family, tmp_path, task="dance"))


def labelled(folder: Path, numbers: list[int], **data: Any) -> BlockwiseEvaluation:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=np.resize(numbers, 60))
    return BlockwiseEvaluation({"source": str(folder / "images.npz"), **data}, **QUICK)


@pytest.mark.parametrize("labels", [[3, 7], list(range(1, 11))])
def test_the_teacher_is_asked_for_the_classes_that_the_labels_name(tmp_path: Path, labels: list[int]) -> None:
    teacher = BlockwiseUNetFamily(save_teacher(tmp_path / "teacher", num_class_embeds=11))
    judge = labelled(tmp_path, labels)
    judge.check(teacher)
    asked: list[int] = []
    network = teacher.build(teacher.default)
    network.register_forward_pre_hook(
        lambda module, given, named: asked.extend(named["class_labels"].tolist()), with_kwargs=True
    )
    judge.evaluate(network, context(teacher, tmp_path / "trial"))
    assert set(asked) == set(labels)


def test_labels_that_the_teacher_does_not_know_are_refused(tmp_path: Path) -> None:
    teacher = BlockwiseUNetFamily(save_teacher(tmp_path / "teacher", num_class_embeds=5))
    with pytest.raises(DataError, match=r"5 classes, 0 to 4, the data has labels up to 7.*class_numbers to in_turn"):
        labelled(tmp_path, [3, 7]).check(teacher)
    labelled(tmp_path, [3, 7], class_numbers="in_turn").check(teacher)
    with pytest.raises(DataError, match="the data has 0: give labels"):
        labelled(tmp_path, [3, 7], labels=False).check(teacher)


def test_class_folders_without_numbers_say_nothing_to_a_teacher_of_more_classes(tmp_path: Path) -> None:
    from PIL import Image

    teacher = BlockwiseUNetFamily(save_teacher(tmp_path / "teacher", num_class_embeds=5))
    for index in range(40):
        file = tmp_path / "pictures" / ("cat", "dog")[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    data = {"source": str(tmp_path / "pictures")}
    with pytest.raises(DataError, match=r"nothing says which of them cat, dog are: name the class folders"):
        BlockwiseEvaluation(data, **QUICK).check(teacher)
    BlockwiseEvaluation({**data, "class_numbers": "in_turn"}, **QUICK).check(teacher)
