"""The notebook runs top to bottom, in a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "notebook" / "digits.ipynb"


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = "".join(o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", ()))
    assert "best architecture" in outputs
    kinds = {kind for cell in notebook.cells for o in cell.get("outputs", ()) for kind in o.get("data", ())}
    assert {"text/html", "image/png"} <= kinds


def test_the_notebook_ships_without_outputs() -> None:
    text = NOTEBOOK.read_text()
    assert '"outputs": []' in text
    assert "image/png" not in text
