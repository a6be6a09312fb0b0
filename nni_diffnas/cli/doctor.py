"""``nni-diffnas doctor``: what would go wrong is found before anything trains."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["doctor"]


def doctor(
    config: Annotated[Path | None, typer.Argument(help="NNI config (YAML) to check as well.")] = None,
    port: Annotated[int, typer.Option(help="Port that the experiment will use.", min=1, max=65535)] = 8080,
    pictures: Annotated[Path | None, typer.Option(help="PNG file for a contact sheet of the images.")] = None,
) -> None:
    """Check the environment and an NNI config down to its data; forecast time, disk, dollars. Exit code 1: failed."""
    from ..doors.doctor import check_config, check_environment

    failed = False
    for finding in chain(check_environment(), check_config(config, port, pictures) if config else ()):
        print(finding, flush=True)
        failed = failed or finding.level == "FAIL"
    if failed:
        raise typer.Exit(1)
