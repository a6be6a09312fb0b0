"""An NNI experiment as files and as a process: where its memory and trial outputs lie, what its manager was told."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from .errors import JobError
from .runner import RESULT_FILE, TRIAL_ID

__all__ = ["ExperimentFolder", "ManagerInfo", "TrialJobs", "find_experiment"]

NO_REASON = "the trial's process ended with an error before it could say why: see its stderr in the web UI"

_POINTER = "diffnas.json"


@dataclass(frozen=True)
class ExperimentFolder:
    """Folder ``<experimentWorkingDirectory>/<id>`` of one experiment."""

    path: Path

    @property
    def id(self) -> str:
        """NNI's experiment id."""
        return self.path.name

    @property
    def memory(self) -> Path:
        """The search memory that holds this experiment's trials.

        Raises:
            JobError: the folder holds no experiment of ours.
        """
        try:
            return Path(json.loads((self.path / _POINTER).read_text())["memory"])
        except (OSError, ValueError, KeyError) as error:
            raise JobError(
                f"{str(self.path)!r} holds no search of nni-diffnas ({_POINTER} is missing or damaged): "
                f"name an experiment id or its folder."
            ) from error

    def remember_memory(self, memory: Path) -> None:
        """Write down where the memory lies, so that `memory` finds it later."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / _POINTER).write_text(json.dumps({"memory": str(memory.resolve())}))

    def trial_output(self, job_id: str) -> Path | None:
        """Output folder of a trial; ``None`` where it is not on this machine."""
        folders = [*self.path.glob(f"environments/*/trials/{job_id}"), self.path / "trials" / job_id]
        return next((folder for folder in folders if job_id and folder.is_dir()), None)

    def trial_result(self, job_id: str) -> dict[str, Any]:
        """What the trial that really ran in a job wrote of itself; empty where that is not on this machine."""
        output = self.trial_output(job_id)
        try:
            content: dict[str, Any] = json.loads((output / RESULT_FILE).read_text()) if output else {}
        except (OSError, ValueError):
            return {}
        return content


def find_experiment(name: str) -> ExperimentFolder:
    """Find an experiment by its folder, or by its id in NNI's own list.

    Raises:
        JobError: neither a folder nor a known id.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ExperimentFolder(folder.resolve())
    from nni.tools.nnictl.config_utils import Experiments

    known: dict[str, dict[str, Any]] = Experiments().get_all_experiments()
    if name in known:
        return ExperimentFolder(Path(known[name]["logDir"]).resolve() / name)
    raise JobError(
        f"Experiment {name!r} is neither a folder nor an id that NNI knows: see 'nnictl experiment list --all'."
    )


@dataclass(frozen=True)
class TrialJobs:
    """Which job runs which of our trials.

    NNI 3.0 hands parameters to whichever job asks first, so that of two jobs started together each may run what NNI's
    records, its endings and its web UI ascribe to the other. Metrics carry the parameters that were really used; for
    everything else each trial writes its id into its output folder, and that counts.

    Args:
        folder: of the experiment.
        jobs: NNI's records (``nni.experiment.TrialJob``).
    """

    folder: ExperimentFolder
    jobs: Sequence[Any]

    @staticmethod
    def _recorded(job: Any) -> str:
        """Id that NNI ascribes to a job; empty where the job is not ours."""
        for given in job.hyperParameters or ():
            parameters = getattr(given, "parameters", None)
            sample = parameters if isinstance(parameters, dict) else getattr(parameters, "sample", None)
            if isinstance(sample, dict) and TRIAL_ID in sample:
                return str(sample[TRIAL_ID])
        return ""

    def to_run_again(self) -> set[str]:
        """Ids of the trials that NNI runs again after a resume: it goes by its own records."""
        return {self._recorded(job) for job in self.jobs if job.status in ("WAITING", "RUNNING")}

    def ended(self) -> dict[str, str]:
        """Ids of the trials whose process has ended, with the reason of the failure; empty for a success."""
        results = [(job, self.folder.trial_result(str(job.trialJobId))) for job in self.jobs]
        claimed = {str(result["trial"]) for _, result in results if result.get("trial")}
        found: dict[str, str] = {}
        for job, result in results:
            if job.status in ("WAITING", "RUNNING", "UNKNOWN"):
                continue
            trial_id = str(result.get("trial") or self._recorded(job))
            if result.get("trial") or trial_id not in claimed:
                failure = str(result.get("failure") or NO_REASON)
                found[trial_id] = "" if job.status == "SUCCEEDED" else failure
        return found


@dataclass(frozen=True)
class ManagerInfo:
    """What NNI's manager told the process that hosts the tuner.

    Args:
        folder: of the experiment.
        code_directory: the trials' working directory; relative paths in ``classArgs`` start there.
        max_trials: of the config; ``None`` when unlimited.
        concurrency: trials at once.
        channel: web-socket address on which the manager hears its tuner; ``None`` outside NNI.
        resumed: the experiment was started before.
    """

    folder: ExperimentFolder
    code_directory: Path
    max_trials: int | None
    concurrency: int
    channel: str | None
    resumed: bool

    @classmethod
    def read(cls, argv: Sequence[str] | None = None) -> ManagerInfo:
        """Read the command line and environment with which NNI starts its dispatcher."""
        arguments = list(sys.argv if argv is None else argv)
        config: dict[str, Any] = {}
        if "--exp_params" in arguments:
            config = json.loads(base64.b64decode(arguments[arguments.index("--exp_params") + 1]))
        log = Path(os.environ.get("NNI_LOG_DIRECTORY") or "nni-diffnas-experiment/log").resolve()
        return cls(
            folder=ExperimentFolder(log.parent),
            code_directory=Path(config.get("trialCodeDirectory") or ".").resolve(),
            max_trials=config.get("maxTrialNumber"),
            concurrency=int(config.get("trialConcurrency") or 1),
            channel=os.environ.get("NNI_TUNER_COMMAND_CHANNEL"),
            resumed=os.environ.get("NNI_MODE") == "resume",
        )

    def end_after(self, trials: int) -> None:
        """Tell the manager that the experiment is done once ``trials`` trials have ended."""
        if self.channel is not None:
            from nni.experiment import Experiment

            Experiment.connect(urlparse(self.channel).port).update_max_trial_number(trials)

    def jobs(self) -> TrialJobs:
        """All trial jobs that the manager has ever started."""
        if self.channel is None:
            return TrialJobs(self.folder, ())
        from nni.experiment import Experiment

        return TrialJobs(self.folder, Experiment.connect(urlparse(self.channel).port).list_trial_jobs())

    def fail(self, message: str) -> None:
        """Put the experiment into NNI's status ERROR; without this it would wait for its tuner for ever."""
        if self.channel is not None:
            from nni.runtime.tuner_command_channel import TunerCommandChannel
            from nni.runtime.tuner_command_channel.command_type import CommandType

            second = TunerCommandChannel(self.channel)
            second.connect()
            second._send(CommandType.Error, message)
