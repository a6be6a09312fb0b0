"""Teachers of the block-wise benchmarks: data, networks, how they are trained and judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, LDMPipeline, UNet2DModel, VQModel
from long_training import train_whole
from small_images import averaged

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.search_spaces import BlockwiseUNetFamily, UNetFamily
from nni_diffnas.search_spaces.unet.stock import stock_config
from nni_diffnas.trial.run import build_seeded

__all__ = ["SHOWN", "Case", "budget_of", "case_in", "cases", "evaluation", "once", "references", "thinner", "trained"]

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
MACS_KEPT, PARAMS_KEPT = 0.55, 0.60


@dataclass(frozen=True)
class Case:
    """Data, teacher and lengths of one case; counts are images unless said otherwise.

    ``batch`` is the teacher's, ``student`` the students' recipe, ``optimizer`` that of all, ``student_share`` a
    retraining's part of the teacher's training, in MACs.
    """

    data: Mapping[str, Any]
    unet: Mapping[str, Any]
    teacher_images: int
    block_steps: int
    student_share: float = 0.13
    batch: int = 64
    student: Mapping[str, Any] = field(default_factory=lambda: {"batch_size": 16, "learning_rate": 8e-3})
    optimizer: str = "adam"
    latent: bool = False
    extractor: str = "labels"
    score_images: int = 2000
    sampler_steps: int = 20
    autoencoder_steps: int = 3000
    supernet: Mapping[str, Any] = field(default_factory=dict)
    extractor_weights: str | None = None


def levels(
    widths: tuple[int, ...], depth: int, size: int, channels: int, groups: int, attends: int, head: int | None = 8
) -> dict[str, Any]:
    """A ``UNet2DModel`` whose deepest ``attends`` levels have attention, in heads of ``head`` channels or in one."""
    plain = len(widths) - attends
    return {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": widths,
        "layers_per_block": depth,
        "norm_num_groups": groups,
        "attention_head_dim": head,
        "down_block_types": ("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attends,
        "up_block_types": ("AttnUpBlock2D",) * attends + ("UpBlock2D",) * plain,
    }


def preset(name: str) -> dict[str, Any]:
    """The default network of a preset of the UNet space, as a ``UNet2DModel``."""
    family = UNetFamily(name)
    config = stock_config(family.config(family.default))
    assert config is not None, "defaults are stock"
    return config


def cases() -> dict[str, Case]:
    """All cases by name."""
    mnist = {"source": str(SHARED / "mnist.npz"), "key": "train_images", "channels": 1}
    cifar = {"source": str(SHARED / "cifar10_train_0.npz")}
    digits = {"source": "digits"}
    short: dict[str, Any] = {
        "batch": 32,
        "score_images": 1000,
        "sampler_steps": 12,
        "supernet": {"cached_images": 512, "cache_passes": 16},
    }
    return {
        "quick": Case(digits, levels((8, 16), 1, 8, 1, 2, 1, None), 120_000, 80, **short),
        "digits": Case(
            digits, levels((16, 32), 2, 8, 1, 4, 1, None), 120_000, 80, optimizer="muon",
            student={"batch_size": 16}, **short,
        ),
        "mnist16": Case({**mnist, "size": 16}, levels((8, 16, 24), 1, 16, 1, 2, 1, None), 120_000, 80, **short),
        "mnist32-latent": Case(
            {**mnist, "size": 32}, levels((16, 32), 1, 8, 4, 4, 1, None), 120_000, 80, latent=True,
            autoencoder_steps=1500, **short,
        ),
        "cifar10": Case(
            cifar, levels((128, 256, 256), 2, 32, 3, 32, 2), 10_000_000, 4000, score_images=5000
        ),
        "cifar16": Case(
            cifar, preset("pixels16"), 300_000, 200, optimizer="muon", student={"batch_size": 16}, **short,
        ),
    }  # fmt: skip


def case_in(folder: Path, name: str, **changes: float | None) -> Case:
    """The case of this name, with those changes that are not ``None``; images that have to be made are made in the
    folder.
    """
    case = replace(cases()[name], **{field: value for field, value in changes.items() if value is not None})
    if case.data["source"] != "digits" and not Path(case.data["source"]).is_file():
        raise SystemExit(f"{case.data['source']} is missing: see the benchmarks' README for the data.")
    return replace(case, data={"source": str(averaged(folder, SHARED))}) if name == "cifar16" else case


def untrained(case: Case, widths: Sequence[int], folder: Path, seed: int) -> Path:
    """Save a pipeline with fresh weights (and, in latents, the case's trained autoencoder)."""
    torch.manual_seed(seed)
    head = case.unet["attention_head_dim"]
    head = head and head * widths[-1] // case.unet["block_out_channels"][-1]  # as many heads
    unet = UNet2DModel(**{**case.unet, "block_out_channels": tuple(widths), "attention_head_dim": head})
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=not case.latent,
    )
    if case.latent:
        LDMPipeline(autoencoder(case, folder.parent / "autoencoder"), unet, scheduler).save_pretrained(folder)
    else:
        DDPMPipeline(unet, scheduler).save_pretrained(folder)
    return folder


def autoencoder(case: Case, folder: Path) -> VQModel:
    """The case's autoencoder, trained once: a quarter of the side, four channels of unit variance."""
    if (folder / "config.json").is_file():
        loaded: VQModel = VQModel.from_pretrained(folder, low_cpu_mem_usage=False)
        return loaded
    images = evaluation(case, 1000).images
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    sizes = {"in_channels": images.shape[0], "out_channels": images.shape[0], "latent_channels": 4}
    model = VQModel(**sizes, **blocks, block_out_channels=(16, 32, 32), norm_num_groups=8, num_vq_embeddings=256)
    optimizer, rng = torch.optim.AdamW(model.parameters(), lr=1e-3), np.random.default_rng(0)

    def batch(count: int) -> torch.Tensor:
        chosen = rng.choice(images.training, count)
        return torch.from_numpy(images.pixels[chosen]).float() / 127.5 - 1.0

    for _ in range(case.autoencoder_steps):
        clean = batch(64)
        made = model(clean)
        ((made.sample - clean).square().mean() + made.commit_loss.mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        model.register_to_config(scaling_factor=float(1 / model.encode(batch(512)).latents.std()))
    model.save_pretrained(folder)
    return model


def evaluation(
    case: Case,
    images: float,
    training: Mapping[str, Any] | None = None,
    supernet: Mapping[str, Any] | None = None,
    **options: Any,
) -> BlockwiseEvaluation:
    """An evaluation of the case that trains students on so many images."""
    return BlockwiseEvaluation(
        case.data,
        training={"images": int(images), "batch_size": case.batch, "optimizer": case.optimizer, **(training or {})},
        supernet={"steps": case.block_steps, **case.supernet, **(supernet or {})},
        score_images=case.score_images,
        sampler_steps=case.sampler_steps,
        extractor=case.extractor,
        extractor_weights=case.extractor_weights,
        curve_points=0,
        **options,
    )


def once(
    family: BlockwiseUNetFamily,
    judge: BlockwiseEvaluation,
    architecture: Mapping[str, Any],
    settings: Mapping[str, Any],
    seed: int,
    output: Path,
) -> dict[str, Any]:
    """Run a trial, or read its metrics where it has been run before."""
    file = output / "metrics.json"
    if file.is_file():
        metrics: dict[str, Any] = json.loads(file.read_text())
        return metrics
    output.mkdir(parents=True, exist_ok=True)
    chosen = family.space.validate(architecture)
    model = build_seeded(family, chosen, seed)
    metrics = judge.evaluate(model, TrialContext(chosen, output, seed, settings=settings, family=family))
    metrics |= family.cost(chosen).as_metrics()
    file.write_text(json.dumps(metrics))
    print(f"  {output.name}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items() if k in SHOWN), flush=True)
    return metrics


SHOWN = ("rfid", "teacher_loss", "loss", "seconds", "macs", "params")


def trained(
    case: Case, name: str, widths: Sequence[int], seed: int, folder: Path, teacher: BlockwiseUNetFamily | None = None
) -> tuple[Path, dict[str, Any]]:
    """Train a whole UNet, by the noise for the teacher's number of images, or by a teacher for a student's share of
    that compute; return its pipeline and metrics.
    """
    pipeline, raw = folder / f"{name}-pipeline", folder / f"{name}-untrained"
    family = BlockwiseUNetFamily(untrained(case, widths, raw, seed))
    images, an_image, training = case.teacher_images, 3.0 * family.teacher_cost.macs, None
    if teacher is not None:
        an_image, training = an_image + teacher.teacher_cost.macs, case.student
        images = round(case.student_share * case.teacher_images * 3.0 * teacher.teacher_cost.macs / an_image)
    judge = evaluation(case, images, training)
    if not pipeline.is_dir():
        whole = folder / f"{name}-whole"
        shutil.copytree(raw, whole, dirs_exist_ok=True)
        train_whole(family, judge, teacher, seed, folder / f"{name}.state").save_pretrained(whole / "unet")
        whole.rename(pipeline)
    family = BlockwiseUNetFamily(pipeline)
    judge.prepare()
    metrics = once(family, judge, family.default, {"task": "teacher"}, seed, folder / f"{name}-by-{case.score_images}")
    return pipeline, {**metrics, "train_macs": an_image * images, "trained_images": float(images)}


def thinner(case: Case, budget: Budget, folder: Path) -> tuple[int, ...]:
    """Widths, all by one factor, of the largest stock UNet within the students' budget."""
    widths, step = tuple(case.unet["block_out_channels"]), int(case.unet["norm_num_groups"])
    for percent in range(99, 10, -1):
        scaled = tuple(max(step, round(width * percent / 100 / step) * step) for width in widths)
        probe = BlockwiseUNetFamily(untrained(case, scaled, folder / "probe", 0)).teacher_cost
        if budget.admits(probe):
            return scaled
    raise SystemExit("no thinner network fits the budget")


def references(case: Case, seed: int, folder: Path) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Train a teacher, and the thinner UNet of the students' cost; return the teacher's pipeline and both rows."""
    pipeline, teacher = trained(case, "teacher", tuple(case.unet["block_out_channels"]), seed, folder)
    slim = thinner(case, budget_of(BlockwiseUNetFamily(pipeline)), folder)
    return pipeline, {"teacher": teacher, "uniformly thinner": trained(case, "thinner", slim, seed, folder)[1]}


def budget_of(family: BlockwiseUNetFamily) -> Budget:
    """What a student may cost."""
    whole = family.teacher_cost
    return Budget({"macs": Window(max=MACS_KEPT * whole.macs), "params": Window(max=PARAMS_KEPT * whole.params)})
