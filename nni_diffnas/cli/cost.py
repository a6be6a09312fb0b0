"""``nni-diffnas cost``: MACs and parameters of networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .arguments import LAST_SEED, JobArgument, known_networks, read_architecture

__all__ = ["cost"]


def cost(
    job: JobArgument,
    arch: Annotated[list[Path] | None, typer.Option(help="Architecture file (JSON); may be repeated.")] = None,
    random: Annotated[int, typer.Option(help="Number of random architectures within budget.", min=0)] = 5,
    seed: Annotated[int, typer.Option(help="Of the random architectures.", min=0, max=LAST_SEED)] = 0,
    table: Annotated[bool, typer.Option("--table", help="Cost of every choice, the others at the default.")] = False,
) -> None:
    """Print MACs and parameters of the default, and within budget by hand, recommended and at random; of given ones."""
    import numpy as np

    from ..api.family import choice_costs, sample_within
    from ..job import load_job
    from ..searching.formats import format_cost

    loaded = load_job(job, evaluated=False)
    family, budget = loaded.make_family(), loaded.make_budget()
    if table:
        for label, costs in choice_costs(family).items():
            for value, priced in costs.items():
                print(f"{label:28} {value!s:>8}  {format_cost(priced)}")
        return
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, dict[str, Any]]] = [("default", family.default)]
    if budget.windows:
        rows += [(f"{origin}: {name}", each) for name, (origin, each) in known_networks(family, budget).items()]
    rows += [(file.name, read_architecture(file)) for file in arch or ()]
    rows += [(f"random {i}", sample_within(family, budget, rng)) for i in range(random)]
    width = max(12, *(len(name) for name, _ in rows))
    for name, architecture in rows:
        chosen = family.space.validate(architecture)
        priced = family.cost(chosen)
        outside = budget.explain(priced) if budget.windows else ""
        print(f"{name:{width}} {format_cost(priced)}{'  outside: ' + outside if outside else ''}")
        print(f"{'':{width}} {json.dumps(chosen)}")
