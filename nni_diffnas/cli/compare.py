"""``nni-diffnas compare``: searches side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .arguments import write_file

__all__ = ["compare"]


def compare(
    experiments: Annotated[list[str], typer.Argument(help="Experiment ids, folders or search-memory files.")],
    output: Annotated[Path, typer.Option(help="HTML file that is written.")] = Path("compare.html"),
    job: Annotated[Path | None, typer.Option(help="Job file, for memories that do not say their objective.")] = None,
) -> None:
    """Set searches side by side; those that differ in their seed only are one arm with a confidence band."""
    from ..report import compare as side_by_side
    from ..report import read_source

    comparison = side_by_side([read_source(name, job) for name in experiments])
    print(comparison.describe())
    write_file(output, comparison.render())
    print(output)
