"""An experiment's folder: where its search memory and the outputs of its trials lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..api.errors import JobError
from ..files.whole_file import written_whole
from ..trial.result_file import RESULT_FILE, TrialRecord

__all__ = ["MEMORY_FILE", "ExperimentFolder", "find_experiment"]

MEMORY_FILE = "memory.sqlite"
"""Name of the search memory in an experiment's folder."""

_POINTER = "diffnas.json"

_PLACES = ("environments/*/trials", "trials")
"""Where output folders of jobs lie: NNI's, and those of a search without NNI."""


@dataclass(frozen=True)
class ExperimentFolder:
    """Folder ``<experimentWorkingDirectory>/<id>`` of one experiment."""

    path: Path

    @property
    def id(self) -> str:
        """NNI's experiment id: the folder's name, whatever it was copied to."""
        pointer = self._pointer
        if "experiment" in pointer:
            return str(pointer["experiment"])
        # Version 0.1 wrote down the memory alone, by its full path, as a rule in the folder of that name.
        place = PurePath(str(pointer.get("memory", "")))
        moved = place.parent.name and place.parent != self.path.resolve() and (self.path / place.name).is_file()
        return place.parent.name if moved else self.path.name

    @property
    def memory(self) -> Path:
        """The search memory that holds this experiment's trials: the one in the folder, where it was kept there.

        Raises:
            JobError: the folder holds no experiment of ours, or its memory was kept elsewhere and is not there.
        """
        lone = {"memory": MEMORY_FILE} if (self.path / MEMORY_FILE).is_file() else {}  # of a copy that is not whole
        try:
            named = Path((self._pointer or lone)["memory"])
        except (KeyError, TypeError) as error:
            raise JobError(
                f"{str(self.path)!r} holds no search of nni-diffnas ({_POINTER} is missing or damaged): "
                f"name an experiment id or its folder."
            ) from error
        here = self.path / named.name
        found = here if here.is_file() else self.path / named
        if not found.is_file() or not (named.is_absolute() or self.owns(found)):
            raise JobError(
                f"The search memory of experiment {self.id} was kept at {named}, which is not there: copy it to {here}."
            )
        return found

    @property
    def _pointer(self) -> dict[str, Any]:
        try:
            content = json.loads((self.path / _POINTER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def remember_memory(self, memory: Path) -> None:
        """Write down where the memory lies, and whose it is, so that both are found from a copy of the folder too."""
        self.path.mkdir(parents=True, exist_ok=True)
        place, home = memory.resolve(), self.path.resolve()
        where = place.relative_to(home) if place.is_relative_to(home) else place
        text = json.dumps({"memory": str(where), "experiment": self.id})
        with written_whole(self.path / _POINTER) as draft:
            draft.write_text(text, encoding="utf-8")

    def job_output(self, job_id: str) -> Path | None:
        """Output folder of a job, see `TrialJobs`; ``None`` where it is not on this machine."""
        if not job_id.isalnum():  # a memory may come from elsewhere, and name other folders
            return None
        found = (folder for place in _PLACES for folder in self.path.glob(f"{place}/{job_id}"))
        return next((folder for folder in found if self.owns(folder)), None)

    def owns(self, path: Path) -> bool:
        """Whether a file or folder lies in this one: what a link or a name with ``..`` leads to elsewhere does not.

        The folder may be a stranger's, and what is read here ends up in reports and pipelines that are passed on.
        """
        return path.resolve().is_relative_to(self.path.resolve())

    def trial_result(self, job_id: str) -> dict[str, Any]:
        """What the trial that really ran in a job wrote of itself; empty where that is not on this machine."""
        output = self.job_output(job_id)
        file = None if output is None else output / RESULT_FILE
        return TrialRecord.read(file) if file is not None and self.owns(file) else {}

    def output(self, trial_id: str) -> Path | None:
        """Output folder of a trial, the one with its result where it ran twice; ``None`` where none is here."""
        records = sorted(self.records(trial_id), key=lambda record: "metrics" not in record[1])
        return records[0][0] if records else None

    def records(self, trial_id: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Output folders on this machine in which a trial ran, with what it wrote there."""
        for file in (file for place in _PLACES for file in self.path.glob(f"{place}/*/{RESULT_FILE}")):
            result = TrialRecord.read(file) if self.owns(file) else {}
            if result.get("trial") == trial_id:
                yield file.parent, result


def find_experiment(name: str) -> ExperimentFolder:
    """Find an experiment by its folder, or by its id in NNI's own list.

    Raises:
        JobError: neither a folder nor a known id.
    """
    folder = Path(os.path.expanduser(name))
    if os.path.isdir(folder):
        return ExperimentFolder(folder.resolve())
    from nni.tools.nnictl.config_utils import Experiments

    try:
        known: dict[str, dict[str, Any]] = Experiments().get_all_experiments()
    except OSError as error:
        raise JobError(
            f"{name!r} is no folder, and NNI's list of experiments cannot be read ({error}): name its folder, or set "
            f"HOME."
        ) from error
    if name in known:
        return ExperimentFolder(Path(known[name]["logDir"]).resolve() / name)
    raise JobError(
        f"Experiment {name[:200]!r} is neither a folder nor an id that NNI knows: see 'nnictl experiment list --all'."
    )
