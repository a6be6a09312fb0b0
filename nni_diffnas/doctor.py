"""Finds what would go wrong before an experiment starts: environment, registration, NNI config, job."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import DiffNASError, JobError
from .forecast import forecast_search
from .job import load_job, refuse_secrets, resolve_paths
from .plugins import plugin_names
from .register import registered_tuners
from .versions import installed_version

__all__ = ["Finding", "check_config", "check_environment", "check_gpus", "gpu_count"]

Level = Literal["ok", "note", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; any ``FAIL`` makes the exit code non-zero."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level:4} {self.text}"


def check_environment() -> Iterator[Finding]:
    """Check Python, the packages that NNI needs (declared or not), registration and write access."""
    python = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("ok", f"Python {python}")
    else:
        yield Finding("FAIL", f"Python is {python}: use 3.11, 3.12 or 3.13.")
    setuptools = installed_version("setuptools")
    if setuptools is None or int(setuptools.split(".")[0]) >= 82:
        yield Finding(
            "FAIL",
            f"setuptools is {setuptools or 'missing'} and nnictl needs pkg_resources: pip install 'setuptools<82'.",
        )
    for package in (
        "nni",
        "torch",
        "torchvision",
        "diffusers",
        "torch-fidelity",
        "pytorch-lightning",
        "botorch",
        "openai",
    ):
        found = installed_version(package)
        if found is None:
            yield Finding("FAIL", f"{package} is missing: pip install {package}.")
        elif package == "nni" and not found.startswith("3.0"):
            yield Finding("FAIL", f"nni is {found}: pip install nni==3.0.")
        else:
            yield Finding("ok", f"{package} {found}")
    try:
        import torchvision  # noqa: F401 - torch-fidelity imports it; a CPU and a CUDA build do not go together
    except Exception as error:
        versions = (
            f"torchvision {installed_version('torchvision')} does not work with torch {installed_version('torch')}"
        )
        yield Finding("FAIL", f"{versions} ({type(error).__name__}): install both from the same package index.")
    missing = set(plugin_names("strategies")) - set(registered_tuners())
    if missing:
        yield Finding("FAIL", f"NNI does not know {', '.join(sorted(missing))}: run 'nni-diffnas register'.")
    else:
        yield Finding("ok", f"tuners registered with NNI: {', '.join(registered_tuners())}")
    yield _writable(Path(os.environ.get("NNI_CONFIG_DIR") or sys.prefix), "NNI's configuration")
    from .cache import cache_folder

    yield _writable(cache_folder(), "the cache")


def _writable(folder: Path, what: str) -> Finding:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if os.access(existing, os.W_OK):
        return Finding("ok", f"{what} can be written: {folder}")
    return Finding("FAIL", f"{what} cannot be written: make {folder} writable.")


def gpu_count() -> int:
    """Number of NVIDIA GPUs that NNI's scheduler will see."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, no library: pynvml raises its own errors and OSError alike
        return 0


def check_gpus(trial_gpus: float | None, concurrency: int, per_gpu: int, gpus: int) -> Finding:
    """Refuse what NNI's local scheduler cannot place: it would retry without delay until memory is full.

    Args:
        trial_gpus: ``trialGpuNumber`` of the config; ``None`` when unset.
        concurrency: ``trialConcurrency``.
        per_gpu: ``maxTrialNumberPerGpu``.
        gpus: of this machine.
    """
    remedy = "leave trialGpuNumber unset and use trialConcurrency: 1"
    if not trial_gpus:
        if trial_gpus is None and gpus and concurrency > gpus:
            return Finding("note", f"{concurrency} trials at once will share {gpus} GPU(s) and their memory.")
        return Finding("ok", f"trials {'see all' if trial_gpus is None else 'are hidden from'} {gpus} GPU(s)")
    if trial_gpus != int(trial_gpus):
        return Finding("FAIL", f"trialGpuNumber is {trial_gpus}: NNI takes whole numbers; {remedy}.")
    if trial_gpus >= gpus:
        return Finding(
            "FAIL",
            f"trialGpuNumber is {trial_gpus:.0f} and this machine has {gpus} GPU(s), which NNI never places: {remedy}.",
        )
    if trial_gpus * concurrency > gpus * per_gpu:
        return Finding(
            "FAIL",
            f"{concurrency} trials of {trial_gpus:.0f} GPU(s) do not fit {gpus} GPU(s) with maxTrialNumberPerGpu "
            f"{per_gpu}, and NNI would retry without end: use trialConcurrency: {int(gpus * per_gpu // trial_gpus)}.",
        )
    return Finding("ok", f"{concurrency} trials of {trial_gpus:.0f} GPU(s) fit {gpus} GPU(s)")


def _load_config(path: Path) -> Any:
    from nni.experiment.config import ExperimentConfig

    if not path.is_file():
        raise JobError(f"Config {str(path)!r} is not a file: check the path.")
    try:
        return ExperimentConfig.load(path).canonical_copy()
    except Exception as error:  # NNI raises assertions, type errors, key errors and its own for a bad config
        raise JobError(
            f"NNI does not accept config {str(path)!r}: {' '.join(str(error).split()) or type(error).__name__}."
        ) from error


def check_config(path: Path, port: int = 8080) -> Iterator[Finding]:
    """Check an NNI config that uses one of our tuners, down to the data, and forecast the search."""
    try:
        yield from _check_config(path, port)
    except DiffNASError as error:
        yield Finding("FAIL", str(error))


def _check_config(path: Path, port: int) -> Iterator[Finding]:
    from .opening import make_strategy, restrict_space

    config = _load_config(path)
    yield Finding("ok", f"NNI accepts {path}")
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", port)) == 0:
            yield Finding("FAIL", f"Port {port} is in use: choose another with 'nnictl create --port'.")
    services = config.training_service if isinstance(config.training_service, list) else [config.training_service]
    for service in services:
        if service.platform == "local":
            yield check_gpus(
                config.trial_gpu_number,
                config.trial_concurrency,
                getattr(service, "max_trial_number_per_gpu", None) or 1,
                gpu_count(),
            )
    tuner = config.tuner
    if tuner is None or (tuner.name not in plugin_names("strategies") and not tuner.class_name):
        yield Finding(
            "FAIL", f"Tuner {tuner and tuner.name!r} is none of ours: use {', '.join(plugin_names('strategies'))}."
        )
        return
    arguments = dict(tuner.class_args or {})
    refuse_secrets(arguments, "classArgs of the tuner")
    name = arguments.pop("strategy", tuner.name)
    mode = arguments.pop("optimize_mode", "maximize")
    if "job" not in arguments:
        raise JobError("tuner.classArgs has no 'job': name the job file there.")
    job = load_job(Path(config.trial_code_directory) / str(arguments.pop("job")))
    objective = job.make_objective()
    if mode != objective.direction:
        raise JobError(
            f"classArgs say optimize_mode: {mode}, the job's objective says {objective.direction}: make them agree."
        )
    family, evaluation, budget = job.make_family(), job.make_evaluation(), job.make_budget()
    space = restrict_space(family.space, config.search_space)
    strategy = make_strategy(name, job, None, resolve_paths(arguments, Path(config.trial_code_directory)))
    strategy.bind(space, family, evaluation.protocol, task=job.task)
    strategy.check()
    yield Finding("ok", f"job: {space.size:,} architectures, strategy {name}, scores are {evaluation.protocol}")
    evaluation.prepare()
    evaluation.check(family)
    yield Finding("ok", "data can be read")
    if config.max_trial_number:
        forecast = forecast_search(family, evaluation, budget, config.max_trial_number, config.trial_concurrency)
        yield Finding("ok", f"forecast: {forecast}")
    yield Finding(
        "note", "NNI's web server has no password and listens on all interfaces: keep its port behind a firewall."
    )
