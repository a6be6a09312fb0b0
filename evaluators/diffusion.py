"""`DiffusionEvaluation`: trains a denoising network rapidly and scores it by rapid FID."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nni_diffnas.api.errors import DataError, JobError
from nni_diffnas.api.evaluation import Evaluation, TrialContext
from nni_diffnas.api.family import Family
from nni_diffnas.api.trial import UNRANKED

from .duration import Duration, time_trial
from .images.image_set import ImageSet, images
from .images.pictures import TensorBoardLog, grid, nearest_below, png
from .images.settings import DataSettings
from .output import write_record, write_trained
from .sampling.schedulers import Sampler, make_scheduler, scheduler_of
from .sampling.solvers import SOLVERS, Spacing, initial_noise
from .scores.curve import Curve, Stopped
from .scores.held_out_loss import HeldOutLoss, Level, mean_loss
from .scores.reference_denoiser import reference_denoiser
from .scores.scoring import Scoring, make_extractor
from .settings import Settings, spacing_of, validated
from .training.compute import Team, autocast, channels_last, choose_device, computing, place, threads
from .training.denoising import TrainingResult, call_network, train
from .training.fitting import check_network
from .training.recipe import Recipe

__all__ = ["DiffusionEvaluation"]

RULES_OF_0_1: Mapping[str, Any] = {"split": "position", "class_numbers": "in_turn", "upright": False}
"""Fields of the data whose default was another in version 0.1."""

SAMPLING_SEED = 0x5EED  # keeps the sampler's noise apart from the training's, which starts from the trial's seed


class DiffusionEvaluation(Evaluation):
    """Train on the images, generate a few, compare them with the images.

    Example:
        >>> evaluation = DiffusionEvaluation({"source": "digits"}, training={"images": 16000})
        >>> evaluation.prepare()
        >>> evaluation.evaluate(model, TrialContext(architecture={}, output=folder))["rfid"]

    Args:
        data: fields of `DataSettings`.
        options: fields of `Settings`.

    Raises:
        JobError: an unknown option, or a value out of range.
    """

    measures: tuple[str, ...] = (
        *("rfid", "rfid_se", "rfid_inf", "kid", "loss", "held_out_loss", "prediction_gap"),
        *("train_seconds", "sample_seconds", "seconds", "images_per_second", "trained_images"),
    )
    less_is_better = frozenset({"rfid", "rfid_inf", "kid", "loss", "held_out_loss", "prediction_gap"})
    settings_kind: ClassVar[type[Settings]] = Settings
    """Options of a subclass."""

    def __init__(self, data: Annotated[Mapping[str, Any], DataSettings], **options: Annotated[Any, Settings]) -> None:
        self.data = validated(DataSettings, "data", data)
        self.settings = validated(self.settings_kind, "evaluator", options)
        self.family: Family | None = None
        """Of the networks, once a trial has said it: its default is the reference of ``prediction_gap``."""
        absent = {name for name, number in self._signals().items() if not number}
        self.measures = tuple(name for name in self.measures if name not in absent)
        if self.settings.sampler_steps > self.settings.training.timesteps:
            raise JobError(
                f"evaluator.sampler_steps is {self.settings.sampler_steps}, more than the "
                f"{self.settings.training.timesteps} of training.timesteps: lower it."
            )
        if self.settings.sampler not in SOLVERS:
            make_scheduler(self.settings.sampler, self.scheduler_config())

    @classmethod
    def stated(cls, data: Mapping[str, Any], version: str = "") -> dict[str, Any]:
        """``data`` with the rules of splitting, numbering classes and turning photographs of that version."""
        rules: dict[str, Any] = {name: DataSettings.model_fields[name].default for name in RULES_OF_0_1}
        return {**rules, **(RULES_OF_0_1 if version.startswith("0.1.") else {}), **data}

    @property
    def fingerprint(self) -> str:
        """Of the images and of the part that is trained on: the end of `protocol`."""
        return self.images.split

    def describe_data(self) -> list[str]:
        """What the images are."""
        return self.images.describe()

    def pictures(self) -> bytes:
        """Sixty-four of the images, spread over all of them, as PNG."""
        content = self.images.pixels
        chosen = np.unique(np.linspace(0, len(content) - 1, 64).round().astype(int))
        return png(grid(content[chosen], side=640))

    @property
    def rungs(self) -> tuple[str, ...]:
        """``rfid`` and the signals without samples, unless no report before the last of the training carries them."""
        if min(self.settings.curve_points, self.settings.training.reports - 1) <= 0:
            return ()
        measured = {"rfid": self.settings.curve_images, **self._signals()}
        return tuple(name for name, number in measured.items() if number)

    def _signals(self) -> dict[str, float]:
        """Scores that need no samples, with a number that is 0 where they are not measured."""
        images = self.settings.loss_images * self.data.held_out
        return {"held_out_loss": images, "prediction_gap": images * self.settings.gap_training}

    @cached_property
    def images(self) -> ImageSet:
        """The data; decoded now where it was not before."""
        return images(self.data)

    @cached_property
    def scoring(self) -> Scoring:
        """What compares the samples with the reference; its feature network is trained now where it was not before."""
        settings = self.settings
        with threads(settings.threads):
            extractor = make_extractor(
                settings.extractor, self.images, settings.extractor_seed, settings.extractor_weights
            )
        device = choose_device(settings.device)
        return Scoring(self.images, settings.reference, extractor, device, settings.reference_images)

    @cached_property
    def held_out_loss(self) -> HeldOutLoss | None:
        """What measures the loss on held-out images; ``None`` where it is switched off or there are too few of them."""
        return self._compared(None) if self.settings.loss_images and len(self.images.validation) else None

    @property
    def _reference_recipe(self) -> Recipe:
        return self.longer(self.settings.gap_training).settings.training

    @cached_property
    def prediction_gap(self) -> HeldOutLoss | None:
        """What compares with the reference denoiser, which is trained now where it was not before; ``None``: nothing.

        Raises:
            JobError: it is wanted, and nobody said what family the networks are of.
        """
        if not self.settings.gap_training or self.held_out_loss is None:
            return None
        if self.family is None:
            raise JobError(
                "evaluator.gap_training compares networks with the default of their search space, and this network is "
                "of none: leave gap_training out."
            )
        device = choose_device(self.settings.device)
        data = partial(self._resident, device)
        return self._compared(reference_denoiser(self.images, self._reference_recipe, self.family, device, data))

    def _compared(self, reference: nn.Module | None) -> HeldOutLoss:
        """Loss, or gap to a reference, on images that rank; where samples are judged by the others, on these."""
        settings, images = self.settings, self.images
        part = images.unseen if settings.reference == "held_out" else images.validation
        return HeldOutLoss(images, part, settings.training, settings.loss_images, settings.sampling_batch, reference)

    @cached_property
    def signals_by_level(self) -> dict[str, HeldOutLoss]:
        """Scores that need no samples, by name; less is better."""
        found = {"held_out_loss": self.held_out_loss, "prediction_gap": self.prediction_gap}
        return {name: signal for name, signal in found.items() if signal is not None}

    @property
    def spacing(self) -> Spacing:
        """Of the timesteps of our solvers."""
        return spacing_of(self.settings.spacing, self.data.split)

    @property
    def protocol(self) -> str:
        """Feature space, images, sampler, training and data; it prepares the data where nobody did."""
        settings = self.settings
        default = type(settings).model_fields["loss_images"].default
        losses = f"/loss of {settings.loss_images} images" if settings.loss_images not in (0, default) else ""
        losses += f"/gap to the default after {self._reference_recipe.budget}" if settings.gap_training else ""
        spaced = " log-snr" if settings.sampler in SOLVERS and self.spacing == "log-snr" else ""
        return (
            f"rfid/{self.scoring.extractor.name}/{settings.score_images} images/{settings.sampler_steps} "
            f"{settings.sampler}{spaced} steps/{settings.training.budget} {settings.training.fingerprint}/"
            f"{self.scoring.part} {settings.reference_images or ''}{self.images.split}{losses}"
        )

    def prepare(self) -> None:
        """Decode the images, make the feature network and the reference statistics; all that fails, fails here."""
        if self.settings.training.class_conditional and self.images.labels is None:
            raise DataError(
                f"evaluator.training.class_conditional needs labels, which data.source {self.data.source!r} has not: "
                f"give labels or switch it off."
            )
        if not len(self.images.validation):
            self.measures = tuple(name for name in self.measures if name not in self._signals())
        with threads(self.settings.threads):
            self.scoring.prepare()

    def held_out(self) -> Self:
        """The same training, scored against the held-out images; writes ``nearest.png`` with the samples too.

        Raises:
            JobError: nothing is held out.
        """
        if self.data.held_out == 0:
            raise JobError("data.held_out is 0, so that no images are left to judge by: set it to 0.1, say.")
        return self.changed(reference="held_out", reference_images=None)

    def longer(self, factor: float) -> Self:
        """The same with ``factor`` times the training budget."""
        training = self.settings.training
        images, steps = (
            None if count is None else max(1, round(count * factor)) for count in (training.images, training.steps)
        )
        seconds = None if training.seconds is None else training.seconds * factor
        budget = {"images": images, "steps": steps, "seconds": seconds}
        # The reference denoiser stays the same.
        gap = {"gap_training": self.settings.gap_training / factor} if self.settings.gap_training else {}
        return self.changed(training={**training.model_dump(exclude_unset=True), **budget}, **gap)

    def changed(self, **options: Any) -> Self:
        """The same with other fields of `Settings`."""
        # Only what was set: a subclass may refuse an option that is named, were it at its default.
        made = type(self)(self.data.model_dump(), **{**self.settings.model_dump(exclude_unset=True), **options})
        made.family = self.family
        return made

    def check(self, family: Family) -> None:
        """Refuse networks that the images or the recipe do not fit; nothing is allocated for it."""
        with torch.device("meta"):
            model = family.build(family.default)
        check_network(model, self.images.shape, self.settings.training, self.images.last_class)

    def scheduler_config(self) -> dict[str, Any] | None:
        """Configuration of the diffusers scheduler that samples the trained network in a stock ``DDPMPipeline``.

        ``None`` for EDM's preconditioned networks: no pipeline of diffusers scales their input.
        """
        return scheduler_of(self.settings.training)

    def resolved(self) -> dict[str, Any]:
        """All settings, those of the recipe included."""
        return {
            "data": self.data.model_dump(mode="json"),
            "evaluator": self.settings.model_dump(mode="json"),
            "scheduler": self.scheduler_config(),
            "computing": computing(choose_device(self.settings.device)),
        }

    def evaluate(self, model: nn.Module, context: TrialContext) -> dict[str, float]:
        """Train and score ``model``; writes weights, samples, the TensorBoard log and ``evaluation.json``."""
        self.family = context.family or self.family
        with threads(self.settings.threads):
            _ = self.signals_by_level  # what one trial trains for all is not that trial's time
        began = time.monotonic()
        with threads(self.settings.threads), TensorBoardLog(context.output / "tensorboard") as log:
            check_network(model, self.images.shape, self.settings.training)
            device = choose_device(self.settings.device)
            curve = self.curve(model, context, log)
            try:
                training = self.fit(model, context, curve)
            except Stopped as stopped:
                return self._stopped(str(stopped), context, curve, began)
            if Team.number() > 0:
                return {}
            levels = {name: signal.levels(model) for name, signal in self.signals_by_level.items()}
            sampling = time.monotonic()
            pixels = self.generate(model, self.settings.score_images, context.seed)
            sample_seconds = time.monotonic() - sampling
            metrics = {
                **self.scoring.score(pixels),
                "loss": training.loss,
                **{name: mean_loss(found) for name, found in levels.items()},
                "train_seconds": training.seconds,
                "sample_seconds": sample_seconds,
                "images_per_second": training.images / max(training.seconds, 1e-9),
                "trained_images": float(training.images),
                **curve.rungs,
            }
            picture = grid(pixels[:64])
            log.scalar("rfid", metrics["rfid"], training.images)
            log.picture("samples", picture, training.images)
        metrics["seconds"] = time.monotonic() - began
        how = computing(device) | {
            "channels_last": channels_last(model, device),
            "micro_batch": training.micro_batch,
            "compiled": training.compiled,
            "recorded": training.recorded,
        }
        self._write(model, context, metrics, png(picture), how, levels)
        if self.settings.reference == "held_out":
            self._show_nearest(pixels, context)
        return metrics

    def _show_nearest(self, pixels: NDArray[np.uint8], context: TrialContext) -> None:
        """Samples with the nearest training images below them: what is copied, shows."""
        known = self.images.pixels[self.images.training]
        (context.output / "nearest.png").write_bytes(png(grid(nearest_below(pixels[:16], known), columns=16)))

    def generate(self, model: nn.Module, count: int, seed: int) -> NDArray[np.uint8]:
        """Generate uint8 images ``[count, channels, height, width]``; equal noise for equal seeds, whatever the model.

        Args:
            model: trained; on the device to use.
            count: of the images.
            seed: of the noise.
        """
        device, settings, recipe = next(model.parameters()).device, self.settings, self.settings.training
        noise = initial_noise(count, self.images.shape, seed ^ SAMPLING_SEED, antithetic=self.spacing != "trailing")
        numbers = self.images.numbers_in_turn(count) if recipe.class_conditional else None
        labels = None if numbers is None else torch.from_numpy(numbers)
        model.eval()

        def denoise(noised: Tensor, times: Tensor, classes: Tensor | None) -> Tensor:
            with autocast(device):
                return call_network(model, noised, times, classes)

        sampler = Sampler(
            settings.sampler, settings.sampler_steps, recipe.noise_schedule().alpha_bar(), recipe.parameterisation(),
            self.scheduler_config(), spacing=self.spacing,
        )  # fmt: skip
        made: NDArray[np.uint8] = sampler.pixels(denoise, noise, seed, labels, device, settings.sampling_batch).numpy()
        return made

    def duration(self, model: nn.Module) -> Duration:
        """How long a trial of ``model`` takes on this device, from four timed steps of a copy of it."""
        data, signals = self._resident(choose_device(self.settings.device)), len(self.signals_by_level)
        return time_trial(model, self.settings, data, lambda m, n: self.generate(m, n, 0), self.scoring, signals)

    def forecast(self, model: nn.Module, family: Family | None = None) -> tuple[float, float]:
        """Seconds and bytes that `evaluate` of ``model`` will take: its `duration` by the recipe."""
        found = self.duration(model)
        return found.seconds(self.settings.training), found.disk

    def fit(self, model: nn.Module, context: TrialContext, curve: Curve | None = None) -> TrainingResult:
        """Train ``model`` in place, on the device of the settings, and report to ``curve``; unset: to ``context``.

        Raises:
            Stopped: a threshold of ``context.settings`` ended the training.
        """
        device = choose_device(self.settings.device)
        place(model, device)
        pixels, labels = self._resident(device)
        return train(model, pixels, labels, self.settings.training, context.seed, curve or self.curve(model, context))

    def curve(self, model: nn.Module, context: TrialContext, log: TensorBoardLog | None = None) -> Curve:
        """Scores ``model`` on its way, as the settings say."""
        settings = self.settings
        generate = (
            (lambda: self.generate(model, settings.curve_images, context.seed)) if settings.curve_images else None
        )
        return Curve(
            settings.curve_points,
            generate,
            self.scoring.score,
            context.report,
            log,
            context.settings,
            lambda: {name: mean_loss(signal.levels(model)) for name, signal in self.signals_by_level.items()},
        )

    def _stopped(self, why: str, context: TrialContext, curve: Curve, began: float) -> dict[str, float]:
        metrics = {UNRANKED: 1.0, **curve.rungs, "seconds": time.monotonic() - began}
        result = {"stopped": why, "metrics": metrics, "architecture": dict(context.architecture), **self.resolved()}
        write_record(context.output, result)
        return metrics

    def _resident(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Pixels and labels of the training images, on the device for the whole training."""
        chosen = self.images.training
        labels = self.images.numbers_of(chosen) if self.settings.training.class_conditional else None
        on_device = None if labels is None else torch.from_numpy(labels).to(device)
        return torch.from_numpy(np.ascontiguousarray(self.images.pixels[chosen])).to(device), on_device

    def _write(
        self,
        model: nn.Module,
        context: TrialContext,
        metrics: Mapping[str, float],
        picture: bytes,
        how: Mapping[str, Any],
        levels: Mapping[str, Sequence[Level]] | None = None,
    ) -> None:
        write_trained(context.output, model, picture)
        result = {
            "protocol": self.protocol,
            "metrics": dict(metrics),
            "architecture": dict(context.architecture),
            "seed": context.seed,
            "levels": {name: [level.as_dict() for level in found] for name, found in (levels or {}).items()},
            **self.resolved(),
            "computing": dict(how),
            "torch": torch.__version__,
        }
        write_record(context.output, result)
