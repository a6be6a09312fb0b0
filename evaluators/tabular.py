"""`TabularEvaluation`: looks a network up in a table instead of training it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

import numpy as np

from nni_diffnas.api.errors import JobError, TrialFailure
from nni_diffnas.api.evaluation import Evaluation, TrialContext
from nni_diffnas.table import Table, load_table

if TYPE_CHECKING:
    import torch

__all__ = ["TabularEvaluation"]


class TableData(TypedDict):
    """The ``data`` section of a job over a table."""

    path: Path
    dataset: NotRequired[str | None]


class TabularEvaluation(Evaluation):
    """Reports all metrics of a table's row.

    Args:
        data: ``path`` of the ``npz`` file (see `nni_diffnas.table.load_table`) and perhaps ``dataset``.

    Raises:
        JobError: fields other than these.
    """

    def __init__(self, data: Annotated[Mapping[str, Any], TableData]) -> None:
        unknown = set(data) - TableData.__annotations__.keys()
        if unknown or "path" not in data:
            raise JobError(f"Section 'data' of a tabular job holds {sorted(data)}: give path, and perhaps dataset.")
        self.path, self.dataset = str(data["path"]), data.get("dataset")
        self._table: Table | None = None

    @property
    def table(self) -> Table:
        """The table, read when it is first used."""
        if self._table is None:
            self._table = load_table(self.path, self.dataset)
        return self._table

    @property
    def protocol(self) -> str:
        """The table and the data set."""
        return f"tabular/{Path(self.path).name}/{self.dataset or 'first data set'}"

    def prepare(self) -> None:
        """Read the table.

        Raises:
            DataError: it cannot be used.
        """
        _ = self.table

    def evaluate(self, model: torch.nn.Module, context: TrialContext) -> dict[str, float]:
        """All metrics of the row that are finite.

        Raises:
            TrialFailure: the table lacks the architecture, or its objective was not measured.
        """
        row = self.table.row(context.architecture)
        if row is None:
            raise TrialFailure(f"the table has no row for {context.architecture}: choose another architecture.")
        found = dict(zip(self.table.metrics, self.table.values[row].tolist(), strict=True))
        if not np.isfinite(found[self.table.objective]):
            raise TrialFailure(f"the table's {self.table.objective} is {found[self.table.objective]} in row {row}.")
        return {name: value for name, value in found.items() if np.isfinite(value)}
