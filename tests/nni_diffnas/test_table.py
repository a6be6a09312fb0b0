"""Tables: reading, refusing, looking up; the NAS-Bench-201 reader against known facts."""

from pathlib import Path

import numpy as np
import pytest

from nni_diffnas.api.errors import DataError, JobError, TrialFailure
from nni_diffnas.api.evaluation import TrialContext
from nni_diffnas.evaluators import TabularEvaluation
from nni_diffnas.search_spaces import NASBench201Family, TableFamily
from nni_diffnas.table import load_table

NASBENCH = Path(__file__).parents[2].parent / "shared" / "data" / "nasbench201.npz"

PLAIN = {
    "labels": ["p", "q"],
    "choices": np.array([[0, 3], [1, 3], [1, 5]]),
    "metrics": ["loss", "accuracy"],
    "values": np.array([[1.0, 10.0], [0.5, 20.0], [np.nan, 30.0]]),
}


def write(folder: Path, **changes) -> str:
    content = {name: value for name, value in {**PLAIN, **changes}.items() if value is not None}
    np.savez(folder / "table.npz", **content)
    return str(folder / "table.npz")


def test_plain_table(tmp_path: Path) -> None:
    path = write(tmp_path, objective="loss", report="accuracy", maximize=False, edges=[[1, 0]])
    family = TableFamily(path)
    assert family.space.labels == ("q", "p")
    assert family.space.edges == (("q", "p"),)
    assert family.table.best == 1
    assert family.table.architecture(2) == {"q": 5, "p": 1}
    evaluation = TabularEvaluation({"path": path})
    look = lambda a: evaluation.evaluate(family.build(a), TrialContext(a, tmp_path))  # noqa: E731
    assert look({"q": 3, "p": 1}) == {"loss": 0.5, "accuracy": 20.0}
    with pytest.raises(TrialFailure, match="no row"):
        look({"q": 5, "p": 0})
    with pytest.raises(TrialFailure, match="loss is nan"):
        look({"q": 5, "p": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": None}, "lacks 'values'"),
        ({"values": np.zeros((2, 2))}, r"must be \[3, 2\]"),
        ({"choices": np.zeros((3, 2))}, "whole numbers"),
        ({"choices": np.zeros((3, 2), dtype=int)}, "twice"),
        ({"objective": "speed"}, "'speed'"),
        ({"edges": [[0, 1], [1, 0]]}, "cycle"),
        ({"edges": [[0, 7]]}, "unknown label"),
        ({"edges": [0, 1, 1]}, "cannot be used: cannot reshape"),
        ({"values": [["a", "b"]] * 3}, "cannot be used: could not convert"),
        ({"labels": "p"}, "cannot be used: iteration"),
        ({"metrics": ["loss", "macs"], "values": [[1, 2], [1, np.nan], [1, 2]]}, "its macs of row 1 is nan"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tmp_path: Path, changes, message) -> None:
    with pytest.raises(DataError, match=message):
        load_table(write(tmp_path, **changes))


def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = Path(write(tmp_path)).read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bytes.npz").write_bytes(whole.replace(b"NUMPY", b"MUMPY"))
    for name in ("array.npy", "empty.npz", "cut.npz", "bytes.npz"):
        with pytest.raises(DataError, match="cannot be read as npz"):
            load_table(tmp_path / name)


def test_missing_file_and_unknown_fields() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_table("nowhere.npz")
    with pytest.raises(JobError, match="give path"):
        TabularEvaluation({"file": "table.npz"})


@pytest.mark.skipif(not NASBENCH.exists(), reason="needs shared/data/nasbench201.npz")
def test_nasbench201_facts() -> None:
    ten, hundred = load_table(NASBENCH, "cifar10"), load_table(NASBENCH, "cifar100")
    assert ten.best == 6111
    assert hundred.best == 9930
    assert ten.column("test_200")[6111] == pytest.approx(94.37, abs=0.01)
    assert hundred.column("test_200")[9930] == pytest.approx(73.51, abs=0.01)
    family = NASBench201Family()
    assert family.space.key == ten.space.key
    for row in (0, 6111, 9930, 15624):
        architecture = ten.architecture(row)
        assert ten.row(architecture) == row
        ours, stated = family.cost(architecture), ten.cost(architecture)
        assert ours.params == stated.params
        assert ours.macs == pytest.approx(stated.macs, rel=1e-5)
    with pytest.raises(DataError, match="no data set 'mnist'"):
        load_table(NASBENCH, "mnist")
