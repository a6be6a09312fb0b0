"""`SearchMemory`: the crash-safe journal of all trials, shared by strategies and experiments, kept for the next one.

One SQLite file in WAL mode. What a call has returned from survives the death of every process (kill -9 included); a
power cut may cost the last moments, never the file. Only controlling processes open it (the driver or the tuner),
several experiments of one host may share it, and it belongs on a local disk: WAL does not work over a network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..api.errors import StrategyError
from ..api.space import Space
from ..api.trial import Status, Trial, ranked_together
from .file import may_write
from .journal import MemoryJournal, matching, understood, write_json

__all__ = ["SearchMemory"]


class SearchMemory(MemoryJournal):
    """All trials of one or several experiments, in order, with whatever else a search has to remember.

    Usable from several threads and processes at once; a context manager.
    """

    @classmethod
    @contextmanager
    def reading(cls, path: Path) -> Iterator[SearchMemory]:
        """Open a memory to read it only: one that cannot be written, as a copy, since SQLite has to write beside it.

        Raises:
            MemoryFileError: there is no memory, or it is foreign, damaged or too new.
        """
        if not path.is_file() or may_write(path):
            with cls(path, create=False) as memory:
                yield memory
            return
        with TemporaryDirectory(prefix="nni-diffnas-") as folder:
            copy = Path(folder) / path.name
            for suffix in ("", "-wal"):
                if (original := path.with_name(path.name + suffix)).exists():
                    shutil.copyfile(original, copy.with_name(copy.name + suffix))
            with cls(copy, create=False) as memory:
                yield memory

    def add(self, trial: Trial, space: Space) -> None:
        """Remember ``trial``; one with a known id is updated, and an unchanged one leaves no event.

        Raises:
            SpaceError: the architecture is not of ``space``.
            StrategyError: the id is taken by a trial of another experiment, space or architecture.
        """
        architecture_key = space.key_of(trial.architecture)
        body = trial.to_json()
        with self.transaction():
            if self._run("SELECT 1 FROM trials WHERE id = ?", [trial.id]):
                self._change(trial, body, space.key, architecture_key)
                return
            self._run("INSERT OR IGNORE INTO spaces VALUES (?, ?)", [space.key, write_json(space.to_json())])
            self._append("submitted", trial.experiment, body, trial.id)
            if trial.status != "pending":
                self._append(trial.status, trial.experiment, {}, trial.id)
            row = [trial.id, trial.experiment, space.key, architecture_key, trial.protocol, trial.status]
            self._run(
                "INSERT INTO trials (id, experiment, space_key, architecture_key, protocol, status, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [*row, write_json(body)],
            )

    def update(self, trial: Trial) -> None:
        """Replace what is known of a trial that was added before.

        Raises:
            StrategyError: the trial was never added, or its experiment or architecture has changed.
        """
        with self.transaction():
            self._change(trial, trial.to_json(), None, None)

    def _change(self, trial: Trial, body: dict[str, Any], space_key: str | None, architecture_key: str | None) -> None:
        rows = self._run("SELECT space_key, architecture_key, body FROM trials WHERE id = ?", [trial.id])
        if not rows:
            raise StrategyError(f"Trial {trial.id!r} is not in the memory: add it before updating it.")
        known_space, known_architecture, text = rows[0]
        old = self._trial(text)
        before = old.to_json()
        if write_json(before) == write_json(body):
            return
        moved = space_key is None and old.architecture != trial.architecture
        if space_key is not None:
            moved = (space_key, architecture_key) != (known_space, known_architecture)
        if moved or old.experiment != trial.experiment:
            raise StrategyError(
                f"Trial id {trial.id!r} is taken by another architecture or experiment ({old.experiment}): "
                f"give every trial of a memory its own id."
            )
        kind = "changed" if trial.status == old.status or trial.status == "pending" else trial.status
        changed = {name: value for name, value in body.items() if before[name] != value}
        self._append(kind, trial.experiment, changed, trial.id)
        self._run(
            "UPDATE trials SET protocol = ?, status = ?, body = ? WHERE id = ?",
            [trial.protocol, trial.status, write_json(body), trial.id],
        )

    def trials(
        self,
        experiment: str | None = None,
        space_key: str | None = None,
        status: Status | None = None,
        protocol: str | None = None,
    ) -> list[Trial]:
        """Trials that meet all given conditions, oldest first.

        Args:
            experiment: only those of one experiment.
            space_key: only those of one space (`Space.key`).
            status: only pending, succeeded or failed ones.
            protocol: only those scored under one protocol.
        """
        where, parameters = matching(experiment=experiment, space_key=space_key, status=status, protocol=protocol)
        rows = self._run(f"SELECT body FROM trials WHERE {where} ORDER BY number", parameters)
        return [self._trial(body) for (body,) in rows]

    def latest_alike(self, experiment: str | None = None) -> tuple[list[Trial], list[Trial]]:
        """Trials that can be ranked with the latest one, since they share its space and protocol; and all others.

        See `ranked_together`.

        Args:
            experiment: only trials of one experiment.
        """
        known = self.trials(experiment)
        if not known:
            return [], []
        ((space_key,),) = self._run("SELECT space_key FROM trials WHERE id = ?", [known[-1].id])
        alike = ranked_together(self.trials(experiment, space_key))
        ids = {trial.id for trial in alike}
        return alike, [trial for trial in known if trial.id not in ids]

    def find(self, space_key: str, architecture_key: str, protocol: str | None = None) -> list[Trial]:
        """Trials of one architecture (`Space.key_of`), oldest first."""
        where, parameters = matching(space_key=space_key, architecture_key=architecture_key, protocol=protocol)
        rows = self._run(f"SELECT body FROM trials WHERE {where} ORDER BY number", parameters)
        return [self._trial(body) for (body,) in rows]

    def spaces(self) -> dict[str, Space]:
        """The spaces of all trials, by their key."""
        rows = self._run("SELECT key, body FROM spaces")
        with understood(self.path):
            return {key: Space.from_json(json.loads(body)) for key, body in rows}

    def _trial(self, body: str) -> Trial:
        with understood(self.path):
            return Trial.from_json(json.loads(body))
