"""How students start, what they learn from, and how they are judged: inheritance, soft targets, forecast, verdict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from blockwise_teachers import QUICK, save_teacher
from torch import Tensor, nn

from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.space import Architecture
from nni_diffnas.api.trial import Origin, Trial
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.forward_hooks import Call, block_loss
from nni_diffnas.evaluators.blockwise.importance import taylor_importance
from nni_diffnas.evaluators.blockwise.inherit import fill_fitting
from nni_diffnas.evaluators.blockwise.joint import JointLoss, Retraining
from nni_diffnas.evaluators.blockwise.settings import FeatureSource
from nni_diffnas.evaluators.blockwise.teacher_pipeline import Noised, NoisedImages, TeacherPipeline
from nni_diffnas.evaluators.training.recipe import Recipe
from nni_diffnas.job import load_job
from nni_diffnas.results.judging import judge
from nni_diffnas.results.verdict_text import gain_in_words
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.searching.forecast import forecast_search
from nni_diffnas.trial.run import build_seeded


def everywhere(family: BlockwiseUNetFamily, **choices: float) -> Architecture:
    """The teacher's architecture with some choices made in every residual block that offers them."""
    chosen = dict(family.default)
    for label, values in family.space.choices.items():
        wanted = choices.get(label.rpartition(".")[2])
        if wanted in values:
            chosen[label] = wanted
    return family.space.validate(chosen)


def output(network: nn.Module) -> Tensor:
    noised = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made: Tensor = network.eval()(noised, torch.tensor([3, 100, 500, 900])).sample
    return made


def distance(family: BlockwiseUNetFamily, architecture: Architecture, *, inherits: bool) -> float:
    """Squared distance of a student's output to the teacher's, before any training; 1 is saying the mean."""
    student, teacher = build_seeded(family, architecture, 0), family.teacher()
    if inherits:
        fill_fitting(student, teacher.state_dict())
    wanted = output(teacher)
    return float((output(student) - wanted).square().mean() / wanted.var())


def test_larger_kernels_start_as_the_teacher(family: BlockwiseUNetFamily) -> None:
    architecture = everywhere(family, kernel1=5, kernel2=5)
    assert architecture != family.default
    assert distance(family, architecture, inherits=True) < 1e-9
    assert distance(family, architecture, inherits=False) > 0.1


@pytest.mark.parametrize("choices", [{"width": 0.5}, {"width": 1.2}, {"kernel1": 1, "kernel2": 1, "width": 0.5}])
def test_what_is_kept_of_a_resized_layer_brings_it_nearer_to_the_teacher(
    family: BlockwiseUNetFamily, choices: dict[str, float]
) -> None:
    architecture = everywhere(family, **choices)
    assert architecture != family.default
    assert distance(family, architecture, inherits=True) < 0.8 * distance(family, architecture, inherits=False)


def test_of_fewer_channels_the_strongest_of_each_group_stay(family: BlockwiseUNetFamily) -> None:
    architecture = everywhere(family, width=0.5)
    teacher, student = family.teacher(), family.build(architecture)
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    block = "mid_block.resnets.0"
    strong = [1, 3, 4, 6, 9, 11, 13, 14]  # two in each of the four groups of four
    state[f"{block}.norm2.weight"].fill_(1e-3)[strong] = 1.0
    fill_fitting(student, state)
    made = student.state_dict()
    assert torch.equal(made[f"{block}.conv1.weight"], state[f"{block}.conv1.weight"][strong])
    assert torch.equal(made[f"{block}.conv2.weight"], state[f"{block}.conv2.weight"][:, strong])
    assert torch.equal(made[f"{block}.time_emb_proj.weight"], state[f"{block}.time_emb_proj.weight"][strong])
    assert torch.equal(made[f"{block}.norm2.weight"], torch.ones(8))


def test_what_resamples_without_a_3x3_convolution_starts_as_it_on_even_surfaces(tmp_path: Path) -> None:
    family = BlockwiseUNetFamily(save_teacher(tmp_path), resample=["convolution", "pool"])
    teacher, architecture = family.teacher(), dict(family.default)
    architecture |= {label: "pool" for label in architecture if label.endswith("resample")}
    student = family.build(architecture)
    assert fill_fitting(student, teacher.state_dict()) == set(student.state_dict())
    for name, channels in (("down_blocks.0.downsamplers.0", 8), ("up_blocks.0.upsamplers.0", 16)):
        even = torch.randn(2, channels, 1, 1).expand(-1, -1, 6, 6)
        with torch.no_grad():
            wanted, made = (network.get_submodule(name)(even)[..., 1:-1, 1:-1] for network in (teacher, student))
        assert torch.allclose(wanted, made, atol=1e-5), "but for the border, where the convolution sees zeros"


def test_a_block_of_another_kind_starts_as_the_machines_supernet_has_it_or_as_its_shortcut(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "teacher", resnet_time_scale_shift="scale_shift")
    family = BlockwiseUNetFamily(folder, kinds=["residual", "convnext"])
    architecture = {**family.default, "middle.res0.kind": "convnext"}
    evaluation = BlockwiseEvaluation(
        {"source": "digits"}, **{**QUICK, "training": {"images": 1, "learning_rate": 1e-9}}
    )
    evaluation.prepare()

    def started(name: str, **settings: Any) -> nn.Module:
        (tmp_path / name).mkdir()
        student = build_seeded(family, architecture, 0)
        chosen = family.space.validate(architecture)
        evaluation.evaluate(student, TrialContext(chosen, tmp_path / name, 0, settings=settings, family=family))
        return student.get_submodule("mid_block.resnets.0")

    features, time = torch.randn(2, 16, 4, 4), torch.randn(2, 32)
    fresh = started("fresh", task="probe", share=1.0)
    assert torch.allclose(fresh(features, time), features, atol=1e-3)
    started("block", task="block", block="middle")
    trained = started("trained", task="probe", share=1.0)
    assert not torch.allclose(trained(features, time), features, atol=1e-2)
    supernet = evaluation.supernets(TeacherPipeline(family)).find(family.blocks[2], 0)
    state = supernet.path_state(family.blocks[2].path(family.space.validate(architecture)))
    assert torch.allclose(trained.get_parameter("expand.weight"), state["resnets.0.expand.weight"], atol=1e-5)


def test_channels_that_the_loss_needs_are_important_however_small_their_weights(family: BlockwiseUNetFamily) -> None:
    teacher, block = TeacherPipeline(family), "mid_block.resnets.0."
    clean = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    outgoing = teacher.network.get_parameter(f"{block}conv2.weight")
    outgoing.data[:, 3] = 0.0
    outgoing.data[:, 5] *= 10.0
    found = taylor_importance(NoisedImages(teacher, clean, None, 0))
    assert found.keys() == {n.removesuffix("conv2.weight") for n in teacher.network.state_dict() if "conv2.weight" in n}
    channels = found[block]
    assert channels.shape == (16,)
    assert channels.argmin() == 3, "what goes nowhere does nothing"
    assert channels.argmax() == 5
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    student = family.build(everywhere(family, width=0.5))
    fill_fitting(student, teacher.network.state_dict(), {name: torch.arange(len(c)) for name, c in found.items()})
    kept = student.get_parameter(f"{block}conv1.weight")
    last_of_each_group = [2, 3, 6, 7, 10, 11, 14, 15]
    assert torch.equal(kept, teacher.network.get_parameter(f"{block}conv1.weight")[last_of_each_group])


def retraining(
    family: BlockwiseUNetFamily,
    student: nn.Module,
    soft_target: float,
    beta: float,
    batch: int = 32,
    features: FeatureSource = "own",
) -> Retraining:
    teacher = TeacherPipeline(family)
    clean = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    recipe = Recipe(images=64, batch_size=batch)
    images = NoisedImages(teacher, clean, None, 0)
    return Retraining(student, 1, teacher, images, recipe, JointLoss(lambda done: beta, soft_target, features))


@pytest.mark.parametrize(("features", "passes"), [("own", 1), ("teacher", 2)])
def test_a_student_is_run_once_unless_its_blocks_are_fed_by_the_teacher(
    family: BlockwiseUNetFamily, features: FeatureSource, passes: int
) -> None:
    student, ran = build_seeded(family, everywhere(family, width=0.5), 1), []
    student.get_submodule("mid_block").register_forward_hook(lambda *seen: ran.append(seen[0]))
    learner = retraining(family, student, 1.0, 0.5, features=features)
    loss = learner.gradient(learner.draw(0.0))
    assert len(ran) == passes
    assert loss > 0.1
    head = student.get_parameter("conv_out.weight")
    block = student.get_parameter("mid_block.resnets.0.conv1.weight")
    assert all(each.grad is not None and each.grad.norm() > 0 for each in (head, block))
    whole = family.teacher_cost.macs
    assert learner.spent == 32 * (3.0 * (1 if features == "own" else 1 + family.blocks_share) + whole)


def test_a_few_huge_activations_do_not_teach() -> None:
    wanted = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    wanted[0] = 1e4
    call, variances = Call((), {}, (wanted,)), (torch.ones(()),)
    zero = (torch.zeros(1000),)
    assert block_loss(zero, call, variances) > 1e4
    assert float(block_loss(zero, call, variances, within=6.0)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("features", ["own", "teacher"])
def test_a_soft_target_is_the_teachers_own_prediction(family: BlockwiseUNetFamily, features: FeatureSource) -> None:
    def loss(soft_target: float, beta: float = 1.0) -> float:
        learner = retraining(family, family.teacher(), soft_target, beta, features=features)
        return float(learner.gradient(learner.draw(0.0)))

    assert loss(1.0) == pytest.approx(0.0, abs=1e-9), "the teacher agrees with itself"
    assert loss(0.0) > 0.1, "and not with the noise"
    assert loss(0.5) == pytest.approx(0.25 * loss(0.0), rel=1e-4)
    assert loss(1.0, beta=0.5) == pytest.approx(0.0, abs=1e-9)


def test_short_memory_halves_a_students_batch_and_changes_nothing_else(
    family: BlockwiseUNetFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def gradients(largest: int) -> dict[str, Tensor]:
        student = build_seeded(family, family.default, 1)
        learner, whole = retraining(family, student, 0.5, 0.5, batch=16), Retraining.noise_loss

        def narrow(self: Retraining, batch: Noised, prediction: Tensor, answer: Tensor | None) -> Tensor:
            sizes.append(len(batch.times))
            if len(batch.times) > largest:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(self, batch, prediction, answer)

        with monkeypatch.context() as patched:
            patched.setattr(Retraining, "noise_loss", narrow)
            learner.gradient(learner.draw(0.0))
        return {name: each.grad for name, each in student.named_parameters() if each.grad is not None}

    wanted, found = gradients(16), gradients(5)
    assert sizes == [16, 16, 8, 4, 4, 4, 4]
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name


def test_longer_and_held_out_stay_blockwise(family: BlockwiseUNetFamily, tmp_path: Path) -> None:
    judged = BlockwiseEvaluation({"source": "digits", "held_out": 0.1}, **{**QUICK, "beta": "hard"})
    longer = judged.longer(2.0)
    assert isinstance(longer, BlockwiseEvaluation)
    assert longer.settings.training.images == 256
    assert longer.settings.beta == "hard"
    held = judged.held_out()
    assert isinstance(held, BlockwiseEvaluation)
    held.prepare()
    model = build_seeded(family, family.default, 0)
    metrics = held.evaluate(
        model, TrialContext(family.default, tmp_path, 0, settings={"task": "teacher"}, family=family)
    )
    assert metrics["rfid"] > 0
    assert (tmp_path / "nearest.png").is_file()


def test_the_forecast_is_a_number(family: BlockwiseUNetFamily) -> None:
    def forecast(**options: Any) -> tuple[float, float]:
        judged = BlockwiseEvaluation({"source": "digits"}, **{**QUICK, **options})
        judged.prepare()
        return judged.forecast(family.build(family.default), family)

    seconds, size = forecast()
    assert 0 < seconds < 600
    assert 1e3 < size < 1e8
    longer, _ = forecast(training={**QUICK["training"], "images": 128_000})
    assert longer > 20 * seconds
    searched, _ = forecast(supernet={**QUICK["supernet"], "steps": 20_000})
    assert searched > 5 * seconds


@pytest.mark.slow
def test_a_verdict_compares_the_student_with_its_teacher_as_it_is(tmp_path: Path) -> None:
    save_teacher(tmp_path / "teacher")
    content = {
        "space": {"type": "blockwise", "teacher": "teacher"},
        "data": {"source": "digits", "held_out": 0.1},
        "evaluator": {"type": "blockwise", **QUICK},
    }
    (tmp_path / "job.yml").write_text(yaml.safe_dump(content))
    job = load_job(tmp_path / "job.yml")
    family = job.make_family()
    assert isinstance(family, BlockwiseUNetFamily)
    evaluation = job.make_evaluation()
    evaluation.prepare()
    assert math.isfinite(forecast_search(family, evaluation, job.make_budget(), 7, 2).seconds)
    architecture = everywhere(family, width=0.5)
    winner = Trial("e-0007", "e", architecture, Origin("s", "auto"), settings={"task": "retrain", "beta": "constant1"})
    found = judge(job, winner, tmp_path / "verdict", (2,))
    assert [(network.name, len(network.scores)) for network in found.networks] == [("winner", 2), ("teacher", 2)]
    assert "times the rfid of the teacher" in gain_in_words(found)
    written = {file.parent.name: file.read_text() for file in tmp_path.glob("verdict/*/evaluation.json")}
    assert len(written) == len(list(tmp_path.glob("verdict/*/nearest.png"))) == 4
    trained = {name.partition("-")[0] for name, text in written.items() if "trained_images" in text}
    assert trained == {"winner"}, "the teacher is not trained again"
