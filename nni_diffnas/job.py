"""The job file: one validated YAML that the tuner, the trials and the command line all read.

Example:
    .. code-block:: yaml

        space: {type: unet, preset: digits}
        data: {source: digits}
        evaluator: {type: diffusion, training: {images: 20000}}
        objective: {metric: rfid, direction: minimize}
        budget: {macs: {max: 2.0e6}}
        seed: 0
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .api.cost import COSTS, Budget, Window
from .api.errors import DiffNASError, JobError, PluginError, TrialFailure
from .api.evaluation import Evaluation
from .api.family import Family
from .api.paths import absolute_paths, missing_paths
from .api.section import Section
from .api.space import Value
from .api.trial import Direction, Objective
from .files.yaml_file import read_yaml, walk
from .language_model.redaction import LOOKS_LIKE_A_KEY, environment_secrets
from .plugins import find_plugin

__all__ = [
    "Job",
    "begun_by",
    "carried",
    "check_carried",
    "data_resumed",
    "data_source",
    "load_job",
    "refuse_missing",
    "take_up",
]

FINGERPRINT = "fingerprint"
"""Setting of a trial: the first digits of `Evaluation.fingerprint`."""

DATA_PREFIX = "data."
"""Settings of a trial under this prefix overrule fields of the job file's ``data``, which the trial reads again."""

NAMED_SOURCES = ("digits", "patches", "cifar10", "mnist")
"""Data sets that are meant by their names; a folder beside the job that is called so is written ``./digits``."""

LONGEST_TRIAL = 1e8
"""Seconds, three years: a longer limit is none, and the system's clocks refuse it."""

_SECRET_FIELD = re.compile(r"(api[_-]?key|secret|password|token|authorization)$", re.IGNORECASE)


class _Window(Section):
    min: float | None = None
    max: float | None = None


class _Objective(Section):
    metric: str = "rfid"
    direction: Direction = "minimize"


class _Plugin(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    type: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def located(self, plugin: Any, folder: Path) -> _Plugin:
        """The same with the plug-in's relative paths made absolute."""
        return _Plugin(type=self.type, **absolute_paths(plugin, self.options, folder))


class Job(Section):
    """A validated job.

    Args:
        space: ``type`` (a plug-in) and its options.
        data: what to learn; read by the evaluator.
        evaluator: ``type`` (a plug-in) and its options.
        objective: metric that ranks trials, and its direction.
        budget: windows ``{min, max}`` on ``macs``, ``params``, ``latency_ms``.
        seed: of the strategy and of every trial.
        max_trial_seconds: wall-clock limit of a trial, which ends a hang as a failure; by default there is none.
        memory: search-memory file; by default in the experiment's folder.
        warm_start: search-memory files of earlier experiments; of their trials count those that have ended, lie in this
            search's space and were scored by its protocol.
    """

    space: _Plugin
    data: dict[str, Any] = Field(default_factory=dict)
    evaluator: _Plugin
    objective: _Objective = _Objective()
    budget: dict[str, _Window] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, lt=2**31)
    max_trial_seconds: float | None = Field(default=None, gt=0, le=LONGEST_TRIAL)
    memory: Path | None = None
    warm_start: list[Path] = Field(default_factory=list)

    @property
    def task(self) -> str:
        """One line on what is learned from which data, by which evaluator."""
        data = ", ".join(f"{name} {value}" for name, value in self.data.items()) or "no further data"
        return f"{self.evaluator.type} on {data}; {self.objective.direction} {self.objective.metric}"

    @classmethod
    def recorded(cls, start: Mapping[str, Any]) -> Job:
        """Read the job of a search that has begun, with the rules of the version that began it.

        Args:
            start: body of its ``experiment`` event.

        Raises:
            ValidationError: it holds no job.
        """
        job = cls.model_validate(start["job"])
        try:
            return job.stated(begun_by(start))
        except PluginError:  # what was measured can be read where its plug-in is not
            return job

    def located(self, folder: Path, *, evaluated: bool = True) -> Job:
        """The same with relative paths made absolute; which options are paths, their types say (`api.paths`).

        Args:
            folder: at which they start.
            evaluated: whether an evaluation will be made of it; without one its plug-in need not be imported.
        """
        changes = absolute_paths(Job, {"memory": self.memory, "warm_start": self.warm_start}, folder)
        with suppress(PluginError):  # which whoever wants the plug-in will meet
            changes["space"] = self.space.located(find_plugin("spaces", self.space.type), folder)
        if evaluated:
            with suppress(PluginError):
                plugin = find_plugin("evaluators", self.evaluator.type)
                changes["evaluator"] = self.evaluator.located(plugin, folder)
                changes |= absolute_paths(plugin, {"data": self.data}, folder)
        return Job.model_validate({**dict(self), **changes})

    def stated(self, version: str = "") -> Job:
        """The same with the rules of that version written out; see `Evaluation.stated`.

        Raises:
            PluginError: there is no such evaluator.
        """
        evaluator = find_plugin("evaluators", self.evaluator.type)
        return self.model_copy(update={"data": evaluator.stated(self.data, version)})

    def resumed(self, start: Mapping[str, Any]) -> Job:
        """The same with the rules by which a search began, where this job says no other.

        Args:
            start: body of the search's ``experiment`` event; empty where it has not begun.

        Raises:
            PluginError: there is no such evaluator.
        """
        evaluator = find_plugin("evaluators", self.evaluator.type)
        return self.model_copy(update={"data": data_resumed(evaluator, self.data, start)})

    def make_family(self) -> Family:
        """Construct the search space's family; where latency is bounded, its costs state it.

        Latency that the family does not know by itself is this machine's, from a `LatencyTable`.

        Raises:
            PluginError, JobError: no such plug-in, or it refuses its options.
        """
        family = cast(Family, _construct("spaces", "space", self.space, {}))
        if "latency_ms" not in self.budget or family.cost(family.default).latency_ms is not None:
            return family
        from .cache import cache_folder
        from .latency import LatencyTable, TimedFamily

        return TimedFamily(family, LatencyTable(cache_folder() / "latency.json"))

    def make_evaluation(self) -> Evaluation:
        """Construct the evaluation.

        Raises:
            PluginError, JobError: no such plug-in, it refuses its options, or it does not measure the objective, of
                which less is better where the job maximises it.
        """
        evaluation = cast(Evaluation, _construct("evaluators", "evaluator", self.evaluator, {"data": dict(self.data)}))
        stated = [name for name in COSTS if name != "latency_ms"]
        if "latency_ms" in self.budget:
            stated.append("latency_ms")  # measured where it is bounded, see `make_family`
        elif self.objective.metric == "latency_ms" and "latency_ms" not in evaluation.measures:
            raise JobError(
                "objective.metric is 'latency_ms', which is not measured: give the budget a window on latency_ms too."
            )
        evaluation.check_objective(self.make_objective(), stated)
        return evaluation

    def make_objective(self) -> Objective:
        """Metric and direction."""
        return Objective(self.objective.metric, self.objective.direction)

    def make_budget(self) -> Budget:
        """Windows on the cost.

        Raises:
            BudgetError: an unknown quantity or an empty window.
        """
        return Budget({name: Window(window.min, window.max) for name, window in self.budget.items()})


def begun_by(start: Mapping[str, Any]) -> str:
    """Version of nni-diffnas that wrote an ``experiment`` event; empty where it does not say."""
    return str(start.get("versions", {}).get("nni-diffnas", ""))


def data_resumed(evaluator: type[Evaluation], data: Mapping[str, Any], start: Mapping[str, Any]) -> dict[str, Any]:
    """A ``data`` section with the rules by which a search began, where the section says no other.

    Args:
        evaluator: reads the section.
        data: the section as it is written today.
        start: body of the search's ``experiment`` event; empty where it has not begun.
    """
    recorded = start.get("job", start).get("data", {})
    rules = evaluator.stated(recorded, begun_by(start))
    return {name: data.get(name, rules.get(name, value)) for name, value in evaluator.stated(data).items()}


def carried(evaluation: Evaluation, data: Mapping[str, Any], meant: Mapping[str, Any]) -> dict[str, Value]:
    """Settings by which a trial, which reads ``data`` again, learns what is ``meant``; see `take_up`.

    Args:
        evaluation: of the search, with the data that is meant.
        data: as a trial will find it written.
        meant: the same section with the search's rules.
    """
    known = type(evaluation).stated(data)
    named = {f"{DATA_PREFIX}{name}": value for name, value in meant.items() if value != known.get(name)}
    return {**named, FINGERPRINT: evaluation.fingerprint[:8]} if evaluation.fingerprint else named


def take_up(data: Mapping[str, Any], settings: dict[str, Value]) -> dict[str, Any]:
    """A ``data`` section with the fields that came among a trial's settings, which they leave."""
    came = {name: settings.pop(name) for name in list(settings) if name.startswith(DATA_PREFIX)}
    return {**data, **{name.removeprefix(DATA_PREFIX): value for name, value in came.items()}}


def check_carried(evaluation: Evaluation, settings: dict[str, Value]) -> None:
    """Fail a trial that finds other data than its search: its score could not be ranked with the others.

    Args:
        evaluation: prepared.
        settings: of the trial; what is checked leaves them.

    Raises:
        TrialFailure: as said.
    """
    wanted = str(settings.pop(FINGERPRINT, ""))
    if not evaluation.fingerprint.startswith(wanted):
        raise TrialFailure(
            f"The data is not what the search began with (here {next(iter(evaluation.describe_data()), 'unknown')}): "
            f"put it back as it was, or start a new experiment."
        )


def _construct(kind: Any, section: str, plugin: _Plugin, given: dict[str, Any]) -> Any:
    made = find_plugin(kind, plugin.type)
    try:
        return made(**given, **plugin.options)
    except DiffNASError:
        raise
    except TypeError as error:
        raise JobError(f"Section {section!r} of the job does not fit plug-in {plugin.type!r}: {error}.") from error


def refuse_secrets(content: Any, where: str) -> None:
    """Refuse anything that looks like a key: NNI shows such files and arguments in its web UI.

    Raises:
        JobError: a name or a value that looks like a secret; the message does not repeat the value.
    """
    known = environment_secrets()
    for at, value in walk(content):
        name = at.rsplit(".", 1)[-1]
        if isinstance(value, str) and (
            _SECRET_FIELD.search(name) or LOOKS_LIKE_A_KEY.search(value) or any(secret in value for secret in known)
        ):
            raise JobError(
                f"{where} holds what looks like a secret in {at!r}: NNI shows it to everyone, so put it into an "
                f"environment variable (OPENAI_API_KEY for language models) and remove it here."
            )


def data_source(images: str) -> str:
    """A data set's name, or the path of images from anywhere."""
    return images if images in NAMED_SOURCES else str(Path(os.path.expanduser(images)).resolve())


def refuse_missing(job: Job, *, trains: bool = True) -> None:
    """Refuse to go on with what a search has recorded where files are missing that it names by their full path.

    Args:
        job: of the search.
        trains: whether what the evaluator reads will be needed, too.

    Raises:
        JobError: as said; an experiment that was taken to another machine names them as they were on its own.
    """
    missing: dict[str, str] = {}
    with suppress(PluginError):
        missing |= missing_paths(find_plugin("spaces", job.space.type), job.space.options, "space")
    if trains:
        with suppress(PluginError):
            plugin = find_plugin("evaluators", job.evaluator.type)
            missing |= missing_paths(plugin, {"data": job.data})
            missing |= missing_paths(plugin, job.evaluator.options, "evaluator")
    for at, value in missing.items():
        raise JobError(
            f"{at} of the search is {value!r}, which is not on this machine: put it there, or a link to the place "
            f"where it is."
        )


def load_job(path: str | Path, *, evaluated: bool = True) -> Job:
    """Read and validate a job file; relative paths in it start at its folder.

    Args:
        path: of the file.
        evaluated: whether an evaluation will be made of the job, see `Job.located`.

    Raises:
        JobError: no such file, no YAML, an unknown or missing field, a wrong value, a secret.
    """
    path = Path(path)
    content = read_yaml(path, "Job file")
    if not isinstance(content, dict):
        raise JobError(f"Job file {str(path)!r} must hold fields such as 'space:' and 'data:', not {content!r}.")
    if not Job.model_fields.keys() & content.keys():
        raise JobError(
            f"Job file {str(path)!r} holds none of a job's fields ({', '.join(Job.model_fields)}): it is a file of "
            f"something else."
        )
    refuse_secrets(content, f"Job file {str(path)!r}")
    try:
        return Job.model_validate(content).located(path.resolve().parent, evaluated=evaluated)
    except ValidationError as error:
        # A misspelt field is missing, too: what is written there tells more than what is not.
        first = min(error.errors(), key=lambda each: each["type"] == "missing")
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Job.model_fields if len(first["loc"]) == 1 else ("min, max, metric, direction",))
            what = f"is unknown: use {known}"
        elif first["type"] == "missing":
            what = "is missing: add it"
        elif first["type"] == "model_type":
            what = f"cannot be {first['input']!r}: give its fields, as in {{type: unet}} or {{min: 1.0}}"
        else:
            said = first["msg"].removeprefix("Value error, ")
            what = f"cannot be {repr(first['input'])[:100]}: {said[:1].lower()}{said[1:]}"
        raise JobError(f"Job file {str(path)!r}: field {field!r} {what}.") from error
