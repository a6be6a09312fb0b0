"""`Table`: all architectures of a small space with their measured metrics, read from an ``npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .api.cost import COSTS, Cost
from .api.errors import DataError
from .api.space import Architecture, Space, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Table", "cell_gains", "load_table"]

_CELL_OPS = {
    "none": "none",
    "skip_connect": "skip_connect",
    "nor_conv_1x1": "conv_1x1",
    "nor_conv_3x3": "conv_3x3",
    "avg_pool_3x3": "avg_pool_3x3",
}
"""Operations of NAS-Bench-201 cell strings, and their names in NNI's hub."""


@dataclass(frozen=True)
class Table:
    """Measured architectures of one space.

    Args:
        space: of the architectures.
        choices: ``N x L`` indices of values, columns in the order of the space's labels.
        metrics: names of the columns of ``values``.
        values: ``N x M``; not finite where nothing was measured.
        objective: metric that a search selects by.
        report: metric by which the selected architecture is judged.
        maximize: whether more of the objective is better.
        costs: ``macs``, ``params`` or ``latency_ms`` to ``N`` numbers, where the table states them.
        cuts: label to the values that let nothing through; see `nni_diffnas.api.family.Family.cuts`.
        gains: how much every value lets through, for each width; see `nni_diffnas.api.family.Family.gains`.
    """

    space: Space
    choices: NDArray[np.int64]
    metrics: tuple[str, ...]
    values: NDArray[np.float64]
    objective: str
    report: str
    maximize: bool = True
    costs: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    cuts: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    gains: tuple[Mapping[str, Mapping[Value, float]], ...] = ()

    @cached_property
    def _rows(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): i for i, row in enumerate(self.choices.tolist())}

    def row(self, architecture: Mapping[str, Value]) -> int | None:
        """Row of an architecture; ``None`` where the table lacks it.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        chosen = self.space.validate(architecture)
        return self._rows.get(tuple(self.space.index_of(label, value) for label, value in chosen.items()))

    def architecture(self, row: int) -> Architecture:
        """Architecture of a row."""
        values = list(self.space.choices.items())
        return {label: values_of[i] for (label, values_of), i in zip(values, self.choices[row].tolist(), strict=True)}

    def cost(self, architecture: Mapping[str, Value]) -> Cost:
        """What the table states of the cost; 0 MACs or parameters where it does not."""
        row = self.row(architecture)
        known = {} if row is None else {name: float(column[row]) for name, column in self.costs.items()}
        return Cost(round(known.get("macs", 0)), round(known.get("params", 0)), known.get("latency_ms"))

    def column(self, metric: str) -> NDArray[np.float64]:
        """All values of a metric."""
        return self.values[:, self.metrics.index(metric)]

    @property
    def best(self) -> int:
        """Row with the best objective among the measured ones."""
        column = self.column(self.objective)
        worst = -np.inf if self.maximize else np.inf
        column = np.where(np.isfinite(column), column, worst)
        return int(column.argmax() if self.maximize else column.argmin())


def load_table(path: str | Path, dataset: str | None = None) -> Table:
    """Read a table.

    Either ``labels`` [L], ``choices`` int [N, L], ``metrics`` [M], ``values`` float [N, M], and optionally
    ``objective`` and ``report`` (metric names), ``maximize`` (one flag, or one for each metric) and ``edges`` [E, 2]
    (indices of labels, or labels), where metrics named ``macs``, ``params`` and ``latency_ms`` are costs; or
    NAS-Bench-201 with ``arch`` (cell strings), ``datasets``, a column of each accuracy for each data set, ``mflops``,
    ``mparams`` and ``latency_ms``.

    Args:
        path: of the ``npz`` file.
        dataset: which one, where the file holds several; by default the first.

    Raises:
        DataError: no such file, a key that is missing or does not fit the others, an unknown data set.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"Table {str(path)!r} cannot be read as npz without pickles: {error}.") from error
    try:
        if "arch" not in content and dataset is not None:
            raise DataError(f"it holds one data set without a name, so leave out {dataset!r}")
        table = _nasbench201(content, dataset) if "arch" in content else _plain(content)
        for name, column in table.costs.items():
            if len(wrong := np.flatnonzero(~(np.isfinite(column) & (column >= 0)))):
                raise DataError(f"its {name} of row {wrong[0]} is {column[wrong[0]]:g}, and must be 0 or more")
        return table
    except KeyError as error:
        cells = "NAS-Bench-201's arch, datasets, accuracies, mflops, mparams and latency_ms"
        needed = cells if "arch" in content else "labels, choices, metrics and values"
        raise DataError(f"Table {str(path)!r} lacks {error}: it needs {needed}.") from error
    except (IndexError, TypeError, ValueError) as error:  # ours, which say what does not fit, and NumPy's
        raise DataError(f"Table {str(path)!r} cannot be used: {str(error).rstrip('.')}.") from error


def _plain(content: Mapping[str, Any]) -> Table:
    labels, metrics = [str(x) for x in content["labels"]], tuple(str(x) for x in content["metrics"])
    raw, values = np.asarray(content["choices"]), np.asarray(content["values"], dtype=np.float64)
    if raw.ndim != 2 or raw.shape[1] != len(labels) or not np.issubdtype(raw.dtype, np.integer) or not len(raw):
        raise DataError(f"choices is {raw.dtype} {raw.shape}, and must be whole numbers [N, {len(labels)}]")
    if values.shape != (len(raw), len(metrics)) or not metrics:
        raise DataError(f"values is {values.shape}, and must be [{len(raw)}, {len(metrics)}], rows x metrics")
    if len(np.unique(raw, axis=0)) < len(raw):
        raise DataError("it lists an architecture twice, so keep one row of each")
    names = {name: str(content[name]) if name in content else metrics[0] for name in ("objective", "report")}
    if "report" not in content:
        names["report"] = names["objective"]
    for name, metric in names.items():
        if metric not in metrics:
            raise DataError(f"its {name} is {metric!r}, which is not among its metrics {', '.join(metrics)}")
    flags = np.atleast_1d(np.asarray(content.get("maximize", True), dtype=bool))
    if len(flags) not in (1, len(metrics)):
        raise DataError(f"maximize has {len(flags)} flags, and must have one or {len(metrics)}")
    maximize = bool(flags[0] if len(flags) == 1 else flags[metrics.index(names["objective"])])
    edges = [(_label(a, labels), _label(b, labels)) for a, b in np.asarray(content.get("edges", [])).reshape(-1, 2)]
    order = _forward(labels, edges)
    columns = [labels.index(label) for label in order]
    offered = {label: tuple(np.unique(raw[:, column]).tolist()) for label, column in zip(order, columns, strict=True)}
    space = Space(offered, tuple(edges))
    indices = np.stack(
        [np.searchsorted(offered[label], raw[:, column]) for label, column in zip(order, columns, strict=True)], axis=1
    )
    costs: dict[str, NDArray[np.float64]] = {name: values[:, metrics.index(name)] for name in COSTS if name in metrics}
    return Table(space, indices, metrics, values, names["objective"], names["report"], maximize, costs)


def _label(given: Any, labels: list[str]) -> str:
    """Label of one end of an edge, given as an index or by name; an unknown one is the space's to refuse."""
    if isinstance(given, np.integer) and 0 <= given < len(labels):
        return labels[int(given)]
    return str(given)


def _forward(labels: list[str], edges: list[tuple[str, str]]) -> list[str]:
    """Labels in forward order, as they are listed where the edges leave it open."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(labels)
    graph.add_edges_from((a, b) for a, b in edges if a in labels and b in labels)
    try:
        return list(nx.lexicographical_topological_sort(graph, key=labels.index))
    except nx.NetworkXUnfeasible as error:
        raise DataError("its edges form a cycle, so turn one of them round") from error


def _nasbench201(content: Mapping[str, Any], dataset: str | None) -> Table:
    datasets = [str(x) for x in content["datasets"]]
    if dataset is not None and dataset not in datasets:
        raise DataError(f"it has no data set {dataset!r}, so choose one of {', '.join(datasets)}")
    column = 0 if dataset is None else datasets.index(dataset)
    cells = [_parse_cell(str(text)) for text in content["arch"]]
    labels = list(cells[0])
    nodes = {label: label.rsplit("/", 1)[-1].split("_") for label in labels}
    edges = tuple((a, b) for a in labels for b in labels if nodes[a][1] == nodes[b][0])
    operations = tuple(_CELL_OPS.values())
    space = Space(dict.fromkeys(labels, operations), edges)
    choices = np.array([[operations.index(cell[label]) for label in labels] for cell in cells], dtype=np.int64)
    metrics = ("valid_200", "test_200", "valid_12", "test_12")
    values = np.stack([np.asarray(content[name], dtype=np.float64)[:, column] for name in metrics], axis=1)
    costs = {
        "macs": np.asarray(content["mflops"], dtype=np.float64) * 1e6,
        "params": np.asarray(content["mparams"], dtype=np.float64) * 1e6,
        "latency_ms": np.asarray(content["latency_ms"], dtype=np.float64)[:, 0],
    }
    cuts: dict[str, tuple[Value, ...]] = dict.fromkeys(labels, ("none",))
    gains = cell_gains(labels, (16, 32, 64))
    return Table(space, choices, metrics, values, "valid_200", "test_200", True, costs, cuts, gains)


def cell_gains(labels: Sequence[str], widths: Sequence[int]) -> tuple[Mapping[str, Mapping[Value, float]], ...]:
    """What the operations of NAS-Bench-201 hand on, by NNI's names of them; see `nni_diffnas.api.family.Family.gains`.

    Weights that torch initialises lie uniformly within ``1 / sqrt(k^2 C)`` around 0 where a ``k x k`` convolution has
    C channels: the ``k^2 C`` absolute ones that a result reads sum to ``0.5 k sqrt(C)``.

    Args:
        labels: of the operations.
        widths: channels of the cells, one stack after the other.
    """
    by_width: list[dict[Value, float]] = [
        {
            "none": 0.0,
            "skip_connect": 1.0,
            "avg_pool_3x3": 1.0,
            "conv_1x1": 0.5 * width**0.5,
            "conv_3x3": 1.5 * width**0.5,
        }
        for width in widths
    ]
    return tuple(dict.fromkeys(labels, gains) for gains in by_width)


def _parse_cell(text: str) -> dict[str, str]:
    """``|op~0|+|op~0|op~1|+...`` to NNI's label ``cell/SOURCE_NODE`` and the name of the operation in NNI's hub."""
    cell = {}
    for node, inputs in enumerate(text.split("+"), start=1):
        for entry in inputs.strip("|").split("|"):
            operation, _, source = entry.partition("~")
            if operation not in _CELL_OPS:
                raise DataError(f"cell {text!r} has the unknown operation {operation!r}")
            cell[f"cell/{source}_{node}"] = _CELL_OPS[operation]
    return cell
