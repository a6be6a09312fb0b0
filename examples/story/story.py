"""One story of the three methods, in one search memory.

1. A language model proposes the first networks (``GPTProposer``; here a transcript is replayed, so that neither key nor
   network is needed. It was written by a stand-in, not by GPT-4).
2. Guided generation goes on from its trials (``DiffusionGuided``).
3. Block-wise search shrinks the winner (``BlockwiseLocalSearch``), and its student joins the winner's pipeline.

Run it as ``python examples/story/story.py``; it takes minutes and writes ``story/report.html``. Trials run one after
the other in this process, to be short; the same jobs run through ``nni-diffnas run``. If it is interrupted, the same
command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nni_diffnas.api.trial import Trial
from nni_diffnas.doors.in_process import run_search
from nni_diffnas.job import Job
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source, render_report
from nni_diffnas.results.export import export_pipeline
from nni_diffnas.results.read import WEIGHTS
from nni_diffnas.searching.formats import format_cost
from nni_diffnas.searching.ranking import Outcome

# What stock diffusers can express, as block-wise search asks of a teacher: equal depths, attention in one level.
SPACE = {
    "type": "unet",
    "preset": "digits",
    "choices": "stock",
    "depths": [[1], [1]],
    "inner_width": [1.0],
    "heads": [1],
    "attention": [["none"], ["softmax"]],
    "middle": ["residual", "attention"],
    "default_depth": 1,
    "default_heads": 1,
}


def exported(job: Job, trial: Trial, folder: Path) -> Path:
    """The pipeline of a trial, as ``nni-diffnas export`` makes it of the best."""
    output = ExperimentFolder(folder / trial.experiment).output(trial.id)
    if output is None:
        raise SystemExit(f"The output of {trial.id} is gone.")
    scheduler = job.make_evaluation().scheduler_config() or {}
    target = folder / ("student" if trial.settings else "teacher")
    return export_pipeline(job.make_family(), trial.architecture, output / WEIGHTS, scheduler, target)


# --8<-- [start:story]
def tell(folder: Path, images: int, proposals: int, guided: int, block_steps: int, **proposer: Any) -> Path:
    """Run the three searches and write the report.

    Args:
        folder: for everything.
        images: that each network is trained on.
        proposals: trials of the proposer, the default network included.
        guided: trials of the guided search.
        block_steps: of each block's supernet.
        **proposer: options of `GPTProposer`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scoring = {"score_images": 500, "sampler_steps": 8, "curve_points": 0}
    common = {"data": {"source": "digits"}, "objective": {"metric": "rfid", "direction": "minimize"}, "seed": 0}
    evaluator = {"type": "diffusion", "training": {"images": images}, **scoring}
    memory = folder / "memory.sqlite"
    whole = Job.model_validate({"space": SPACE, "evaluator": evaluator, "memory": str(memory), **common})
    seeds = run_search(whole, "GPTProposer", folder / "proposals", proposals, proposer)
    goes_on = whole.model_copy(update={"warm_start": [str(memory)]})
    found = run_search(goes_on, "DiffusionGuided", folder / "guided", guided, {"unguided": 2})

    best = Outcome.of([*seeds, *found], whole.make_objective()).best
    if best is None or best.cost is None:
        raise SystemExit("No trial succeeded: see the messages above.")
    print(f"The winner, a {best.origin.kind}: {format_cost(best.cost)}. It becomes the teacher.")
    teacher = exported(whole, best, folder)

    small = Job.model_validate(
        {
            "space": {"type": "blockwise", "teacher": str(teacher)},
            "evaluator": {
                **evaluator,
                "type": "blockwise",
                "supernet": {"steps": block_steps, "cached_images": 256},
            },
            "budget": {"macs": {"max": 0.7 * best.cost.macs}},
            "memory": str(memory),
            **common,
        }
    )
    shrunk = run_search(small, "BlockwiseLocalSearch", folder / "blocks", 40)
    student = next(trial for trial in reversed(shrunk) if trial.settings.get("task") == "retrain")
    print(f"The student: {format_cost(student.cost)}, in {exported(small, student, folder)}")
    page = folder / "report.html"
    page.write_text(render_report(read_source(str(memory))), encoding="utf-8")
    return page


# --8<-- [end:story]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("story"))
    parser.add_argument("--images", type=int, default=16_000, help="that each network is trained on")
    parser.add_argument("--proposals", type=int, default=5)
    parser.add_argument("--guided", type=int, default=5)
    parser.add_argument("--block-steps", type=int, default=600)
    parser.add_argument("--replay", type=Path, default=Path(__file__).parent / "transcript.jsonl")
    parser.add_argument("--base-url", help="of a model to ask instead of the transcript")
    parser.add_argument("--model", default="gpt-4")
    arguments = parser.parse_args()
    asked = {"base_url": arguments.base_url, "model": arguments.model}
    proposer = asked if arguments.base_url else {"replay": str(arguments.replay)}
    print(
        tell(
            arguments.folder.resolve(),
            arguments.images,
            arguments.proposals,
            arguments.guided,
            arguments.block_steps,
            **proposer,
        )
    )


if __name__ == "__main__":
    main()
