"""Block-wise search measured: students chosen locally, globally, by knapsack and at random, retrained by every beta.

``python benchmarks/blockwise.py --quick`` takes minutes on one core: digits in pixels, tiny networks. Others want
``../shared/data`` and, for CIFAR-10, a GPU. Every finished training is kept in ``--folder``: a run that was stopped
goes on where it was.

For each seed: a teacher is trained; so is the uniformly thinner UNet of the students' cost, as long as the teacher: it
has to be worse if the case is to prove anything; each block's supernet is trained; students within the same budget are
chosen in four ways and retrained by two schedules of beta; the knapsack's also by the others, with the paper's own
loss, from scratch by the noise loss, and in ``--ways``. Every retraining takes as many multiply-accumulates as that by
the cosine schedule with soft targets, so that schedules which need less for an image see more images.
With ``--one-teacher`` all students learn from the first seed's teacher, and the other teachers are trained last.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, LDMPipeline, UNet2DModel, VQModel
from reporting import machine

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators import BlockwiseEvaluation
from nni_diffnas.evaluators.blockwise.joint import macs_per_image
from nni_diffnas.evaluators.blockwise.settings import BETAS
from nni_diffnas.results.export import export_pipeline
from nni_diffnas.search_spaces import BlockwiseUNetFamily
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import BlockwiseLocalSearch
from nni_diffnas.trial.run import build_seeded

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
WAYS: dict[str, dict[str, Any]] = {
    "as in the paper": {},
    "soft target": {"soft_target": 1.0},
    "from scratch": {"inherit": "nothing"},
    "from the supernet": {"soft_target": 1.0, "inherit": "supernet"},
    "a quarter of the rate": {"soft_target": 1.0, "training": {"learning_rate": 2e-3}},
    "the teacher's batch": {"soft_target": 1.0, "training": {"batch_size": 32}},
    "by Muon": {"soft_target": 1.0, "training": {"optimizer": "muon", "learning_rate": 2e-3}},
}
"""How a student may be retrained: options of the evaluation."""
MACS_KEPT, PARAMS_KEPT = 0.55, 0.60


@dataclass(frozen=True)
class Case:
    """Data, teacher and lengths of one case; counts are images unless said otherwise.

    ``batch`` is the teacher's, ``student`` the students' recipe, ``optimizer`` that of all, ``student_images`` those
    of a retraining by the cosine schedule with soft targets.
    """

    data: Mapping[str, Any]
    unet: Mapping[str, Any]
    teacher_images: int
    student_images: int
    block_steps: int
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
        "quick": Case(digits, levels((8, 16), 1, 8, 1, 2, 1, None), 120_000, 11_200, 80, **short),
        "digits": Case(
            digits, levels((16, 32), 2, 8, 1, 4, 1, None), 120_000, 11_200, 80, optimizer="muon",
            student={"batch_size": 16}, **short,
        ),
        "mnist16": Case({**mnist, "size": 16}, levels((8, 16, 24), 1, 16, 1, 2, 1, None), 120_000, 11_200, 80, **short),
        "mnist32-latent": Case(
            {**mnist, "size": 32}, levels((16, 32), 1, 8, 4, 4, 1, None), 120_000, 11_200, 80, latent=True,
            autoencoder_steps=1500, **short,
        ),
        "cifar10": Case(
            cifar, levels((128, 256, 256), 2, 32, 3, 32, 2), 10_000_000, 1_000_000, 4000, score_images=5000
        ),
    }  # fmt: skip


def untrained(case: Case, widths: tuple[int, ...], folder: Path, seed: int) -> Path:
    """Save a pipeline with fresh weights (and, in latents, the case's trained autoencoder)."""
    torch.manual_seed(seed)
    unet = UNet2DModel(**{**case.unet, "block_out_channels": widths})
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
    case: Case, images: float, training: Mapping[str, Any] | None = None, **options: Any
) -> BlockwiseEvaluation:
    """An evaluation of the case that trains students on so many images."""
    return BlockwiseEvaluation(
        case.data,
        training={"images": int(images), "batch_size": case.batch, "optimizer": case.optimizer, **(training or {})},
        supernet={"steps": case.block_steps, **case.supernet},
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
    metrics = judge.evaluate(model, TrialContext(chosen, output, seed, settings=settings))
    metrics |= family.cost(chosen).as_metrics()
    file.write_text(json.dumps(metrics))
    print(f"  {output.name}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items() if k in SHOWN), flush=True)
    return metrics


PRINTED = ("rfid", "rfid_se", "macs", "params", "train_macs", "seconds")
SHOWN = ("rfid", "teacher_loss", "loss", "seconds", "macs", "params")


def trained(case: Case, name: str, widths: tuple[int, ...], seed: int, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Train a whole UNet by the noise loss for the teacher's number of images; return its pipeline and metrics."""
    raw = untrained(case, widths, folder / f"{name}-untrained", seed)
    family = BlockwiseUNetFamily(raw)
    judge = evaluation(case, case.teacher_images, inherit="nothing", beta="constant1")
    judge.prepare()
    judge.check(family)
    metrics = once(family, judge, family.default, {"task": "retrain"}, seed, folder / name)
    pipeline = folder / f"{name}-pipeline"
    if not pipeline.is_dir():
        export_pipeline(family, family.default, folder / name / "model.safetensors", {}, pipeline)
    return pipeline, metrics


def thinner(case: Case, budget: Budget, folder: Path) -> tuple[int, ...]:
    """Widths, all by one factor, of the largest stock UNet within the students' budget."""
    widths, step = tuple(case.unet["block_out_channels"]), int(case.unet["norm_num_groups"])
    step = math.lcm(step, 8) if case.unet["attention_head_dim"] == 8 else step
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


def students(
    case: Case, seed: int, pipeline: Path, folder: Path, ways: Sequence[str], only: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Search with one seed, and retrain students, the knapsack's in some more ways; return metrics by row."""
    rows: dict[str, dict[str, Any]] = {}
    family = BlockwiseUNetFamily(pipeline)
    budget = budget_of(family)
    judge = evaluation(case, case.student_images)
    strategy = BlockwiseLocalSearch(
        choice=["knapsack", "global", "random"], score_teacher=False, budget=budget, seed=seed
    )
    search = Search(strategy, family.space, family, judge.protocol)
    search_macs, block_seconds = 0.0, []
    for trial in search.ask(len(family.blocks)):
        block = str(trial.settings["block"])
        metrics = once(family, judge, trial.architecture, trial.settings, seed, folder / f"block-{block}")
        search_macs += metrics["train_macs"] + metrics["choosing_macs"] + metrics["teacher_macs"]
        block_seconds.append(metrics["seconds"])
        search.tell(trial.id, metrics)
    chosen = strategy.chosen()
    chosen["local"] = local_within(search, budget, family)
    chosen = {kind: chosen.get(kind, chosen["knapsack"]) for kind in ("local", "knapsack", "global", "random")}
    asked = [(kind, beta, "soft target") for beta in ("constant1", "cosine") for kind in chosen]
    asked += [("knapsack", beta, "soft target") for beta in ("linear", "hard", "constant0")]
    asked += [("knapsack", beta, "as in the paper") for beta in ("cosine", "constant1")]
    asked += [("knapsack", "constant1", "from scratch")]
    asked += [("local", "constant1", way) for way in ways]
    for kind, beta, way in asked:
        name, options = f"{kind}, {beta}, {way}", dict(WAYS[way])
        if only and not any(part in name for part in only):
            continue
        training = {**case.student, **options.pop("training", {})}
        images = images_for(case, family, chosen[kind], beta, soft="soft_target" in options)
        student = evaluation(case, images, training, **options)
        settings, output = {"task": "retrain", "beta": beta}, folder / name.replace(", ", "-").replace(" ", "-")
        rows[name] = once(family, student, chosen[kind], settings, seed, output)
    rows["search"] = {"train_macs": search_macs, "seconds": statistics.fmean(block_seconds)}
    return rows


def images_for(
    case: Case, family: BlockwiseUNetFamily, architecture: Mapping[str, Any], beta: str, *, soft: bool
) -> int:
    """Images of a retraining that takes as many MACs as the case's by the cosine schedule with soft targets."""
    student = family.cost(architecture).macs

    def macs(schedule: str, soft: float) -> float:
        """Of an image, on average over the training."""
        return statistics.fmean(
            macs_per_image(family, student, BETAS[schedule]((step + 0.5) / 1000), soft) for step in range(1000)
        )

    return round(case.student_images * macs("cosine", 1.0) / macs(beta, float(soft)))


def budget_of(family: BlockwiseUNetFamily) -> Budget:
    """What a student may cost."""
    whole = family.teacher_cost
    return Budget({"macs": Window(max=MACS_KEPT * whole.macs), "params": Window(max=PARAMS_KEPT * whole.params)})


def local_within(search: Search, budget: Budget, family: BlockwiseUNetFamily) -> dict[str, Any]:
    """Local choice by the tolerance whose student uses most of the budget's MACs."""
    seed = search.options.seed
    free = BlockwiseLocalSearch(choice="local", score_teacher=False, seed=seed, warm_start=search.trials)
    Search(free, family.space, family, search.protocol)
    found = []
    for tolerance in np.linspace(0.4, 4.0, 145):
        free.tolerances = [float(tolerance)]
        found.append(next(iter(free.chosen().values())))
    admitted = [architecture for architecture in found if budget.admits(family.cost(architecture))]
    if not admitted:
        raise SystemExit("no tolerance from 0.4 to 4 keeps the budget")
    return max(admitted, key=lambda architecture: family.cost(architecture).macs)


def table(results: list[dict[str, dict[str, Any]]]) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = ["| network | rFID | MACs | parameters | training | seeds |", "|---|---|---|---|---|---|"]
    whole = results[0]["teacher"]["train_macs"]
    for name in results[0]:
        found = [result[name] for result in results if name in result]
        means = {q: statistics.fmean(row[q] for row in found) for q in found[0] if q in SHOWN or q == "train_macs"}
        if name == "search":
            lines.append(
                f"\nsearch: {means['train_macs'] / whole:.1%} of the training, {means['seconds']:.2g} s a block"
            )
            continue
        spread = f" ± {statistics.stdev(row['rfid'] for row in found):.3g}" if len(found) > 1 else ""
        lines.append(
            f"| {name} | {means['rfid']:.3f}{spread} | {means['macs'] / 1e6:.2f} M | {means['params'] / 1e3:.1f} k "
            f"| {means['train_macs'] / whole:.1%} | {len(found)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=sorted(cases()), default="mnist16")
    parser.add_argument("--quick", action="store_true", help="the case 'quick'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--ways", nargs="*", choices=sorted(WAYS), default=[], help="more ways to retrain the local student"
    )
    parser.add_argument("--only", nargs="*", default=[], help="only students whose row has one of these in its name")
    parser.add_argument("--one-teacher", action="store_true", help="all students learn from the first seed's teacher")
    parser.add_argument("--folder", type=Path, default=Path("runs/blockwise"))
    arguments = parser.parse_args()
    name = "quick" if arguments.quick else arguments.case
    case, began = cases()[name], time.monotonic()
    if case.data["source"] != "digits" and not Path(case.data["source"]).is_file():
        raise SystemExit(f"{case.data['source']} is missing: see the benchmarks' README for the data.")
    results: list[dict[str, dict[str, Any]]] = []
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    folders = [arguments.folder / name / str(seed) for seed in seeds]
    pipeline = folders[0]
    for seed, folder in zip(seeds, folders, strict=True):
        print(f"seed {seed}", flush=True)
        rows: dict[str, dict[str, Any]] = {}
        if not (arguments.one_teacher and results):
            pipeline, rows = references(case, seed, folder)
        results.append(rows | students(case, seed, pipeline, folder, arguments.ways, arguments.only))
        print(table(results), flush=True)
    if arguments.one_teacher:  # the others only show how far teachers differ
        for index in range(1, len(seeds)):
            results[index] |= references(case, seeds[index], folders[index])[1]
            print(table(results), flush=True)
    figures = [
        {row: {q: v for q, v in metrics.items() if q in PRINTED} for row, metrics in one.items()} for one in results
    ]
    print(
        json.dumps(
            {"benchmark": "blockwise", "case": name, "seeds": list(seeds), "seconds": time.monotonic() - began,
             "rows": figures, "machine": machine()}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
