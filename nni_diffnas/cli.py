"""The ``nni-diffnas`` command. Each subcommand imports what it needs: a trial must start fast."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .api.errors import DiffNASError

if TYPE_CHECKING:
    from .api.evaluation import Evaluation
    from .api.family import Family
    from .api.space import Architecture

__all__ = ["app", "main"]

app = typer.Typer(
    help="Search the denoising UNet of a diffusion model with Microsoft NNI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JobArgument = Annotated[Path, typer.Argument(help="Job file (YAML).", metavar="JOB")]
ExperimentArgument = Annotated[str, typer.Argument(help="Experiment id, or its folder.", metavar="EXPERIMENT")]


def main() -> None:
    """Run the command; what the user did wrong is one sentence on stderr and exit code 2, a failed trial 1."""
    from .api.errors import TrialFailure

    try:
        app()
    except TrialFailure as error:
        print(f"nni-diffnas: the trial failed: {error}", file=sys.stderr)
        sys.exit(1)
    except DiffNASError as error:
        print(f"nni-diffnas: {error}", file=sys.stderr)
        sys.exit(2)


def _write(file: Path, text: str) -> None:
    """Write a file that the user named.

    Raises:
        JobError: it cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _refused(file, error) from error


def _folder(path: Path) -> Path:
    """Make a folder that the user named, where it is not there, before anything is done for it.

    Raises:
        JobError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from error
    return path


def _refused(path: Path, error: OSError) -> DiffNASError:
    from .api.errors import JobError

    return JobError(f"{str(path)!r} cannot be written ({error.strerror}): give another path.")


@app.command()
def register() -> None:
    """Register all strategies with NNI as tuners, for this environment (or NNI_CONFIG_DIR)."""
    from .doors.register import register_tuners

    print(f"Registered with NNI: {', '.join(register_tuners())}")


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="NNI config (YAML) to check as well.")] = None,
    port: Annotated[int, typer.Option(help="Port that the experiment will use.")] = 8080,
    pictures: Annotated[Path | None, typer.Option(help="PNG file for a contact sheet of the images.")] = None,
) -> None:
    """Check the environment and an NNI config down to its data; forecast time, disk, dollars. Exit code 1: failed."""
    from itertools import chain

    from .doors.doctor import check_config, check_environment

    failed = False
    for finding in chain(check_environment(), check_config(config, port, pictures) if config else ()):
        print(finding, flush=True)
        failed = failed or finding.level == "FAIL"
    if failed:
        raise typer.Exit(1)


@app.command()
def space(
    job: JobArgument,
    output: Annotated[Path | None, typer.Option(help="Write NNI's search-space JSON there.")] = None,
    samples: Annotated[int, typer.Option(help="Random architectures that show the range of the cost.", min=1)] = 1000,
) -> None:
    """Print NNI's search-space JSON, the size of the space and the range of MACs and parameters."""
    import numpy as np

    from .job import load_job
    from .searching.formats import format_count

    family = load_job(job).make_family()
    text = json.dumps(family.space.to_nni(), indent=2)
    if output:
        _write(output, text + "\n")
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


def _read_architecture(file: Path) -> dict[str, Any]:
    from .api.errors import JobError

    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise JobError(f"Architecture file {str(file)!r} cannot be read as JSON: {error}.") from error
    content = content.get("architecture", content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise JobError(f"Architecture file {str(file)!r} must hold an object of labels and values.")
    return content


@app.command()
def cost(
    job: JobArgument,
    arch: Annotated[list[Path] | None, typer.Option(help="Architecture file (JSON); may be repeated.")] = None,
    random: Annotated[int, typer.Option(help="Number of random architectures within budget.", min=0)] = 5,
    seed: Annotated[int, typer.Option(help="Of the random architectures.")] = 0,
    table: Annotated[bool, typer.Option("--table", help="Cost of every choice, the others at the default.")] = False,
) -> None:
    """Print MACs and parameters of the default, of given, and of random architectures within budget."""
    import numpy as np

    from .api.family import choice_costs, sample_within
    from .job import load_job
    from .searching.formats import format_cost

    loaded = load_job(job)
    family, budget = loaded.make_family(), loaded.make_budget()
    if table:
        for label, costs in choice_costs(family).items():
            for value, priced in costs.items():
                print(f"{label:28} {value!s:>8}  {format_cost(priced)}")
        return
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, dict[str, Any]]] = [("default", family.default)]
    rows += [(file.name, _read_architecture(file)) for file in arch or ()]
    rows += [(f"random {i}", sample_within(family, budget, rng)) for i in range(random)]
    for name, architecture in rows:
        chosen = family.space.validate(architecture)
        priced = family.cost(chosen)
        outside = budget.explain(priced) if budget.windows else ""
        print(
            f"{name:12} {format_cost(priced)}{'  outside: ' + outside if outside else ''}\n{'':12} {json.dumps(chosen)}"
        )


def _plan(family: Family, evaluation: Evaluation, architecture: Architecture) -> dict[str, Any]:
    """What would be trained, and how."""
    cost = family.cost(architecture).as_metrics()
    return {"architecture": architecture, "cost": cost, "protocol": evaluation.protocol, **evaluation.resolved()}


@app.command()
def trial(
    job: JobArgument,
    arch: Annotated[Path | None, typer.Option(help="Architecture file (JSON); the default network without it.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for weights, samples and logs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the training; the job's without it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
) -> None:
    """Train and score one architecture, inside NNI or alone. The last line printed is JSON."""
    from .job import load_job
    from .trial.run import run_trial

    loaded = load_job(job)
    architecture = _read_architecture(arch) if arch else None
    if dry_run:
        family, evaluation = loaded.make_family(), loaded.make_evaluation()
        chosen = family.space.validate(architecture or family.default)
        print(json.dumps(_plan(family, evaluation, chosen)))
        return
    folder = None if output is None else _folder(output)
    print(json.dumps(run_trial(loaded, architecture, output=folder, seed=seed)))


@app.command()
def export(
    experiment: ExperimentArgument,
    to: Annotated[Path | None, typer.Option(help="Folder of the pipeline; <experiment>/winner without it.")] = None,
    trial: Annotated[str | None, typer.Option(help="Id of another trial than the best.")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write the network as ONNX too, and check it.")] = False,
) -> None:
    """Write the winner (or a given trial) as a diffusers pipeline with a model card; also while the search runs."""
    from .memory.experiment_folder import find_experiment
    from .results.read import export_trial, read_search

    search = read_search(find_experiment(experiment))
    chosen = search.pick(trial)
    target = to or search.folder.path / "winner"
    _folder(target.parent)
    pipeline = export_trial(search.folder, search.job, chosen, target, search.trials)
    print(pipeline)
    if changed := search.data_changed():
        print(f"{changed}: the network was trained on what it was then.", file=sys.stderr)
    if onnx:
        from .results.onnx_export import export_onnx

        print(export_onnx(pipeline))


def _looks(seeds: str) -> tuple[int, ...]:
    from .api.errors import JobError
    from .results.intervals import LOOKS

    if seeds == "auto":
        return LOOKS
    if not seeds.isdecimal() or int(seeds) < 2:
        raise JobError(f"--seeds is {seeds!r}: give a number of at least 2, or auto.")
    return (int(seeds),)


@app.command()
def verdict(
    experiment: ExperimentArgument,
    seeds: Annotated[
        str,
        typer.Option(
            help="Fresh seeds for which each network is trained; 'auto' takes 3, and 3 more until winner and by hand "
            "are told apart, 12 at most.",
            metavar="N|auto",
        ),
    ] = "3",
    longer: Annotated[float, typer.Option(help="Training as a multiple of a trial's.", min=0.01)] = 1.0,
    paired: Annotated[
        bool, typer.Option("--paired", help="Intervals of differences seed by seed: where common seeds help.")
    ] = False,
    arch: Annotated[
        list[Path] | None, typer.Option(help="Architecture file (JSON) that is judged, too; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Trainings at once.", min=1)] = 2,
    output: Annotated[Path | None, typer.Option(help="Folder; <experiment>/verdict without it.")] = None,
    trial: Annotated[str | None, typer.Option(help="Id of another trial than the best.")] = None,
) -> None:
    """Say what the search gained over doing it by hand: winner, by hand and default trained with fresh seeds.

    All are scored on held-out images. A verdict that was killed goes on by the same command.
    """
    from .memory.experiment_folder import find_experiment
    from .results.judging import challenger, judge
    from .results.read import read_search
    from .results.verdict_text import describe_verdict, look_in_words

    looks = _looks(seeds)
    search = read_search(find_experiment(experiment))
    also = {file.stem: _read_architecture(file) for file in arch or ()}
    folder = _folder(output or search.folder.path / "verdict")
    chosen = search.pick(trial) if trial else challenger(search.job, search.trials)
    best = search.outcome.best
    if not trial and best is not None and chosen is not best:
        print(f"The best trial, {best.id}, is one of the networks to beat: the next best, {chosen.id}, is judged.")
    found = judge(
        search.job, chosen, folder, looks, workers, trials=search.trials, also=also, longer=longer, paired=paired,
        described=search.described,
        watch=lambda verdict: print(look_in_words(verdict), flush=True) if len(looks) > 1 else None,
    )  # fmt: skip
    print(describe_verdict(found))


@app.command()
def report(
    experiment: Annotated[str, typer.Argument(help="Experiment id, its folder, or a search-memory file.")],
    output: Annotated[Path, typer.Option(help="HTML file that is written.")] = Path("report.html"),
    against: Annotated[str | None, typer.Option(help="Random search to compare with, named likewise.")] = None,
    job: Annotated[Path | None, typer.Option(help="Job file, for a memory that does not say its objective.")] = None,
) -> None:
    """Write one self-contained page: best architecture, samples, curves, costs, origins, how to do it again."""
    from .report import read_source, render_report

    source = read_source(experiment, job)
    page = render_report(source, read_source(against, job) if against else None)
    _write(output, page)
    if source.data_changed:
        print(f"{source.data_changed}: all scores are of what it was then.", file=sys.stderr)
    print(output)


@app.command()
def compare(
    experiments: Annotated[list[str], typer.Argument(help="Experiment ids, folders or search-memory files.")],
    output: Annotated[Path, typer.Option(help="HTML file that is written.")] = Path("compare.html"),
    job: Annotated[Path | None, typer.Option(help="Job file, for memories that do not say their objective.")] = None,
) -> None:
    """Set searches side by side; those that differ in their seed only are one arm with a confidence band."""
    from .report import compare as side_by_side
    from .report import read_source

    comparison = side_by_side([read_source(name, job) for name in experiments])
    print(comparison.describe())
    _write(output, comparison.render())
    print(output)


@app.command()
def train(
    job: JobArgument,
    output: Annotated[Path, typer.Option(help="Folder for weights, samples, logs and the pipeline.")],
    arch: Annotated[Path | None, typer.Option(help="Architecture file (JSON); the default network without it.")] = None,
    longer: Annotated[float, typer.Option(help="Training as a multiple of the job's.", min=0.01)] = 10.0,
    seed: Annotated[int | None, typer.Option(help="Of the training; the job's without it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
) -> None:
    """Train one architecture longer than the search did and export it as a diffusers pipeline."""
    from .api.evaluation import TrialContext
    from .job import load_job
    from .results.export import export_pipeline
    from .results.read import WEIGHTS
    from .trial.run import build_seeded

    loaded = load_job(job)
    family, evaluation = loaded.make_family(), loaded.make_evaluation().longer(longer)
    chosen = family.space.validate(_read_architecture(arch) if arch else family.default)
    if dry_run:
        print(json.dumps(_plan(family, evaluation, chosen)))
        return
    _folder(output)
    evaluation.prepare()

    def report(metrics: Any) -> None:
        print("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()), file=sys.stderr, flush=True)

    context = TrialContext(chosen, output, loaded.seed if seed is None else seed, report, family=family)
    metrics = evaluation.evaluate(build_seeded(family, chosen, context.seed), context)
    scheduler = evaluation.scheduler_config()
    if scheduler is not None:
        print(export_pipeline(family, chosen, output / WEIGHTS, scheduler, output / "pipeline"), file=sys.stderr)
    print(json.dumps(metrics))


@app.command()
def evaluate(
    pipeline: Annotated[Path, typer.Argument(help="Folder of a diffusers pipeline.", metavar="PIPELINE")],
    data: Annotated[list[str], typer.Option(help="Job file, or a data source and further fields as name=value.")],
    output: Annotated[Path, typer.Option(help="Folder of the images and scores; a killed evaluation goes on there.")],
    protocol: Annotated[str, typer.Option(help="rfid, fid10k or fid50k (the published one).")] = "rfid",
    extractor: Annotated[str | None, typer.Option(help="inception, inception-768, labels or random.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Inception's; torch-fidelity downloads them otherwise.")] = None,
    images: Annotated[int | None, typer.Option(help="To generate; the protocol's without it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the sampler; the protocol's without it.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Class of a diffusers scheduler.")] = None,
    batch: Annotated[int, typer.Option(help="Images at once, halved while the memory is short.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of the first image.")] = 0,
    trust_remote_code: Annotated[bool, typer.Option(help="Let a pipeline's own Python files run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast the time, and stop.")] = False,
) -> None:
    """Score any diffusers pipeline against any images; the last line printed is JSON."""
    from .plugins import find_plugin

    folder = output if dry_run else _folder(output)
    text, score = find_plugin("commands", "evaluate")(
        pipeline, protocol, data, folder, extractor=extractor, weights=weights, image_count=images, steps=steps,
        sampler=sampler, batch=batch, seed=seed, trust_remote_code=trust_remote_code, dry_run=dry_run,
    )  # fmt: skip
    print(text)
    if score:
        print(json.dumps(score))


@app.command()
def calibrate(
    job: JobArgument,
    output: Annotated[Path, typer.Option(help="Folder of trainings, report and plot; a killed calibration goes on.")],
    networks: Annotated[int, typer.Option(help="Networks, spread over the job's range of MACs.")] = 12,
    seeds: Annotated[int, typer.Option(help="Trainings of each network and length.")] = 2,
    longer: Annotated[float, typer.Option(help="Training of the reference as a multiple of the job's.")] = 10.0,
    tau: Annotated[float, typer.Option(help="Kendall's tau that the recommended protocol has to reach.")] = 0.6,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and how long.")] = False,
) -> None:
    """Find the cheapest protocol that ranks the job's networks as a long training does."""
    from .job import load_job
    from .plugins import find_plugin

    run = find_plugin("commands", "calibrate")
    print(run(load_job(job), output if dry_run else _folder(output), networks, seeds, longer, tau, dry_run=dry_run))


@app.command()
def transcript(
    file: Annotated[Path, typer.Argument(help="transcript.jsonl of a search with a language model.", metavar="FILE")],
) -> None:
    """Print what a language model was asked and proposed, why, and how it scored."""
    from .language_model.reading import render_transcript

    print(render_transcript(file))


if __name__ == "__main__":
    main()
