"""The command within this process, as its console script calls it: seconds less than a process of its own."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from nni_diffnas.cli import main


def command(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run the command in a folder; returns its exit code and what it has printed.

    Args:
        folder: in which it runs.
        arguments: of the command.
        environment: variables that it finds beside this process's.
    """
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["nni-diffnas", *arguments])
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        try:
            main()
            code: object = 0
        except SystemExit as ended:
            code = ended.code
    return CompletedProcess(list(arguments), code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())
