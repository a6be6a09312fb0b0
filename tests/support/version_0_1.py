"""Experiments that nni-diffnas 0.1 recorded, unpacked where a test may go on with them.

What NNI and the memory say of places is rewritten: everything was recorded below `PLACE`. So is the name of the
features by which trials were scored: their network is trained where it is needed and named by its weights, whose last
bits depend on the processor.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tarfile
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nni_experiment import environment_of

from nni_diffnas.evaluators.diffusion import RULES_OF_0_1, DiffusionEvaluation

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "version_0_1"
PLACE = "/tmp/diffnas-v0.1"
FEATURES = "labels-9b2d05b5"
_PYTHON = f"{PLACE}/venv/bin/python"
_BINARY = (".safetensors", ".png", ".torch")


@dataclass(frozen=True)
class Recorded:
    """The working directory of one recording, and of its user: NNI's list of experiments lies there too."""

    folder: Path

    @property
    def experiment(self) -> Path:
        """Folder of its only NNI experiment."""
        (found,) = (path for path in (self.folder / "exp").iterdir() if path.name != "_latest")
        return found

    @property
    def id(self) -> str:
        """NNI's id of the experiment."""
        return self.experiment.name

    @property
    def memory(self) -> Path:
        """The search memory."""
        beside = self.folder / "memory.sqlite"
        return beside if beside.exists() else self.experiment / "memory.sqlite"

    @property
    def environment(self) -> dict[str, str]:
        """Of commands: NNI finds its list of experiments and its registered tuners in the folder."""
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return {**environment_of(self.folder), "HOME": str(self.folder), "XDG_CACHE_HOME": cache}

    def rows(self) -> list[dict[str, Any]]:
        """The trials as they are written in the memory, read without nni-diffnas."""
        with closing(sqlite3.connect(self.memory)) as memory:
            return [json.loads(body) for (body,) in memory.execute("SELECT body FROM trials ORDER BY number")]


@cache
def features_here() -> str:
    """Name of the features that this machine makes for the recordings."""
    return DiffusionEvaluation({"source": "digits", **RULES_OF_0_1}).scoring.extractor.name


def unpack(name: str, folder: Path) -> Recorded:
    """Unpack a recording into a folder and move it there in its own words.

    Args:
        name: of an archive, without its ending.
        folder: empty, or not there yet.
    """
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    places = {_PYTHON: sys.executable, f"{PLACE}/{name}": str(folder), FEATURES: features_here()}
    for file in folder.rglob("*"):
        if file.suffix == ".sqlite":
            _rewrite_rows(file, places)
        elif file.is_file() and file.suffix not in _BINARY:
            stat, text = file.stat(), file.read_text()
            for recorded, here in places.items():
                text = text.replace(recorded, here)
            file.write_text(text)
            os.utime(file, (stat.st_atime, stat.st_mtime))
    return Recorded(folder)


def _rewrite_rows(file: Path, places: dict[str, str]) -> None:
    """Rewrite all text in a SQLite file; a path in a BLOB would be left, and there is none."""
    with closing(sqlite3.connect(file)) as rows:
        tables = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE TABLE%'")]
        for table in tables:
            for _, column, *_ in rows.execute(f"PRAGMA table_info({table})").fetchall():
                for recorded, here in places.items():
                    rows.execute(
                        f"UPDATE {table} SET {column} = replace({column}, ?, ?) "
                        f"WHERE typeof({column}) = 'text' AND instr({column}, ?)",
                        [recorded, here, recorded],
                    )
        rows.commit()
