"""One story of the three methods, in one search memory.

1. A language model proposes the first networks (``GPTProposer``; here a transcript is replayed, so that neither key nor
   network is needed. It was written by a stand-in, not by GPT-4).
2. Guided generation goes on from its trials (``DiffusionGuided``).
3. Block-wise search shrinks the winner (``BlockwiseLocalSearch``), and its student joins the winner's pipeline.

Run it as ``python examples/story/story.py``; it takes minutes and writes ``story/report.html``. Trials run one after
the other in this process, to be short; the same jobs run through ``nnictl create``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nni_diffnas.evaluation import TrialContext
from nni_diffnas.export import export_pipeline
from nni_diffnas.job import Job
from nni_diffnas.memory import SearchMemory
from nni_diffnas.outcome import Outcome, format_cost
from nni_diffnas.plugins import find_plugin
from nni_diffnas.report import read_source, render_report
from nni_diffnas.runner import build_seeded
from nni_diffnas.trial import Trial
from nni_diffnas.winner import WEIGHTS

# What stock diffusers can express, as block-wise search asks of a teacher: equal depths, attention in one level.
SPACE = {
    "type": "unet",
    "preset": "digits",
    "depths": [[1], [1]],
    "inner_width": [1.0],
    "heads": [1],
    "attention": [[False], [True]],
    "middle": ["residual", "attention"],
    "default_depth": 1,
    "default_heads": 1,
}


def search(job: Job, name: str, memory: SearchMemory, folder: Path, trials: int, **options: Any) -> list[Trial]:
    """Run one strategy on a job, recorded as the tuner door records it; returns its trials."""
    family, evaluation = job.make_family(), job.make_evaluation()
    evaluation.prepare()
    evaluation.check(family)
    strategy = find_plugin("strategies", name)(
        objective=job.make_objective(), budget=job.make_budget(), seed=job.seed, memory=memory, **options
    )
    strategy.experiment = name.lower()
    strategy.bind(family.space, family, evaluation.protocol, task=job.task, folder=folder)
    strategy.check()
    shown = {key: value for key, value in options.items() if key != "warm_start"}
    body = {"job": job.model_dump(mode="json"), "strategy": name, "options": shown, "max_trials": trials}
    memory.log("experiment", strategy.experiment, body)
    while sum(trial.experiment == strategy.experiment for trial in strategy.trials) < trials:
        asked = strategy.ask(1)
        if not asked:
            break
        for trial in asked:
            output = folder / trial.id
            output.mkdir(parents=True, exist_ok=True)
            context = TrialContext(trial.architecture, output, job.seed, settings=trial.settings)
            metrics = evaluation.evaluate(build_seeded(family, trial.architecture, job.seed), context)
            ended = strategy.tell(trial.id, {**metrics, **family.cost(trial.architecture).as_metrics()})
            score = ended.metrics.get(job.objective.metric)
            told = "measured" if score is None else f"{job.objective.metric} {score:.4g}"
            print(f"{trial.id} {trial.origin.kind}: {told}  {format_cost(trial.cost)}", flush=True)
    print(strategy.summary())
    return [trial for trial in strategy.trials if trial.experiment == strategy.experiment]


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
    whole = Job.model_validate({"space": SPACE, "evaluator": evaluator, **common})
    with SearchMemory(folder / "memory.sqlite") as memory:
        seeds = search(whole, "GPTProposer", memory, folder, proposals, **proposer)
        found = search(whole, "DiffusionGuided", memory, folder, guided, warm_start=seeds, unguided=2)

        best = Outcome.of([*seeds, *found], whole.make_objective()).best
        if best is None or best.cost is None:
            raise SystemExit("No trial succeeded: see the messages above.")
        print(f"The winner, a {best.origin.kind}: {format_cost(best.cost)}. It becomes the teacher.")
        scheduler = whole.make_evaluation().scheduler_config() or {}
        weights = folder / best.id / WEIGHTS
        teacher = export_pipeline(whole.make_family(), best.architecture, weights, scheduler, folder / "teacher")

        small = Job.model_validate(
            {
                "space": {"type": "blockwise", "teacher": str(teacher)},
                "evaluator": {
                    **evaluator,
                    "type": "blockwise",
                    "supernet": {"steps": block_steps, "cached_images": 256},
                },
                "budget": {"macs": {"max": 0.7 * best.cost.macs}},
                **common,
            }
        )
        shrunk = search(small, "BlockwiseLocalSearch", memory, folder, 40, betas=["linear"])
        student = next(trial for trial in reversed(shrunk) if trial.settings.get("task") == "retrain")
        pipeline = export_pipeline(
            small.make_family(), student.architecture, folder / student.id / WEIGHTS, {}, folder / "student"
        )
        print(f"The student: {format_cost(student.cost)}, in {pipeline}")
    page = folder / "report.html"
    page.write_text(render_report(read_source(str(folder / "memory.sqlite"))), encoding="utf-8")
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
