"""``nni-diffnas run``: a search from its config to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .doctor import doctor

__all__ = ["run"]


def run(
    config: Annotated[Path, typer.Argument(help="NNI config (YAML).")],
    port: Annotated[int, typer.Option("--port", "-p", help="Port of NNI's web server.", min=1, max=65535)] = 8080,
    debug: Annotated[bool, typer.Option("--debug", "-d", help="Let NNI write its log in full.")] = False,
    url_prefix: Annotated[str | None, typer.Option("--url_prefix", "-u", help="Of NNI's web server.")] = None,
) -> None:
    """Check a config as the doctor does, start its search, with patience, and follow it to its end.

    Ctrl-C stops the search; 'nnictl resume' goes on with it. Exit code 1: the doctor found something.
    """
    doctor(config, port)
    from ..doors.foreground import run_config

    identity = run_config(config, port, debug, url_prefix)
    print(f"Search {identity} is done: 'nni-diffnas report {identity}' shows it.")
