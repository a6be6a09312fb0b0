"""Finds what would go wrong before an experiment starts: environment, registration, NNI config, job."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..api.errors import DiffNASError, JobError
from ..api.paths import absolute_paths
from ..cache import cache_folder
from ..job import load_job, refuse_secrets
from ..memory import SearchMemory
from ..plugins import find_plugin, plugin_names
from ..process.versions import installed_version
from ..searching.forecast import forecast_lines, forecast_search
from ..searching.open import open_job
from .config_file import check_command, read_config
from .gpus import GpuRequest, gpu_count
from .register import config_folder, registered_tuners

__all__ = ["Finding", "check_config", "check_environment", "check_gpus"]

Severity = Literal["ok", "note", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; any ``FAIL`` makes the exit code non-zero."""

    level: Severity
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
        import torchvision  # noqa: F401  # torch-fidelity imports it; a CPU and a CUDA build do not go together
    except Exception as error:
        versions = (
            f"torchvision {installed_version('torchvision')} does not work with torch {installed_version('torch')}"
        )
        yield Finding("FAIL", f"{versions} ({type(error).__name__}): install both from the same package index.")
    yield _registration()
    with suppress(DiffNASError):  # of which the line above has told
        yield _writable(config_folder(), "NNI's configuration")
    try:
        yield _writable(cache_folder(), "the cache")
    except DiffNASError as error:
        yield Finding("FAIL", str(error))
    yield from _proxied()


def _registration() -> Finding:
    try:
        registered = registered_tuners()
    except JobError as error:
        return Finding("FAIL", str(error))
    if missing := set(plugin_names("strategies")) - set(registered):
        return Finding("FAIL", f"NNI does not know {', '.join(sorted(missing))}: run 'nni-diffnas register'.")
    return Finding("ok", f"tuners registered with NNI: {', '.join(registered)}")


def _proxied() -> Iterator[Finding]:
    """A proxy that would be asked for NNI's own manager: nnictl dies of it in a traceback."""
    from requests.utils import get_environ_proxies

    if {"http", "all"} & set(get_environ_proxies("http://localhost:8080")):
        yield Finding(
            "FAIL",
            "The environment names a proxy (http_proxy or all_proxy) that NNI would ask for its own manager on this "
            "machine: export no_proxy=localhost,127.0.0.1.",
        )


def _writable(folder: Path, what: str) -> Finding:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if os.access(existing, os.W_OK):
        return Finding("ok", f"{what} can be written: {folder}")
    return Finding("FAIL", f"{what} cannot be written: make {folder} writable.")


def _memory(file: Path) -> Finding:
    """Check the search memory that a job names.

    Raises:
        MemoryFileError: the file is there, and is none.
    """
    if file.exists():
        SearchMemory(file, create=False).close()
    elif not file.parent.is_dir():
        return Finding("FAIL", f"The folder of the search memory {file} does not exist: create it first.")
    return _writable(file if file.exists() else file.parent, "the search memory")


def check_gpus(request: GpuRequest, gpus: int) -> Finding:
    """Check what a config asks of the ``gpus`` GPUs of this machine."""
    if problem := request.problem(gpus):
        return Finding("FAIL", problem)
    if request.per_trial is None and gpus and request.concurrency > gpus:
        return Finding("note", f"{request.concurrency} trials at once will share {gpus} GPU(s) and their memory.")
    if not gpus:
        return Finding("ok", "no GPU here: trials train on the CPU")
    if not request.per_trial:
        seen = "see all" if request.per_trial is None else "are hidden from"
        return Finding("ok", f"trials {seen} {gpus} GPU(s)")
    return Finding("ok", f"{request.concurrency} trials of {request.per_trial:.0f} GPU(s) fit {gpus} GPU(s)")


def check_config(path: Path, port: int = 8080, pictures: Path | None = None) -> Iterator[Finding]:
    """Check an NNI config that uses one of our tuners, down to the data, and forecast the search.

    Args:
        path: of the config.
        port: that the experiment will use.
        pictures: PNG file for a contact sheet of the data; ``None`` writes none.
    """
    try:
        yield from _check_config(path, port, pictures)
    except DiffNASError as error:
        yield Finding("FAIL", str(error))


def _save(picture: bytes, file: Path) -> None:
    if not picture:
        raise JobError("The evaluator has no pictures of its data to show: leave out --pictures.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)
    except OSError as error:
        raise JobError(f"{str(file)!r} cannot be written ({error.strerror}): give another --pictures.") from error


def _check_config(path: Path, port: int, pictures: Path | None) -> Iterator[Finding]:
    config = read_config(path)
    yield Finding("ok", f"NNI accepts {path}")
    yield _writable(Path(config.experiment_working_directory), "the folder of all experiments")
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", port)) == 0:
            yield Finding("FAIL", f"Port {port} is in use: choose another by --port.")
    request = GpuRequest.of(config.json())
    if request is not None:
        yield check_gpus(request, gpu_count())
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
    place = Path(config.trial_code_directory)
    job_file = place / str(arguments.pop("job"))
    job = load_job(job_file)
    if remark := check_command(str(config.trial_command), place, job_file):
        yield Finding("note", remark)
    options = absolute_paths(find_plugin("strategies", name), arguments, place)
    search, evaluation = open_job(job, name, mode, options, config.search_space)
    if job.memory is not None:
        yield _memory(job.memory)
    size = search.space.size
    yield Finding("ok", f"job: {size:,} architectures, strategy {name}, scores are {evaluation.protocol}")
    if warm := search.warm_start:
        yield Finding("note" if ": " in warm else "ok", warm)
    for line in evaluation.describe_data() or ["can be read"]:
        yield Finding("note" if line.startswith(("enlarged", "left out", "the teacher")) else "ok", f"data: {line}")
    if pictures is not None:
        _save(evaluation.pictures(), pictures)
        yield Finding("ok", f"some of the data, to look at: {pictures}")
    if config.max_trial_number:
        trials = search.strategy.planned(config.max_trial_number)
        for line in forecast_lines(search, evaluation, trials, config.trial_concurrency):
            yield Finding("ok", f"forecast: {line}")
    elif search.family is not None:  # a few steps are tried here, too
        few = config.trial_concurrency
        found = forecast_search(search.family, evaluation, search.options.budget, few, few)
        yield Finding("ok", f"forecast, without a maxTrialNumber: {found}")
    yield Finding(
        "note", "NNI's web server has no password and listens on all interfaces: keep its port behind a firewall."
    )
