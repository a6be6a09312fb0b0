"""Students of a teacher: exactness, costs, options, bad input, export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blockwise_teachers import save_teacher
from diffusers import DDPMPipeline, UNet2DConditionModel

from nni_diffnas.api.cost import count_cost
from nni_diffnas.api.errors import JobError, SpaceError
from nni_diffnas.latency import Latency
from nni_diffnas.results.export import export_pipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily, BlockwiseUNetSpace
from nni_diffnas.search_spaces.blockwise import block_latency, student

CONDITIONAL = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 12,
    "attention_head_dim": 4,
}


DROPS: dict[str, Any] = {"drop_residual": True, "drop_attention": True}
EVERYTHING: dict[str, Any] = {**DROPS, "kinds": ["residual", "convnext"], "resample": ["convolution", "pool"]}


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    torch.manual_seed(0)
    UNet2DConditionModel(**CONDITIONAL).save_pretrained(folder / "unet")
    (folder / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    return folder


@pytest.fixture(params=["pixels", "text"])
def teacher(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def inputs(family: BlockwiseUNetFamily) -> tuple[tuple[Any, ...], dict[str, Any]]:
    (sample, times), named = family.unet.example("cpu")
    return (torch.randn_like(sample), times + 7), {name: torch.randn_like(value) for name, value in named.items()}


def test_labels_say_block_layer_and_choice(pixels: Path) -> None:
    family = BlockwiseUNetFamily(pixels)
    assert [block.name for block in family.blocks] == ["down0", "down1", "middle", "up0", "up1"]
    assert family.space.labels[:3] == ("down0.res0.kernel1", "down0.res0.kernel2", "down0.res0.width")
    assert family.space.choices["down1.res0.width"] == (0.5, 0.8, 1.0, 1.2)
    assert family.space.choices["down0.res0.width"] == (0.5, 1.0), "0.8 and 1.2 of 8 round to the 8 of 1.0"
    assert "first convolution" in family.describe("down0.res0.kernel1")


def test_the_default_is_the_teacher_to_the_last_digit(teacher: Path) -> None:
    family = BlockwiseUNetFamily(teacher)
    own, network = family.teacher(), family.build(family.default)
    network.load_state_dict(own.state_dict())
    arguments, named = inputs(family)
    with torch.no_grad():
        assert torch.equal(network.eval()(*arguments, **named).sample, own(*arguments, **named).sample)


@pytest.mark.parametrize(
    ("config", "tokens"), [({"model_max_length": 40}, 40), ({"model_max_length": 1e30}, 77), ({}, 77)]
)
def test_a_text_is_as_long_as_the_tokenizer_makes_it(
    text: Path, tmp_path: Path, config: dict[str, float], tokens: int
) -> None:
    shutil.copytree(text, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    assert BlockwiseUNetFamily(tmp_path).unet.example("cpu")[1]["encoder_hidden_states"].shape == (1, tokens, 12)


@pytest.mark.parametrize("options", [{}, DROPS, EVERYTHING])
def test_costs_are_those_of_the_built_network(teacher: Path, options: dict[str, Any]) -> None:
    family = BlockwiseUNetFamily(teacher, **options)
    arguments, named = inputs(family)
    rng = np.random.default_rng(0)
    for architecture in [family.default, *(family.space.sample(rng) for _ in range(4))]:
        assert family.cost(architecture) == count_cost(family.build(architecture).eval(), *arguments, **named)
    assert ("down0.res0.drop" in family.space.labels) == ("drop_residual" in options)


def test_a_label_counts_where_the_layer_is_there_and_of_its_kind(pixels: Path) -> None:
    family = BlockwiseUNetFamily(pixels, **EVERYTHING)
    layers = {"kernel1": 5, "kernel2": 1, "width": 1.0, "kind": "convnext", "drop": False}
    whole = {**family.default, **{f"down0.res0.{what}": value for what, value in layers.items()}}
    assert "down0.res0.kernel2" not in family.space.validate(whole)
    assert family.changes(whole) == {"down_blocks.0.resnets.0": ["convnext", 32, 5]}
    gone = family.space.validate({**whole, "down0.res0.drop": True})
    assert [label for label in gone if label.startswith("down0.res0")] == ["down0.res0.drop"]
    assert family.changes({**family.default, "up0.sampler.resample": "pool"}) == {"up_blocks.0.upsamplers.0": ["pool"]}
    assert family.describe("up0.sampler.resample") == "what leads to the level behind up0"


@pytest.mark.parametrize("side", [8, 7])
def test_samplers_without_a_3x3_convolution_make_maps_of_the_same_size(pixels: Path, side: int) -> None:
    network = BlockwiseUNetFamily(pixels).teacher()
    features = torch.randn(2, 8, side, side)
    down, up = network.down_blocks[0].downsamplers[0], network.up_blocks[0].upsamplers[0]
    assert student.pooled(down)(features).shape == down(features).shape
    small = torch.randn(2, 16, side, side)
    assert student.pooled(up)(small).shape == up(small).shape
    assert student.pooled(up)(small, (9, 9)).shape == up(small, (9, 9)).shape


def test_the_cheapest_network_is_the_cheapest(pixels: Path) -> None:
    family = BlockwiseUNetFamily(pixels)
    rng = np.random.default_rng(0)
    smallest = {label: min(values) for label, values in family.space.choices.items()}
    for quantity in ("macs", "params"):
        drawn = [getattr(family.cost(family.space.sample(rng)), quantity) for _ in range(50)]
        assert family.cheapest(quantity) == getattr(family.cost(smallest), quantity) < min(drawn)


def test_a_supernet_path_computes_what_the_student_with_its_weights_computes(teacher: Path) -> None:
    family = BlockwiseUNetFamily(teacher, **EVERYTHING)
    own, rng = family.teacher(), np.random.default_rng(2)
    for block in family.blocks:
        supernet: Any = family.supernet(block.name, own).eval()
        calls: list[Any] = []
        module = own.get_submodule(family.block_path(block.name))
        hook = module.register_forward_pre_hook(lambda m, a, k, seen=calls: seen.append((a, k)), with_kwargs=True)
        arguments, named = inputs(family)
        with torch.no_grad():
            own(*arguments, **named)
            hook.remove()
            for parameter in supernet.parameters():  # what starts at zero has to count
                parameter.add_(0.1 * torch.randn_like(parameter))
            for _ in range(3):
                paths = [tuple(int(rng.integers(len(x.options))) for x in b.layers) for b in family.blocks]
                path = paths[family.blocks.index(block)]
                built = family.build(family.assemble(paths)).eval().get_submodule(family.block_path(block.name))
                built.load_state_dict(supernet.path_state(path))
                supernet.choose(path)
                args, kwargs = calls[0]
                ours, theirs = supernet(*args, **kwargs), built(*args, **kwargs)
                first = (ours[0], theirs[0]) if isinstance(ours, tuple) else (ours, theirs)
                assert torch.allclose(*first, atol=1e-5)


def test_remembered_prefixes_change_nothing(pixels: Path) -> None:
    family = BlockwiseUNetFamily(pixels)
    block = family.blocks[3]
    supernet: Any = family.supernet(block.name, family.teacher()).eval()
    calls: list[Any] = []
    own = family.teacher()
    own.get_submodule(family.block_path(block.name)).register_forward_pre_hook(
        lambda m, a, k: calls.append((a, k)), with_kwargs=True
    )
    arguments, named = inputs(family)
    paths = [(0, 0), (0, 5), (3, 5), (3, 7)]
    with torch.no_grad():
        own(*arguments, **named)
        args, kwargs = calls[0]

        def outputs() -> list[torch.Tensor]:
            made = []
            for path in paths:
                supernet.choose(path)
                made.append(supernet(*args, **kwargs))
            return made

        plain = outputs()
        supernet.remember()
        first = supernet.searched[0][1]
        runs: list[int] = []
        compute = first.compute
        first.compute = lambda *a, **k: (runs.append(1), compute(*a, **k))[1]
        shared = outputs()
    assert len(runs) == 2, "two different prefixes"
    assert all(torch.equal(one, other) for one, other in zip(plain, shared, strict=True))


def test_the_model_space_freezes_to_the_student(pixels: Path) -> None:
    space = BlockwiseUNetSpace(str(pixels))
    sample = space.family.space.complete(space.family.default)
    assert sum(p.numel() for p in space.freeze(sample).parameters()) == space.family.cost(space.family.default).params
    assert list(space.simplify()) == list(space.family.space.labels)


def test_an_exported_student_loads_in_plain_diffusers_and_keeps_the_scheduler(pixels: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_model

    family = BlockwiseUNetFamily(pixels, **EVERYTHING)
    architecture = {**family.space.sample(np.random.default_rng(1)), "up0.sampler.resample": "pool"}
    made = list(family.changes(architecture).values())
    assert None in made
    assert ["pool"] in made
    assert any(change[0] == "convnext" for change in made if change)
    network = family.build(architecture).eval()
    save_model(network, str(tmp_path / "weights.safetensors"))
    folder = export_pipeline(family, architecture, tmp_path / "weights.safetensors", {}, tmp_path / "pipeline")
    pipeline = DDPMPipeline.from_pretrained(folder, trust_remote_code=True)
    arguments, named = inputs(family)
    with torch.no_grad():
        theirs, ours = pipeline.unet(*arguments, **named).sample, network(*arguments, **named).sample
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert pipeline.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    assert np.asarray(pipeline(num_inference_steps=2, output_type="np").images).shape == (1, 8, 8, 1)
    with pytest.raises(JobError, match="give another folder"):
        export_pipeline(family, architecture, tmp_path / "weights.safetensors", {}, pixels)


def test_measured_latency_adds_up_and_can_be_bounded(pixels: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("NNI_DIFFNAS_CACHE", str(tmp_path))
    seen: list[int] = []
    timed = block_latency.measure_latency

    def watched(module: torch.nn.Module, *inputs: Any, **options: Any) -> Latency:
        found = timed(module, *inputs, **options)
        seen.append(found.threads)
        return found

    monkeypatch.setattr(block_latency, "measure_latency", watched)
    family = BlockwiseUNetFamily(pixels, kernels=[1, 3], widths=[1.0], latency=True)
    cost = family.cost(family.default)
    assert cost.latency_ms is not None
    assert 0 < family.cheapest("latency_ms") <= cost.latency_ms
    again = BlockwiseUNetFamily(pixels, kernels=[1, 3], widths=[1.0], latency=True)
    assert again.cost(again.default) == cost, "measured once"
    assert set(seen) == {1}, "on the threads of `LatencyTable`, however many torch has"


def test_bad_teachers_are_named(pixels: Path, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"no model_index\.json"):
        BlockwiseUNetFamily(tmp_path / "nowhere")
    (tmp_path / "model_index.json").write_text('{"scheduler": ["diffusers", "DDPMScheduler"]}')
    with pytest.raises(SpaceError, match="has no UNet"):
        BlockwiseUNetFamily(tmp_path)
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet1DModel"]}')
    with pytest.raises(SpaceError, match="UNet1DModel"):
        BlockwiseUNetFamily(tmp_path)
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DModel"]}')
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text((pixels / "unet" / "config.json").read_text())
    with pytest.raises(SpaceError, match="no weights"):
        BlockwiseUNetFamily(tmp_path)


@pytest.mark.parametrize("changes", [{"norm_num_groups": 0}, {"block_out_channels": "wide"}, {"down_block_types": 5}])
def test_a_configuration_of_no_network_is_one_sentence(pixels: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    teacher = shutil.copytree(pixels, tmp_path / "teacher")
    config = json.loads((teacher / "unet" / "config.json").read_text())
    (teacher / "unet" / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(SpaceError, match=r"unet/config\.json describes no network .*: save the teacher anew"):
        _ = BlockwiseUNetFamily(teacher).teacher_cost


def test_groups_that_divide_no_offered_width_are_named(tmp_path: Path) -> None:
    save_teacher(tmp_path, block_out_channels=(8, 8), norm_num_groups=8)
    with pytest.raises(SpaceError, match="8 groups, which divide none"):
        _ = BlockwiseUNetFamily(tmp_path, widths=[0.8, 1.0, 1.2]).space
    assert len(BlockwiseUNetFamily(tmp_path, widths=[1.0]).space.labels) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernels": [1, 5]}, "3"),
        ({"kernels": [2, 3]}, "odd"),
        ({"widths": [0.5]}, "1.0"),
        ({"widths": "1"}, "1.0"),
        ({"kinds": ["convnext"]}, "'residual'"),
        ({"resample": ["convolution", "shuffle"]}, "'shuffle'"),
    ],
)
def test_bad_options_are_named(pixels: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        BlockwiseUNetFamily(pixels, **options)
