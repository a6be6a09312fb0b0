"""`BlockwiseEvaluation`: a block's supernet, a student's retraining in short or in full, the teacher as it is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nni_diffnas.api.blocks import BlockFamily
from nni_diffnas.api.errors import JobError
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.trial import UNRANKED
from nni_diffnas.cache import fingerprint

from ..diffusion import SAMPLING_SEED, DiffusionEvaluation
from ..images.pictures import TensorBoardLog, grid, png
from ..images.settings import DataSettings
from ..sampling.schedulers import Sampler
from ..sampling.solvers import initial_noise
from ..scores.curve import Stopped
from ..settings import Settings
from ..training.compute import Team, autocast, choose_device, computing, threads
from ..training.loop import Progress
from ..training.recipe import Recipe
from .answers import AnswerBank
from .choosing import compare_paths, front_of
from .duration import forecast_seconds
from .importance import IMAGES, kept_importance
from .inherit import ends_of, fill_fitting
from .joint import JointLoss, Retrained, Retraining, retrain
from .kept_supernets import KeptSupernets, fresh_supernet
from .probing import gap_to_teacher, shortened
from .settings import BETAS, BlockwiseSettings
from .supernet import train_supernet
from .swapping import swapped_losses
from .teacher_pipeline import NoisedImages, TeacherPipeline

__all__ = ["BlockwiseEvaluation"]

TASKS = ("block", "probe", "retrain", "teacher")


class BlockwiseEvaluation(DiffusionEvaluation):
    """What the setting ``task`` of a trial asks for.

    ``block`` (with ``block``, e.g. ``down0``): train the block's supernet, compare its paths, and return the front of
    cost and loss as ``front``, rows of MACs, parameters, milliseconds (-1: not measured), loss, and one option index
    per searched layer; ``teacher_loss`` is the loss of the teacher-shaped path. Such a trial is not ranked.

    ``probe`` (with ``share``): retrain the student for this part of its training, and return as ``gap`` how far its
    predictions are from the teacher's, see `gap_to_teacher`. Such a trial is not ranked either.

    ``retrain`` (with ``beta``, else the option's; also without any task): train the student by the joint loss and score
    it as `DiffusionEvaluation` scores its networks. ``teacher``: score the teacher as it is.

    Args:
        data: fields of `DataSettings`.
        options: fields of `BlockwiseSettings`.

    Raises:
        JobError: an unknown option, a value out of range, or one that the teacher decides.
    """

    settings_kind: ClassVar[type[Settings]] = BlockwiseSettings
    settings: BlockwiseSettings

    def __init__(
        self, data: Annotated[Mapping[str, Any], DataSettings], **options: Annotated[Any, BlockwiseSettings]
    ) -> None:
        super().__init__(data, **options)
        named = {
            "recipe", "prediction", "learned_sigma", "schedule", "timesteps", "drawn", "flip", "class_conditional",
            "compile",
        }  # fmt: skip
        for name in sorted(named & self.settings.training.model_fields_set):
            raise JobError(f"evaluator.training.{name} is the teacher's to say: leave it out.")
        if self.settings.inherit == "nothing" and self.settings.beta == "constant0":
            raise JobError(
                "evaluator.inherit 'nothing' with beta 'constant0' would leave stem and head untrained: "
                "inherit the ends, or choose another beta."
            )
        if self.settings.bank and self.settings.soft_target == 0:
            raise JobError(
                "evaluator.bank holds the teacher's predictions, of which nothing is learned with soft_target 0: leave "
                "one of them out."
            )
        self._teacher: TeacherPipeline | None = None
        self._remark = ""

    @property
    def protocol(self) -> str:
        """That of the scores, and what the students are trained with."""
        named = {"supernet", "features", "inherit", "importance", "soft_target", "bank", "bank_passes", "prompts"}
        options = self.settings.model_dump(mode="json", include=named)
        return f"{super().protocol}/blockwise {fingerprint(sorted(options.items()))[:8]}"

    def check(self, family: Family) -> None:
        """Refuse a teacher that the images do not fit, or that this evaluation cannot run."""
        if not isinstance(family, BlockFamily):
            raise JobError(
                f"Evaluator 'blockwise' trains students of a teacher, {type(family).__name__} has none: use space "
                f"'blockwise'."
            )
        teacher = self._pipeline(family)
        teacher.check(self.images)
        steps = len(teacher.alpha_bar)
        self._remark = teacher.remark
        if self.settings.sampler_steps > steps:
            raise JobError(
                f"evaluator.sampler_steps is {self.settings.sampler_steps}, the teacher has {steps} timesteps."
            )

    def describe_data(self) -> list[str]:
        """What the images are, and what the teacher's files leave open."""
        return [*super().describe_data(), *([f"the teacher: {self._remark}"] if self._remark else [])]

    def scheduler_config(self) -> dict[str, Any]:
        """Nothing to add: an exported student keeps its teacher's scheduler."""
        return {}

    def evaluate(self, model: nn.Module, context: TrialContext) -> dict[str, Any]:
        """Do what ``context.settings["task"]`` says; ``context.family`` is a `BlockFamily`.

        Raises:
            JobError: an unknown task or block, or a network of another family.
            TrialFailure: the training diverged.
        """
        family = _block_family(context.family)
        self.check(family)
        task = context.settings.get("task", "retrain")
        if task not in TASKS:
            raise JobError(f"The trial's task is {task!r}: {', '.join(TASKS)} are known.")
        began = time.monotonic()
        with threads(self.settings.threads), TensorBoardLog(context.output / "tensorboard") as log:
            teacher = self._pipeline(family).to(choose_device(self.settings.device))
            if task == "block":
                if Team.number() > 0:
                    return {}
                metrics = self._block(family, teacher, context, log)
            elif task == "probe":
                metrics = self._probe(model, family, teacher, context)
            else:
                metrics = self._student(model, family, teacher, context, log, trains=task == "retrain")
        metrics["seconds"] = time.monotonic() - began
        if task in ("block", "probe") and Team.number() == 0:
            result = {"protocol": self.protocol, "metrics": metrics, "settings": dict(context.settings)}
            (context.output / "evaluation.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        return metrics

    def forecast(self, model: nn.Module, family: Family | None = None) -> tuple[float, float]:
        """Mean seconds and bytes over one trial of each kind (every block, and a student), from a few timed steps."""
        blocks = _block_family(family)
        device = choose_device(self.settings.device)
        teacher = self._pipeline(blocks).to(device)
        with threads(self.settings.threads), torch.random.fork_rng():
            images = NoisedImages(teacher, *self._clean(teacher, 4 * self.settings.training.batch_size), 0)
            seconds = forecast_seconds(blocks, teacher, images, self.settings, lambda m, n: self.generate(m, n, 0))
        weights = 4.0 * blocks.teacher_cost.params + 64 * math.prod(self.images.shape) + 20_000
        return seconds, weights / (len(blocks.blocks) + 1)

    # The tasks -------------------------------------------------------------------------------------------------------

    def _block(
        self, family: BlockFamily, teacher: TeacherPipeline, context: TrialContext, log: TensorBoardLog
    ) -> dict[str, Any]:
        settings = self.settings.supernet
        name = context.settings.get("block")
        block = next((block for block in family.blocks if block.name == name), None)
        if block is None:
            raise JobError(f"Block {name!r} is unknown: the teacher has {', '.join(b.name for b in family.blocks)}.")
        torch.manual_seed(context.seed)
        supernet = fresh_supernet(teacher, block).to(teacher.device)

        def report(loss: float, step: int) -> None:
            log.scalar(f"loss of {block.name}", loss, step)
            context.report({"block_loss": loss, "step": float(step)})

        images = NoisedImages(teacher, *self._clean(teacher), context.seed)
        trained = train_supernet(supernet, block, teacher, images, settings, context.seed, report)
        choosing_began = time.monotonic()
        choosing = compare_paths(supernet, block, trained, settings, context.seed)
        front = front_of(block, choosing, settings.front)
        self.supernets(teacher).keep(supernet, block, context.seed)
        losses, variance = [scored.loss for scored in front], float(torch.stack(trained.variances).mean())
        if settings.swap_images:
            with autocast(teacher.device):
                path, batch = family.block_path(block.name), images.draw(settings.swap_images)
                losses, variance = swapped_losses(teacher, path, supernet, [s.path for s in front], batch), 1.0
        swap_macs = settings.swap_images * (family.teacher_cost.macs * (1 + len(front)))
        swap_macs += settings.swap_images * sum(block.cost(scored.path).macs for scored in front)
        rows = []
        for scored, loss in zip(front, losses, strict=True):
            cost = block.cost(scored.path)
            latency = -1.0 if cost.latency_ms is None else cost.latency_ms
            rows.append([cost.macs, cost.params, latency, round(loss, 8), *scored.path])
        return {
            UNRANKED: 1,
            "front": rows,
            "teacher_loss": next(loss for s, loss in zip(front, losses, strict=True) if s.path == block.teacher),
            "output_variance": variance,
            "block_loss": trained.loss,
            "compared": choosing.compared,
            "compared_images": choosing.teacher.images,
            "train_macs": trained.macs,
            "choosing_macs": choosing.macs + swap_macs,
            "teacher_macs": trained.teacher_macs,
            "train_seconds": trained.seconds,
            "choosing_seconds": time.monotonic() - choosing_began,
        }

    def _student(
        self,
        model: nn.Module,
        family: BlockFamily,
        teacher: TeacherPipeline,
        context: TrialContext,
        log: TensorBoardLog,
        *,
        trains: bool,
    ) -> dict[str, Any]:
        recipe, began = self.settings.training, time.monotonic()
        metrics: dict[str, Any] = {}
        how = computing(teacher.device)
        if trains:
            beta = str(context.settings.get("beta", self.settings.beta))
            if beta not in BETAS:
                raise JobError(f"The trial's beta is {beta!r}: choose one of {', '.join(BETAS)}.")
            images, started = self._ready(model, family, teacher, context)
            curve = self.curve(model, context, log)
            try:
                result = self._retrain(model, images, context, recipe, beta, curve)
            except Stopped as stopped:
                return self._stopped(str(stopped), context, curve, began)
            metrics |= {
                "loss": result.loss,
                "train_seconds": result.seconds,
                "train_macs": started + result.macs,
                **curve.rungs,
            }
            metrics["trained_images"] = float(result.images)
            how["micro_batch"] = result.micro_batch
        else:
            model.load_state_dict(teacher.network.state_dict())
            model.to(teacher.device)
        if Team.number() > 0:
            return {}
        sampling = time.monotonic()
        pixels = self.generate(model, self.settings.score_images, context.seed)
        metrics |= {**self.scoring.score(pixels), "sample_seconds": time.monotonic() - sampling}
        picture = grid(pixels[:64])
        log.scalar("rfid", metrics["rfid"], int(metrics.get("trained_images", 0)))
        log.picture("samples", picture, int(metrics.get("trained_images", 0)))
        self._write(model, context, metrics, png(picture), how)
        if self.settings.reference == "held_out":
            self._show_nearest(pixels, context)
        return metrics

    def _probe(
        self, model: nn.Module, family: BlockFamily, teacher: TeacherPipeline, context: TrialContext
    ) -> dict[str, Any]:
        share = float(context.settings.get("share", 0.0))
        if not 0.0 < share <= 1.0:
            raise JobError(
                f"The trial's share is {share:g}: it is a part of the student's training, above 0, at most 1."
            )
        images, _ = self._ready(model, family, teacher, context)  # the students count what the importance took
        recipe = shortened(self.settings.training, share)
        result = self._retrain(model, images, context, recipe, self.settings.beta, lambda progress: None)
        gap = gap_to_teacher(images, model.eval())
        return {
            UNRANKED: 1,
            "gap": gap,
            "loss": result.loss,
            "train_seconds": result.seconds,
            "train_macs": result.macs,
            "trained_images": float(result.images),
        }

    # Helpers ---------------------------------------------------------------------------------------------------------

    def generate(self, model: nn.Module, count: int, seed: int) -> NDArray[np.uint8]:
        """Generate uint8 images ``[count, channels, height, width]`` with the teacher's schedule and autoencoder.

        Args:
            model: a student, or the teacher's own network in its shape; on the device to use.
            count: of the images.
            seed: of the noise, equal for all networks.
        """
        assert self._teacher is not None, "evaluate and forecast open the teacher's pipeline"
        device = next(model.parameters()).device
        teacher = self._teacher.to(device)
        noise = initial_noise(count, teacher.shape, seed ^ SAMPLING_SEED, antithetic=self.spacing != "trailing")
        numbers = self.images.numbers_in_turn(count)
        labels = None if numbers is None else torch.from_numpy(numbers)
        model.eval()

        def denoise(noised: Tensor, times: Tensor, classes: Tensor | None) -> Tensor:
            condition = teacher.condition(classes, len(noised))
            with autocast(device):
                return teacher.predict(model, noised, times, condition)

        named, part = self.settings, teacher.parameterisation
        sampler = Sampler(
            named.sampler, named.sampler_steps, teacher.alpha_bar, part, teacher.scheduler, teacher.clip, self.spacing
        )
        made = sampler.pixels(denoise, noise, seed, labels, device, self.settings.sampling_batch, teacher.decode)
        pixels: NDArray[np.uint8] = made.numpy()
        return pixels

    def _pipeline(self, family: BlockFamily) -> TeacherPipeline:
        if self._teacher is None or self._teacher.family is not family:
            self._teacher = TeacherPipeline(family, self.settings.prompts, self.settings.trust_remote_code)
        return self._teacher

    def _clean(self, teacher: TeacherPipeline, count: int | None = None) -> tuple[Tensor, Tensor | None]:
        """x_0 and labels of all training images, or the first ``count``, on the device."""
        chosen = self.images.training[:count]
        numbers = self.images.numbers_of(chosen)
        pixels = torch.from_numpy(np.ascontiguousarray(self.images.pixels[chosen])).to(teacher.device)
        classes = None if numbers is None else torch.from_numpy(numbers).to(teacher.device)
        return teacher.encode(pixels), classes

    def _ready(
        self, model: nn.Module, family: BlockFamily, teacher: TeacherPipeline, context: TrialContext
    ) -> tuple[NoisedImages, float]:
        """The student on the device with the weights that it inherits; what it learns from, and what that took."""
        images = NoisedImages(teacher, *self._clean(teacher), context.seed)
        spent = self._start(model, family, images, context)
        model.to(teacher.device)
        return images, spent

    def _retrain(
        self,
        model: nn.Module,
        images: NoisedImages,
        context: TrialContext,
        recipe: Recipe,
        beta: str,
        report: Callable[[Progress], None],
    ) -> Retrained:
        teacher, macs = images.teacher, images.teacher.family.cost(context.architecture).macs
        joint = JointLoss(BETAS[beta], self.settings.soft_target, self.settings.features)
        bank = self._bank(images, context.output, context.seed)
        return retrain(Retraining(model, macs, teacher, images, recipe, joint, bank), context.seed, report)

    def _bank(self, images: NoisedImages, folder: Path, seed: int) -> AnswerBank | None:
        settings = self.settings
        if not settings.bank:
            return None
        return AnswerBank(images, settings.bank, settings.bank_passes, settings.bank_memory * 2**30, folder, seed)

    def _start(self, model: nn.Module, family: BlockFamily, images: NoisedImages, context: TrialContext) -> float:
        """Give the student the weights that it inherits; return the multiply-accumulates that this takes."""
        inherit, teacher, spent = self.settings.inherit, images.teacher, 0.0
        state, filled = teacher.network.state_dict(), set[str]()
        if inherit == "teacher":
            important = None
            if self.settings.importance == "taylor":
                important = kept_importance(images, context.seed, [self.images.split, self.settings.prompts])
                spent = 3.0 * IMAGES * family.teacher_cost.macs  # of whichever student comes first
            filled = fill_fitting(model, state, important)
        elif inherit != "nothing":
            fill_fitting(model, ends_of(state, [family.block_path(block.name) for block in family.blocks]))
        if inherit in ("teacher", "supernet"):
            self.supernets(teacher).fill(model, context.architecture, context.seed, filled)
        return spent

    def supernets(self, teacher: TeacherPipeline) -> KeptSupernets:
        """Those that this machine has trained as these settings say."""
        return KeptSupernets(teacher, self.settings.supernet, self.images.split)


def _block_family(family: Family | None) -> BlockFamily:
    """The family that knows the student's teacher.

    Raises:
        JobError: another family.
    """
    if not isinstance(family, BlockFamily):
        kind = "network of a stranger's space" if family is None else f"network of {type(family).__name__}"
        raise JobError(f"Evaluator 'blockwise' needs a student of a teacher, not a {kind}.")
    return family
