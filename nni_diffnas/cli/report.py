"""``nni-diffnas report``: a search as one page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .arguments import write_file

__all__ = ["report"]


def report(
    experiment: Annotated[str, typer.Argument(help="Experiment id, its folder, or a search-memory file.")],
    output: Annotated[Path, typer.Option(help="HTML file that is written.")] = Path("report.html"),
    against: Annotated[str | None, typer.Option(help="Random search to compare with, named likewise.")] = None,
    job: Annotated[Path | None, typer.Option(help="Job file, for a memory that does not say its objective.")] = None,
) -> None:
    """Write one self-contained page: best architecture, samples, curves, costs, origins, how to do it again."""
    from ..report import read_source, render_report

    source = read_source(experiment, job)
    page = render_report(source, read_source(against, job) if against else None)
    write_file(output, page)
    if source.data_changed:
        print(f"{source.data_changed}: all scores are of what it was then.", file=sys.stderr)
    print(output)
