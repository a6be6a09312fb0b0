"""The ``nni-diffnas`` command: each subcommand in a file of its name, that imports what it needs: trials start fast."""

from __future__ import annotations

import sys

import typer

from ..process.terminal import show_all
from .calibrate import calibrate
from .compare import compare
from .cost import cost
from .doctor import doctor
from .evaluate import evaluate
from .export import export
from .new import new
from .register import register
from .report import report
from .run import run
from .shrink import shrink
from .space import space
from .train import train
from .transcript import transcript
from .trial import trial
from .verdict import verdict

__all__ = ["app", "main"]

app = typer.Typer(
    help="Search the denoising UNet of a diffusion model with Microsoft NNI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _command in (
    register, new, doctor, run, shrink, space, cost, trial, export, verdict, report, compare, train, evaluate,
    calibrate, transcript,
):  # fmt: skip
    app.command()(_command)


def main() -> None:
    """Run the command; what the user did wrong is one sentence on stderr and exit code 2, a failed trial 1."""
    from ..api.errors import DiffNASError, TrialFailure

    show_all()
    try:
        app()
    except TrialFailure as error:
        print(f"nni-diffnas: the trial failed: {error}", file=sys.stderr)
        sys.exit(1)
    except DiffNASError as error:
        print(f"nni-diffnas: {error}", file=sys.stderr)
        sys.exit(2)
