"""Brings a trial's output folder (weights, samples, logs) back from a machine of NNI's remote training service.

NNI sends code and parameters there and brings metrics back, and nothing else: outputs stay where the trial ran. They
are fetched one at a time, when somebody wants them, with the same ssh keys.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.errors import JobError
from ..memory.experiment_folder import ExperimentFolder

__all__ = ["fetch_output", "machines_of"]

_REMOTE = "/tmp/nni-experiments/{experiment}/trials/{job}/nnioutput"
"""Where NNI 3.0 lets a trial write on another machine."""


def machines_of(folder: ExperimentFolder) -> list[Mapping[str, Any]]:
    """``machineList`` of an experiment, running or finished; empty where it does not use the remote service."""
    from nni.experiment.launcher import get_stopped_experiment_config_json

    try:
        config: Any = get_stopped_experiment_config_json(folder.id, str(folder.path.parent)) or {}
    except Exception:  # NNI raises what its database raises, for a folder that holds none
        return []
    services = config.get("trainingService") or []
    services = services if isinstance(services, list) else [services]
    return [machine for service in services for machine in service.get("machineList") or ()]


def _started_here(folder: ExperimentFolder) -> bool:
    """Whether NNI has an experiment of this user in this folder: the machines are then those that he has named."""
    from nni.tools.nnictl.config_utils import Experiments

    known = Experiments().get_all_experiments().get(folder.id, {})
    return "logDir" in known and Path(known["logDir"], folder.id).resolve() == folder.path.resolve()


def fetch_output(folder: ExperimentFolder, job_id: str) -> Path | None:
    """Copy a job's output folder here, where `ExperimentFolder.output` finds it; ``None`` where none has it.

    Raises:
        JobError: the machines can only be reached with a password, there is no ``scp``, or the experiment is not one of
            this user's.
    """
    if not job_id.isalnum():
        return None
    machines = machines_of(folder)
    keyed = [machine for machine in machines if machine.get("sshKeyFile")]
    if machines and not keyed:
        raise JobError("The remote machines are reached by password: give them sshKeyFile, or copy the output by hand.")
    if machines and not _started_here(folder):
        raise JobError(
            f"The output of job {job_id} is on another machine, and NNI does not know experiment {folder.id} at this "
            f"place: copy the output by hand, since a folder that came from elsewhere may name any machine."
        )
    if keyed and shutil.which("scp") is None:
        raise JobError("There is no scp on this machine: install the OpenSSH client to fetch weights.")
    target = folder.path / "environments" / "fetched" / "trials" / job_id
    for machine in keyed:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as draft:
            if _copy(machine, _REMOTE.format(experiment=folder.id, job=job_id), Path(draft) / "output"):
                (Path(draft) / "output").rename(target)
                return target
    return None


def _copy(machine: Mapping[str, Any], source: str, to: Path) -> bool:
    port, key = str(machine.get("port") or 22), os.path.expanduser(str(machine["sshKeyFile"]))
    # NNI itself does not look at host keys; a new one is accepted, a changed one is not.
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=10"]
    where = f"{machine['user']}@{machine['host']}:{source}"
    command = ["scp", "-q", "-r", "-P", port, "-i", key, *options, "--", where, str(to)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
