"""``nni-diffnas space``: a job's search space as NNI reads it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .arguments import JobArgument, write_file

__all__ = ["space"]


def space(
    job: JobArgument,
    output: Annotated[Path | None, typer.Option(help="Write NNI's search-space JSON there.")] = None,
    samples: Annotated[int, typer.Option(help="Random architectures that show the range of the cost.", min=1)] = 1000,
) -> None:
    """Print NNI's search-space JSON, the size of the space and the range of MACs and parameters."""
    import numpy as np

    from ..job import load_job
    from ..searching.formats import format_count

    family = load_job(job, evaluated=False).make_family()
    text = json.dumps(family.space.to_nni(), indent=2)
    if output:
        write_file(output, text + "\n")
    print(text)
    rng = np.random.default_rng(0)
    costs = [family.cost(family.space.sample(rng)) for _ in range(samples)]
    macs, params = [c.macs for c in costs], [c.params for c in costs]
    print(
        f"{family.space.size:,} architectures; over {samples} random ones: "
        f"{format_count(min(macs))} to {format_count(max(macs))}MACs, "
        f"{format_count(min(params))} to {format_count(max(params))} parameters",
        file=sys.stderr,
    )
