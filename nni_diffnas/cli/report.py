"""``nni-diffnas report``: a search as one page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
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
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page to this machine's browser, always of this moment; no file.")
    ] = False,
    port: Annotated[int, typer.Option("--port", "-p", help="Of the page that is served.", min=0, max=65535)] = 8090,
) -> None:
    """Write one self-contained page: best architecture, samples, curves, costs, origins, how to do it again."""
    from ..report import Source, read_source, render_report

    def page_of(source: Source) -> str:
        return render_report(source, read_source(against, job) if against else None)

    if serve:
        _serve(port, lambda: page_of(read_source(experiment, job)))
        return
    source = read_source(experiment, job)
    write_file(output, page_of(source))
    if source.data_changed:
        print(f"{source.data_changed}: all scores are of what it was then.", file=sys.stderr)
    print(output)


def _serve(port: int, make_page: Callable[[], str]) -> None:
    from ..report.serving import EVERY, PageServer

    with PageServer(port, make_page) as server:
        print(f"{server.address} shows the search, anew every {EVERY} seconds, until Ctrl-C.", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
