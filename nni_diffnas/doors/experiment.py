"""An NNI experiment as a process: which job runs which trial, and what its manager was told."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..api.ending import Ending
from ..api.errors import DiffNASError
from ..memory.experiment_folder import ExperimentFolder
from ..trial.parameters import TRIAL_ID
from ..trial.result_file import failure_in
from .gpus import GpuRequest

__all__ = ["ManagerInfo", "TrialJobs"]

_RESUMED = "ADD_RESUMED"
_TO_RUN_AGAIN = ("WAITING", "RUNNING", _RESUMED)
"""A resumed manager lists a job that it is going to run again by its latest event, for a second or two."""

_ENDINGS = {"USER_CANCELED": Ending.KILLED, "SYS_CANCELED": Ending.KILLED, "EARLY_STOPPED": Ending.STOPPED}
"""By NNI's status of a job, for trials that could not say themselves."""


@dataclass(frozen=True)
class TrialJobs:
    """Which job runs which of our trials.

    NNI 3.0 hands parameters to whichever job asks first, so that of two jobs started together each may run what NNI's
    records, its endings and its web UI ascribe to the other. Metrics carry the parameters that were really used; for
    everything else each trial writes its id into its output folder, and that counts.

    Args:
        folder: of the experiment.
        jobs: NNI's records (``nni.experiment.TrialJob``).
        since: when the manager that lists them was started, in seconds since the epoch.
    """

    folder: ExperimentFolder
    jobs: Sequence[Any]
    since: float = 0.0

    @cached_property
    def _live(self) -> list[Any]:
        """The jobs without those that NNI has forgotten.

        A manager that is killed after it has taken up a job and before it has run it leaves the job to nobody: the next
        one takes up only what was running or waiting. Only NNI's database tells whose a job in this state is.
        """
        database = self.folder.path / "db" / "nni.sqlite"
        if not any(job.status == _RESUMED for job in self.jobs) or not database.is_file():
            return list(self.jobs)
        question = "SELECT trialJobId, MAX(timestamp) FROM TrialJobEvent WHERE event = ? GROUP BY trialJobId"
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as records:
            taken_up = dict(records.execute(question, (_RESUMED,)))  # in milliseconds
        earlier = {job for job, at in taken_up.items() if at < 1000.0 * self.since}
        return [job for job in self.jobs if job.status != _RESUMED or job.trialJobId not in earlier]

    @staticmethod
    def _recorded(job: Any) -> str:
        """Id that NNI ascribes to a job; empty where the job is not ours."""
        for given in job.hyperParameters or ():
            parameters = given.parameters if isinstance(given.parameters, dict) else {}
            sample = parameters.get("sample", parameters)  # behind the NAS door parameters are a whole model
            if TRIAL_ID in sample:
                return str(sample[TRIAL_ID])
        return ""

    @property
    def highest_number(self) -> int:
        """Highest parameter id that NNI has used; -1 where it has not used any."""
        return max((given.parameter_id for job in self.jobs for given in job.hyperParameters or ()), default=-1)

    def to_run_again(self) -> set[str]:
        """Ids of the trials that NNI runs again after a resume: it goes by its own records."""
        return {self._recorded(job) for job in self._live if job.status in _TO_RUN_AGAIN}

    def results(self) -> dict[str, tuple[str, Any]]:
        """Job id and final metrics of every trial that has reported them to NNI, or died between result and report.

        A report carries the number of the parameters that were really used; after a resume a job may have several.
        """
        owners = {given.parameter_id: self._recorded(job) for job in self.jobs for given in job.hyperParameters or ()}
        found: dict[str, tuple[str, Any]] = {}
        for job in self.jobs:
            written = self.folder.trial_result(str(job.trialJobId))
            if "metrics" in written:
                found.setdefault(str(written.get("trial")), (str(job.trialJobId), written["metrics"]))
            for metric in job.finalMetricData or ():
                trial_id = owners.get(int(metric.parameterId)) or self._recorded(job)
                found.setdefault(trial_id, (str(job.trialJobId), metric.data))
        return found

    def ended(self) -> dict[str, str | Ending]:
        """Ids of the trials whose process has ended, with the reason of the failure; empty for a success.

        A trial that another job is running again has not ended.
        """
        results = [(job, self.folder.trial_result(str(job.trialJobId))) for job in self._live]
        claimed = {str(result["trial"]) for _, result in results if result.get("trial")}
        running = {str(result["trial"]) for job, result in results if _runs(job) and result.get("trial")}
        found: dict[str, str | Ending] = {}
        for job, result in results:
            if _runs(job) or str(result.get("trial")) in running:
                continue
            trial_id = str(result.get("trial") or self._recorded(job))
            if result.get("trial") or trial_id not in claimed:
                failure = failure_in(result) or _ENDINGS.get(job.status, Ending.CRASHED)
                found[trial_id] = "" if job.status == "SUCCEEDED" else failure
        return found


def _runs(job: Any) -> bool:
    return job.status in (*_TO_RUN_AGAIN, "UNKNOWN")


def _end_after(manager: Any) -> None:
    while manager.is_running() and manager.status() != "zombie":
        time.sleep(0.5)
    print("nni-diffnas: NNI's manager is gone: go on with 'nnictl resume'.", file=sys.stderr, flush=True)
    os._exit(1)


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
        assessed: an assessor or ``maxTrialDuration`` may stop trials; NNI calls these killed, like any others.
        gpus: what the config asks of this machine's GPUs; ``None`` where the trials run elsewhere.
    """

    folder: ExperimentFolder
    code_directory: Path
    max_trials: int | None
    concurrency: int
    channel: str | None
    resumed: bool
    assessed: bool = False
    gpus: GpuRequest | None = None

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
            assessed=bool(config.get("assessor") or config.get("maxTrialDuration")),
            gpus=GpuRequest.of(config),
        )

    def end_after(self, trials: int) -> None:
        """Tell the manager that the experiment is done once ``trials`` trials have ended."""
        if self.channel is not None:
            from nni.experiment import Experiment

            Experiment.connect(urlparse(self.channel).port).update_max_trial_number(trials)

    def refreshed(self) -> ManagerInfo:
        """The same with the limit and the concurrency of this moment: the user may have changed them."""
        if self.channel is None:
            return self
        from nni.experiment import Experiment

        params = Experiment.connect(urlparse(self.channel).port).get_experiment_profile()["params"]
        return replace(self, max_trials=params.get("maxTrialNumber"), concurrency=int(params["trialConcurrency"]))

    def end_with_manager(self) -> None:
        """End this process soon after NNI's manager has died.

        Left alone, the dispatcher would try to connect again for ten seconds, and reach the manager of a resumed
        experiment: two tuners on one search.
        """
        if (manager := self._process) is not None:
            threading.Thread(target=_end_after, args=(manager,), daemon=True).start()

    @property
    def _process(self) -> Any:
        """NNI's manager, which has started this process, as psutil has it; ``None`` outside NNI."""
        import psutil

        parents = psutil.Process().parents() if self.channel is not None else []
        return next((process for process in parents if process.name().startswith("node")), None)

    def jobs(self) -> TrialJobs:
        """All trial jobs that the manager has ever started."""
        if self.channel is None:
            return TrialJobs(self.folder, ())
        from nni.experiment import Experiment

        listed, manager = Experiment.connect(urlparse(self.channel).port).list_trial_jobs(), self._process
        return TrialJobs(self.folder, listed, 0.0 if manager is None else manager.create_time())

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Tell manager and user of an error: NNI's dispatcher ends without a word, and the manager waits for ever."""
        try:
            yield
        except Exception as error:
            reason = str(error) if isinstance(error, DiffNASError) else f"{type(error).__name__}: {error}"
            print(f"nni-diffnas: {reason}", file=sys.stderr, flush=True)
            self.fail(reason)
            raise

    def fail(self, message: str) -> None:
        """Put the experiment into NNI's status ERROR; without this it would wait for its tuner for ever."""
        if self.channel is not None:
            from nni.runtime.tuner_command_channel import TunerCommandChannel
            from nni.runtime.tuner_command_channel.command_type import CommandType

            second = TunerCommandChannel(self.channel)
            second.connect()
            second._send(CommandType.Error, message)
