"""The model card of an exported pipeline: what was searched, on which data, at what cost, and how it was scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..process.versions import versions
from ..searching.formats import format_cost
from ..searching.ranking import Outcome
from .verdict_text import gain_in_words, method_in_words, table_of

if TYPE_CHECKING:
    from ..api.trial import Trial
    from ..job import Job
    from .verdict import Verdict

__all__ = ["CARD", "write_card"]

CARD = "README.md"


def write_card(
    folder: Path, job: Job, trial: Trial, trials: Sequence[Trial] = (), verdict: Verdict | None = None
) -> Path:
    """Write `CARD` into a pipeline folder; the licence is left to the reader, who knows that of the images.

    Args:
        folder: of the pipeline.
        job: of the search.
        trial: whose network it is.
        trials: all trials of the search.
        verdict: of this network, where one was computed.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    text = "\n\n".join(
        [
            _front_matter(),
            f"# A {index['unet'][1]} found by architecture search",
            _use(index),
            _searched(job, trial, trials),
            _scores(job, trial, trials, verdict),
            _table("## Architecture", trial.architecture),
            _table("## Versions", versions()),
            "## Limits\n\nThe network was trained as the search trains its trials: rapidly, to be compared, not to be "
            "the best it can be; `nni-diffnas train` trains it longer. It draws what its images show, and may repeat "
            "single training images: look at the nearest ones before you publish samples.",
        ]
    )
    file = folder / CARD
    file.write_text(text + "\n", encoding="utf-8")
    return file


def _front_matter() -> str:
    return "\n".join(
        [
            "---",
            "license:  # fill in: what the licence of your training images allows",
            "library_name: diffusers",
            "pipeline_tag: unconditional-image-generation",
            "tags: [diffusion, unet, neural-architecture-search, nni-diffnas]",
            "---",
        ]
    )


def _use(index: Mapping[str, Any]) -> str:
    trust = "" if index["unet"][0] == "diffusers" else ", trust_remote_code=True"
    return (
        "```python\nfrom diffusers import DiffusionPipeline\n\n"
        f'pipeline = DiffusionPipeline.from_pretrained("this/folder"{trust})\n'
        "image = pipeline().images[0]\n```"
    )


def _searched(job: Job, trial: Trial, trials: Sequence[Trial]) -> str:
    ended = [other for other in trials if other.status != "pending"]
    failed = sum(other.status == "failed" for other in ended)
    rows = {
        "search space": ", ".join([job.space.type, *(f"{name} {value}" for name, value in job.space.options.items())]),
        "task": job.task,
        "data": ", ".join(f"{name} {value}" for name, value in job.data.items()) or "see the evaluator",
        "licence of the data": "fill in",
        "budget": ", ".join(f"{name} in {window}" for name, window in job.make_budget().windows.items()) or "none",
        "strategy": f"{trial.origin.strategy} (this network: {trial.origin.kind})",
        "trials": f"{len(ended)}, of which {failed} failed" if ended else "unknown",
        "seed": job.seed,
        "trial": trial.id,
    }
    return _table("## What was searched", rows)


def _scores(job: Job, trial: Trial, trials: Sequence[Trial], verdict: Verdict | None) -> str:
    objective = job.make_objective()
    numbers = {n: v for n, v in trial.metrics.items() if isinstance(v, int | float)}
    rows: dict[str, Any] = {name: f"{value:.6g}" for name, value in sorted(numbers.items())}
    outcome = Outcome.of(trials, objective)
    lines = [
        _table("## Scores", rows),
        f"Protocol: `{trial.protocol or 'not recorded'}`. Scores of other protocols cannot be compared with these.",
        f"Cost: {format_cost(trial.cost)}. The network was chosen for its {objective.metric} ({objective.direction}), "
        f"so that this score flatters it.",
    ]
    for name, other in {"network by hand": outcome.by_hand, "default network": outcome.default}.items():
        if other is not None and other.id != trial.id:
            score = f"{objective.metric} {other.metrics[objective.metric]:.6g}"
            lines.append(f"The {name} it was compared with: {score}, {format_cost(other.cost)}.")
    if verdict is not None:
        lines.append("Trained again with fresh seeds and scored on images that no trial has seen:")
        lines.append(gain_in_words(verdict))
        lines.append("```text\n" + "\n".join(table_of(verdict)) + f"\n```\n\n{method_in_words(verdict)}")
    return "\n\n".join(lines)


def _table(title: str, rows: Mapping[str, Any]) -> str:
    def cell(value: Any) -> str:
        return str(value).replace("|", "\\|").replace("\n", " ")

    listed = "\n".join(f"| {cell(name)} | {cell(value)} |" for name, value in rows.items())
    return f"{title}\n\n| | |\n|---|---|\n{listed}"
