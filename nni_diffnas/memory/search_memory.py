"""`SearchMemory`: the crash-safe journal of all trials, shared by strategies and experiments, kept for the next one.

One SQLite file in WAL mode. What a call has returned from survives the death of every process (kill -9 included); a
power cut may cost the last moments, never the file. Only controlling processes open it (the driver or the tuner),
several experiments of one host may share it, and it belongs on a local disk: WAL does not work over a network.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from ..api.errors import StrategyError
from ..api.space import Space
from ..api.trial import UNRANKED, Objective, Status, Trial, ranked_together
from .file import may_write
from .journal import Event, Journal, matching, understood, write_json

__all__ = ["Event", "ExperimentSummary", "SearchMemory"]


@dataclass(frozen=True)
class ExperimentSummary:
    """Counts of one experiment; ``started`` and ``changed`` are the wall-clock times of its first and last event."""

    experiment: str
    pending: int
    succeeded: int
    failed: int
    space_keys: tuple[str, ...]
    protocols: tuple[str, ...]
    started: float
    changed: float


def _ranked(trial: Trial) -> dict[str, float]:
    """The metrics of ``trial`` that can be ranked: finite numbers of a success that may be ranked."""
    if trial.status != "succeeded" or trial.metrics.get(UNRANKED):
        return {}
    return {
        name: float(value)
        for name, value in trial.metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


class SearchMemory(Journal):
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
            event = self._append("submitted", trial.experiment, body, trial.id)
            if trial.status != "pending":
                event = self._append(trial.status, trial.experiment, {}, trial.id)
            self._run(
                "INSERT INTO trials (id, experiment, space_key, architecture_key, protocol, status, finished, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *(trial.id, trial.experiment, space.key, architecture_key, trial.protocol, trial.status),
                    *(None if trial.status == "pending" else event, write_json(body)),
                ],
            )
            ((number,),) = self._run("SELECT number FROM trials WHERE id = ?", [trial.id])
            self._rank(trial, space.key, number)

    def update(self, trial: Trial) -> None:
        """Replace what is known of a trial that was added before.

        Raises:
            StrategyError: the trial was never added, or its experiment or architecture has changed.
        """
        with self.transaction():
            self._change(trial, trial.to_json(), None, None)

    def _change(self, trial: Trial, body: dict[str, Any], space_key: str | None, architecture_key: str | None) -> None:
        rows = self._run(
            "SELECT number, space_key, architecture_key, finished, body FROM trials WHERE id = ?", [trial.id]
        )
        if not rows:
            raise StrategyError(f"Trial {trial.id!r} is not in the memory: add it before updating it.")
        number, known_space, known_architecture, finished, text = rows[0]
        if text == write_json(body):
            return
        old = self._trial(text)
        moved = space_key is None and old.architecture != trial.architecture
        if space_key is not None:
            moved = (space_key, architecture_key) != (known_space, known_architecture)
        if moved or old.experiment != trial.experiment:
            raise StrategyError(
                f"Trial id {trial.id!r} is taken by another architecture or experiment ({old.experiment}): "
                f"give every trial of a memory its own id."
            )
        kind = "changed" if trial.status == old.status or trial.status == "pending" else trial.status
        before = old.to_json()
        changed = {name: value for name, value in body.items() if before[name] != value}
        event = self._append(kind, trial.experiment, changed, trial.id)
        if trial.status == "pending":
            finished = None
        elif trial.status != old.status:
            finished = event
        self._run(
            "UPDATE trials SET protocol = ?, status = ?, finished = ?, body = ? WHERE number = ?",
            [trial.protocol, trial.status, finished, write_json(body), number],
        )
        for metric, value in _ranked(old).items():
            board = self._board(metric, old, known_space)
            self._run("DELETE FROM scores WHERE board = ? AND value = ? AND number = ?", [board, value, number])
        self._rank(trial, known_space, number)

    def _rank(self, trial: Trial, space_key: str, number: int) -> None:
        for metric, value in _ranked(trial).items():
            self._run("INSERT INTO scores VALUES (?, ?, ?)", [self._board(metric, trial, space_key), value, number])

    def _board(self, metric: str, trial: Trial, space_key: str) -> int:
        """Id of the group of scores that are filtered together, created when first needed."""
        key = [metric, trial.protocol, space_key, trial.experiment]
        rows = self._run(
            "SELECT id FROM boards WHERE metric = ? AND protocol = ? AND space_key = ? AND experiment = ?", key
        )
        if not rows:
            rows = self._run(
                "INSERT INTO boards (metric, protocol, space_key, experiment) VALUES (?, ?, ?, ?) RETURNING id", key
            )
        return int(rows[0][0])

    def get(self, id: str) -> Trial | None:
        """The trial called ``id``, or ``None``."""
        rows = self._run("SELECT body FROM trials WHERE id = ?", [id])
        return self._trial(rows[0][0]) if rows else None

    def trials(
        self,
        experiment: str | None = None,
        space_key: str | None = None,
        status: Status | None = None,
        protocol: str | None = None,
        limit: int | None = None,
        order: Literal["submitted", "finished"] = "submitted",
    ) -> list[Trial]:
        """Trials that meet all given conditions, oldest first.

        Args:
            experiment: only those of one experiment.
            space_key: only those of one space (`Space.key`).
            status: only pending, succeeded or failed ones.
            protocol: only those scored under one protocol.
            limit: return only the latest so many, still oldest first.
            order: by submission, or the finished trials only, by their end.
        """
        where, parameters = matching(experiment=experiment, space_key=space_key, status=status, protocol=protocol)
        column, condition = ("number", "TRUE") if order == "submitted" else ("finished", "finished IS NOT NULL")
        rows = self._run(
            f"SELECT body FROM trials WHERE {where} AND {condition} ORDER BY {column} DESC LIMIT ?",
            [*parameters, -1 if limit is None else limit],
        )
        return [self._trial(body) for (body,) in reversed(rows)]

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

    def best(
        self,
        objective: Objective,
        count: int,
        space_key: str | None = None,
        experiment: str | None = None,
        protocol: str | None = None,
    ) -> list[Trial]:
        """The ``count`` best succeeded trials, best first, the older of two equals first.

        Raises:
            StrategyError: the trials were scored under several protocols, and none was chosen.
        """
        where, parameters = matching(
            metric=objective.metric, space_key=space_key, experiment=experiment, protocol=protocol
        )
        boards = self._run(
            f"SELECT id, protocol FROM boards WHERE {where} AND EXISTS (SELECT 1 FROM scores WHERE board = id)",
            parameters,
        )
        protocols = sorted({name for _, name in boards})
        if len(protocols) > 1:
            raise StrategyError(
                f"Scores of different protocols cannot be ranked together: choose one of {', '.join(protocols)}."
            )
        sign = 1 if objective.direction == "minimize" else -1
        direction = "ASC" if sign == 1 else "DESC"
        rows = [
            (sign * value, number)
            for board, _ in boards
            for value, number in self._run(
                f"SELECT value, number FROM scores WHERE board = ? ORDER BY value {direction}, number LIMIT ?",
                [board, count],
            )
        ]
        numbers = [number for _, number in sorted(rows)[:count]]
        bodies = [self._run("SELECT body FROM trials WHERE number = ?", [number])[0][0] for number in numbers]
        return [self._trial(body) for body in bodies]

    def spaces(self) -> dict[str, Space]:
        """The spaces of all trials, by their key."""
        rows = self._run("SELECT key, body FROM spaces")
        with understood(self.path):
            return {key: Space.from_json(json.loads(body)) for key, body in rows}

    def _trial(self, body: str) -> Trial:
        with understood(self.path):
            return Trial.from_json(json.loads(body))

    def experiments(self) -> list[ExperimentSummary]:
        """One summary for each experiment, in the order in which they started."""
        times = self._run(
            "SELECT experiment, min(time), max(time) FROM events GROUP BY experiment ORDER BY min(number)"
        )
        groups = self._run("SELECT experiment, status, space_key, protocol, count(*) FROM trials GROUP BY 1, 2, 3, 4")
        summaries = []
        for experiment, started, changed in times:
            own = [group[1:] for group in groups if group[0] == experiment]
            counts = {state: sum(n for status, _, _, n in own if status == state) for state in get_args(Status)}
            space_keys = tuple(sorted({space_key for _, space_key, _, _ in own}))
            protocols = tuple(sorted({protocol for _, _, protocol, _ in own}))
            summaries.append(
                ExperimentSummary(
                    experiment, **counts, space_keys=space_keys, protocols=protocols, started=started, changed=changed
                )
            )
        return summaries
