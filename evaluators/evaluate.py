"""``nni-diffnas evaluate``: scores any diffusers pipeline against any images, by the rapid or the full protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from nni_diffnas.api.errors import JobError
from nni_diffnas.cache import fingerprint
from nni_diffnas.files.whole_file import written_whole
from nni_diffnas.job import load_job
from nni_diffnas.searching.formats import format_seconds
from nni_diffnas.searching.progress import progress_bar

from .diffusion import DiffusionEvaluation
from .images.image_set import images
from .images.settings import DataSettings
from .sampling.pipelines import ImageGenerator
from .scores.features import ExtractorKind
from .scores.scoring import ReferenceName, Scoring, make_extractor
from .settings import spacing_of, validated
from .training.compute import choose_device, threads

__all__ = ["PROTOCOLS", "Protocol", "evaluate", "score_name"]

SHARD = 500
"""Images in a file; a killed evaluation loses at most so many."""


@dataclass(frozen=True)
class Protocol:
    """How a pipeline is scored.

    Args:
        images: generated.
        steps: of the sampler; ``None``: those that the pipeline takes by itself.
        sampler: class of a diffusers scheduler; ``None``: the pipeline's own.
        extractor: feature space.
        reference: part of the data that the images are compared with.
        reference_images: so many of them, drawn by chance; ``None``: all.
    """

    images: int
    steps: int | None
    sampler: str | None
    extractor: ExtractorKind
    reference: ReferenceName
    reference_images: int | None = None


PROTOCOLS: Mapping[str, Protocol] = {
    "rfid": Protocol(1000, 10, "DPMSolverMultistepScheduler", "labels", "training"),
    "fid10k": Protocol(10_000, None, None, "inception", "all"),
    "fid50k": Protocol(50_000, None, None, "inception", "all"),
}
"""``fid50k`` is the published protocol: 50,000 images of the pipeline's own sampler against all images of the data."""

SAMPLERS = {"dpm-solver++": "DPMSolverMultistepScheduler", "ddim": "DDIMScheduler"}
"""What diffusers calls the solvers of a job."""


def score_name(extractor: str, images: int, reference: ReferenceName) -> str:
    """What the distance may be called: FID only by the published protocol, and never on other features than its own."""
    if extractor == "inception":
        if reference == "all" and images == 50_000:
            return "FID"
        return f"FID-{images // 1000}k" if reference == "all" and images % 1000 == 0 else f"FID of {images} images"
    return "FID-768" if extractor == "inception-768" else f"Fréchet distance ({extractor})"


def evaluate(
    pipeline: Path,
    protocol: str,
    data: Sequence[str],
    output: Path,
    *,
    extractor: str | None = None,
    weights: Path | None = None,
    image_count: int | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    batch: int = 64,
    seed: int = 0,
    trust_remote_code: bool = False,
    dry_run: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Generate images with a pipeline and compare them with the data.

    Images are kept in ``output``, so that a killed evaluation goes on there: image ``i`` comes from its own seed.

    Args:
        pipeline: folder of a diffusers pipeline that needs no prompt.
        protocol: what all that is not given comes from.
        data: a job file, or a source and further fields of `DataSettings` as ``name=value``. Of a job, protocol
            ``rfid`` takes extractor, images, sampler, steps and reference images too.
        output: folder for images and scores.
        extractor: feature space.
        weights: of Inception.
        image_count: generated.
        steps: of the sampler.
        sampler: class of a diffusers scheduler.
        batch: images at once, halved while the memory does not suffice.
        seed: of the first image.
        trust_remote_code: whether a pipeline's own Python files may run; exported winners may need it.
        dry_run: only forecast how long it will take.

    Returns:
        What to tell a person, and all of it by name.

    Raises:
        JobError: a pipeline, sampler or number that cannot be used, or another evaluation in ``output``.
        DataError: the data, or Inception's weights.
    """
    described, options = _read(data)
    given = {"extractor": extractor, "images": image_count, "steps": steps, "sampler": sampler}
    plan = _plan(protocol, options, {name: value for name, value in given.items() if value is not None})
    device = choose_device(options.get("device", "auto"))
    with threads(options.get("threads")):
        content = images(validated(DataSettings, "data", described))
        file = weights or options.get("extractor_weights")
        space = make_extractor(plan.extractor, content, options.get("extractor_seed", 0), Path(file) if file else None)
        scoring = Scoring(content, plan.reference, space, device, plan.reference_images)
        scoring.prepare()
        demanded = sampler is not None or "sampler" in options
        ours = protocol == "rfid" and (sampler or options.get("sampler", "dpm-solver++")) in SAMPLERS
        spaced = ours and spacing_of(options.get("spacing"), described.get("split", "content")) == "log-snr"
        generator = ImageGenerator.load(
            pipeline, plan.sampler, plan.steps, seed, device, trust_remote_code, demanded, spaced
        ).drawing_classes_of(content)
        generator.check(content.shape)
        about = {
            "pipeline": generator.fingerprint, "steps": generator.steps, "sampler": generator.sampler, "seed": seed,
        }  # fmt: skip
        if 0 < len(generator.drawn) < generator.classes:
            about["classes"] = list(generator.drawn)
        if dry_run:
            return _forecast(generator, scoring, plan, batch), {}
        shards = list(_generated(generator, output, plan.images, batch, about, content.shape))
        features = scoring.features_of(part for shard in shards for part in _parts(shard))
        metrics = scoring.score_features(features)
    name = score_name(space.name, plan.images, plan.reference)
    result = {
        "score": name, "extractor": space.name, "images": plan.images, "reference": plan.reference,
        "reference_images": len(scoring.indices), "data": content.split, **about,
    }  # fmt: skip
    key = fingerprint(sorted(result.items()))
    (output / f"score-{key}.json").write_text(json.dumps({**result, **metrics}, indent=1), encoding="utf-8")
    beyond = f", {metrics['rfid_inf']:.4g} for infinitely many images" if "rfid_inf" in metrics else ""
    text = (
        f"{name} {metrics['rfid']:.5g} +- {metrics['rfid_se']:.2g}{beyond}; KID {metrics['kid']:.4g}\n"
        f"{plan.images} images of {generator.steps} {generator.sampler} steps against {len(scoring.indices)} "
        f"({plan.reference}) of {content.source!r}, features {space.name}. The standard error is that of other images "
        f"of the same pipeline.{generator.remark and ' ' + generator.remark}"
    )
    return text, {**result, **metrics}


def _read(data: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the data and of the evaluator."""
    if data and Path(data[0]).suffix in (".yml", ".yaml"):
        job = load_job(data[0])
        evaluation = job.make_evaluation()
        if not isinstance(evaluation, DiffusionEvaluation):
            raise JobError(
                f"--data {data[0]!r} is a job of evaluator {job.evaluator.type!r}, which learns from no images: name "
                f"another job, or the images."
            )
        return dict(job.data), evaluation.settings.model_dump(exclude_unset=True)
    fields = [word.split("=", 1) if index else ["source", word] for index, word in enumerate(data)]
    odd = next((field[0] for field in fields if len(field) < 2), None)
    if odd is not None:
        raise JobError(f"--data {odd!r} is no field: give a job file, or a source and then fields as name=value.")
    names = [name for name, _ in fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise JobError(f"--data names {twice!r} twice: leave one.")
    return {name: value if name == "source" else _value(value) for name, value in fields}, {}


def _value(written: str) -> Any:
    """As YAML reads it; what it cannot read stays a text, which no field but one of texts takes."""
    try:
        return yaml.safe_load(written)
    except yaml.YAMLError:
        return written


def _plan(protocol: str, evaluator: Mapping[str, Any], given: Mapping[str, Any]) -> Protocol:
    if protocol not in PROTOCOLS:
        raise JobError(f"--protocol is {protocol!r}: choose one of {', '.join(PROTOCOLS)}.")
    plan = asdict(PROTOCOLS[protocol])
    if protocol == "rfid":
        same = ("extractor", "reference", "reference_images", "sampler")
        renamed = {"images": "score_images", "steps": "sampler_steps", **dict(zip(same, same, strict=True))}
        plan |= {name: evaluator[option] for name, option in renamed.items() if option in evaluator}
        plan["sampler"] = SAMPLERS.get(plan["sampler"], plan["sampler"])
    found = Protocol(**{**plan, **given})
    if found.extractor not in get_args(ExtractorKind):
        raise JobError(f"--extractor is {found.extractor!r}: choose one of {', '.join(get_args(ExtractorKind))}.")
    for name in ("images", "steps"):
        value = getattr(found, name)
        if value is not None and value < (2 if name == "images" else 1):
            raise JobError(f"--{name} is {value}: give {'two' if name == 'images' else 'one'} at least.")
    return found


def _generated(
    generator: ImageGenerator, output: Path, count: int, batch: int, about: Mapping[str, Any], shape: tuple[int, ...]
) -> Iterator[NDArray[np.uint8]]:
    """Shards of images, from the folder where they are there; shows progress where somebody watches."""
    folder = output / "images"
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "about.json"
    if note.exists() and _said(note) != dict(about):
        raise JobError(
            f"{str(folder)!r} holds images of another pipeline, sampler, seed or classes: give another --output."
        )
    with written_whole(note) as draft:
        draft.write_text(json.dumps(dict(about)), encoding="utf-8")
    shards = [(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]
    files = {folder / f"{start:08}-{stop:08}.npy": (start, stop) for start, stop in shards}
    missing = sum(stop - start for file, (start, stop) in files.items() if not file.exists())
    with progress_bar("generating images", missing) as advance:
        for file, (start, stop) in files.items():
            if not file.exists():
                made: list[NDArray[np.uint8]] = []
                for pixels in generator.images(start, stop, batch):
                    made.append(pixels)
                    advance(len(pixels))
                with written_whole(file) as draft:
                    np.save(draft, np.concatenate(made))
            yield _shard(file, (stop - start, *shape))


def _shard(file: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Generated images of this shape, mapped into memory.

    Raises:
        JobError: the file is damaged.
    """
    try:
        found: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        found = np.empty(0, dtype=np.uint8)
    if found.shape != shape or found.dtype != np.uint8:
        raise JobError(
            f"{str(file)!r} holds no images that an evaluation has left: delete it, and they are made again."
        )
    return found


def _said(note: Path) -> Any:
    """What a folder's images are of; nothing that can be known where the file is damaged."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _parts(shard: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (shard[start : start + 50] for start in range(0, len(shard), 50))


def _forecast(generator: ImageGenerator, scoring: Scoring, plan: Protocol, batch: int) -> str:
    generating, scored = generator.seconds_per_image(min(batch, plan.images)), scoring.seconds_per_image()
    seconds = plan.images * (generating + scored)
    return (
        f"Forecast, from a few timed steps on this {'GPU' if generator.device.type == 'cuda' else 'CPU'}: "
        f"{plan.images} images of {generator.steps} {generator.sampler} steps take about {format_seconds(seconds)} "
        f"({seconds / 3600:.3g} hours)."
    )
