"""``nni-diffnas transcript``: what a language model was asked and answered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["transcript"]


def transcript(
    file: Annotated[Path, typer.Argument(help="transcript.jsonl of a search with a language model.", metavar="FILE")],
) -> None:
    """Print what a language model was asked and proposed, why, and how it scored."""
    from ..language_model.reading import render_transcript

    print(render_transcript(file))
