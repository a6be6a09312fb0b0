"""A `NasExperiment` that goes on: what the loop does with trials from before a resume, with stand-ins for NNI."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memories import assert_nobody_writes
from nni.nas.execution.event import FinalMetricEvent
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from nni.nas.utils.serializer import get_default_serializer
from toy_family import ToyFamily, score
from tuner_door import taken_up

from nni_diffnas.api.cost import Budget, Window
from nni_diffnas.api.ending import Ending
from nni_diffnas.api.errors import DiffNASError, JobError
from nni_diffnas.api.trial import Suggestion, Trial
from nni_diffnas.doors.engine import EngineLoop, open_search
from nni_diffnas.evaluators import DiffusionEvaluator
from nni_diffnas.memory import SearchMemory
from nni_diffnas.memory.experiment_folder import ExperimentFolder
from nni_diffnas.report import read_source
from nni_diffnas.results.read import read_search
from nni_diffnas.search_spaces import UNetFamily, UNetSpace
from nni_diffnas.searching.search import Search
from nni_diffnas.strategies import RegularizedEvolution
from nni_diffnas.trial.parameters import TRIAL_ID
from nni_diffnas.trial.result_file import TrialRecord


class Experiment:
    """NNI's experiment: a status, a limit, and records of jobs."""

    id = "e1"
    _proc = SimpleNamespace(pid=os.getpid())

    def __init__(self, folder: Path, limit: int, concurrency: int = 1) -> None:
        self.jobs: list[Any] = []
        config = SimpleNamespace(
            max_trial_number=limit, trial_concurrency=concurrency, experiment_working_directory=str(folder)
        )
        config.canonical_copy = lambda: config
        self.config = config
        self.status = "RUNNING"
        self.saved: list[bool] = []

    def save_checkpoint(self) -> None:
        """Write what `NasExperiment.resume` cannot do without, and record whether there was a memory before it."""
        folder = Path(self.config.experiment_working_directory) / self.id
        self.saved.append((folder / "memory.sqlite").exists())
        (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoint" / "config.json").write_text("{}")

    def list_trial_jobs(self) -> list[Any]:
        return self.jobs

    def get_status(self) -> str:
        return self.status

    def job(self, trial: Trial, status: str, rfid: float | None = None) -> None:
        number = len(self.jobs)
        given = SimpleNamespace(parameter_id=number, parameters={"status": "frozen", "sample": {TRIAL_ID: trial.id}})
        final = [] if rfid is None else [SimpleNamespace(parameterId=str(number), data={"default": 0, "rfid": rfid})]
        self.jobs.append(
            SimpleNamespace(trialJobId=f"j{number}", status=status, hyperParameters=[given], finalMetricData=final)
        )


class Engine:
    """NNI's engine with one worker that trains at once."""

    def __init__(self, experiment: Experiment) -> None:
        self.nodejs_binding = experiment
        self.workers = 1
        self.listeners: list[Any] = []
        self.submitted: list[Any] = []

    def register_model_event_callback(self, kind: Any, listener: Any) -> None:
        self.listeners.append(listener)

    def unregister_model_event_callback(self, kind: Any, listener: Any) -> None:
        pass

    def idle_worker_available(self) -> bool:
        return self.workers > 0

    def budget_available(self) -> bool:
        return True

    def submit_models(self, model: Any) -> None:
        self.submitted.append(model)
        architecture = {name: value for name, value in model.sample.items() if name != TRIAL_ID}
        model.status = ModelStatus.Trained
        self.listeners[0](FinalMetricEvent(model, {"default": 0.0, "rfid": score(FAMILY.space.validate(architecture))}))


FAMILY = ToyFamily()


class Space:
    """NNI's model space, whose frozen copies are what the engine is given."""

    def freeze(self, sample: dict[str, Any]) -> Any:
        return SimpleNamespace(sample=sample, status=SimpleNamespace(completed=lambda: True))


def searching(kind: type[RegularizedEvolution] = RegularizedEvolution, **options: Any) -> Search:
    return Search(kind(population=3, sample=2, seed=7, **options), FAMILY.space, FAMILY, experiment="e1")


def loop_of(search: Search, engine: Any) -> EngineLoop:
    return EngineLoop(search, engine, Space())


def undisturbed(count: int) -> list[dict[str, Any]]:
    search = searching()
    for _ in range(count):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"rfid": score(trial.architecture)})
    return [dict(trial.architecture) for trial in search.trials]


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[Search, Engine]:
    """A search that was killed while its fifth trial was under way."""
    search = searching()
    experiment = Experiment(tmp_path, limit=8)
    for _ in range(4):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"rfid": score(trial.architecture)})
        experiment.job(trial, "SUCCEEDED", score(trial.architecture))
    search.ask(1)
    return search, Engine(experiment)


@pytest.mark.parametrize(
    "what", ["reported", "runs again", "is listed as resumed", "was forgotten", "never started", "failed"]
)
def test_a_resumed_search_goes_on_as_if_nothing_had_happened(
    what: str, stopped: tuple[Search, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, engine = stopped
    experiment: Any = engine.nodejs_binding
    (pending,) = search.pending
    if what == "reported":
        experiment.job(pending, "SUCCEEDED", score(pending.architecture))
    elif what == "failed":
        experiment.job(pending, "FAILED")
    elif what in ("runs again", "is listed as resumed"):
        experiment.job(pending, "RUNNING" if what == "runs again" else "ADD_RESUMED")
        output = tmp_path / "e1" / "environments" / "local-env" / "trials" / "j4"
        output.mkdir(parents=True)
        TrialRecord(output, pending.id).fail(Ending.STOPPED)  # when the search was stopped
        listed = experiment.list_trial_jobs
        calls = iter(range(100))

        def finishes() -> list[Any]:
            if next(calls) == 1:
                experiment.jobs.pop()
                experiment.job(pending, "SUCCEEDED", score(pending.architecture))
            assert not engine.submitted or experiment.jobs[-1].status == "SUCCEEDED", "suggested before its result"
            return list(listed())

        monkeypatch.setattr(experiment, "list_trial_jobs", finishes)
    elif what == "was forgotten":  # by NNI, whose manager was killed before it ran again what it had taken up
        experiment.job(pending, "ADD_RESUMED")
        taken_up(tmp_path / "e1", "j4", at=0.0)
    loop_of(search, engine).run()
    architectures = [dict(trial.architecture) for trial in search.trials]
    count = 7 if what == "was forgotten" else 8  # NNI counts its job
    assert len(architectures) == count
    assert all(trial.status == "succeeded" for trial in search.trials) == (what != "failed")
    assert len(engine.submitted) == (4 if what == "never started" else 3)
    if what != "failed":
        assert architectures == undisturbed(count)


class Counting(RegularizedEvolution):
    """Remembers how many suggestions it was asked for at once; nobody may have to wait for the memory meanwhile."""

    counts: list[int]

    def suggest(self, count: int) -> Sequence[Suggestion]:
        if (memory := self.options.memory) is not None:
            assert_nobody_writes(memory.path)
        self.counts.append(count)
        return super().suggest(count)


def counting(kind: type[Counting], experiment: Experiment, **options: Any) -> tuple[Search, Engine]:
    search, engine = searching(kind, **options), Engine(experiment)
    search.strategy.counts = []
    return search, engine


def test_what_is_slow_is_done_before_the_memory_is_locked(tmp_path: Path) -> None:
    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        search, engine = counting(Counting, Experiment(tmp_path, limit=3), memory=memory)
        loop_of(search, engine).run()
        assert len(engine.submitted) == 3
        assert search.strategy.counts == [1, 1], "the default network needs no suggestion"


def test_free_workers_are_served_by_one_suggestion(tmp_path: Path) -> None:
    search, engine = counting(Counting, Experiment(tmp_path, limit=7, concurrency=3), train_first="none")
    loop_of(search, engine).run()
    assert len(engine.submitted) == 7
    assert search.strategy.counts == [3, 3, 1]


class Used(Counting):
    """Has one network to suggest, and then nothing more."""

    def suggest(self, count: int) -> Sequence[Suggestion]:
        found = super().suggest(count)
        return () if self.search.trials else found[:1]


@pytest.mark.parametrize("way", ["event", "record"])
def test_a_strategy_with_nothing_to_suggest_is_asked_again_when_there_is_news(tmp_path: Path, way: str) -> None:
    search, engine = counting(Used, Experiment(tmp_path, limit=7, concurrency=2), train_first="none")
    engine.submit_models = engine.submitted.append  # trains for long
    loop = loop_of(search, engine)
    assert [loop._step() for _ in range(4)] == [True] * 4
    assert search.strategy.counts == [2, 1, 1]
    if way == "event":
        loop._metrics.append((search.pending[0].id, {"rfid": 1.0}))
    else:  # as of a trial that is run again after a resume
        engine.nodejs_binding.job(search.pending[0], "SUCCEEDED", 1.0)
        loop._settle(silent=False)
    assert loop._step() is False
    assert search.strategy.counts == [2, 1, 1, 2]


def test_failures_from_before_a_resume_do_not_end_the_search(tmp_path: Path) -> None:
    search, experiment = searching(), Experiment(tmp_path, limit=9)
    for _ in range(5):
        (trial,) = search.ask(1)
        experiment.job(trial, "FAILED")
    loop_of(search, Engine(experiment)).run()
    assert [trial.status for trial in search.trials] == ["failed"] * 5 + ["succeeded"] * 4


def model_space(evaluator: Any, **options: Any) -> Any:
    return SimplifiedModelSpace.from_model(UNetSpace(preset="digits", **options), evaluator)


def evaluator(**options: Any) -> DiffusionEvaluator:
    return DiffusionEvaluator(
        {"source": "digits"}, training={"images": 64}, score_images=16, sampler_steps=2, **options
    )


def test_a_search_from_python_is_found_by_its_id_as_one_from_nnictl_is(tmp_path: Path) -> None:
    strategy = RegularizedEvolution(budget=Budget({"macs": Window(max=5e6)}), seed=3)
    space = model_space(evaluator(seed=5), base_width=8)
    search, opened = open_search(strategy, space, Engine(Experiment(tmp_path, limit=2)))
    assert opened
    (trial,) = search.ask(1)
    assert search.memory is not None
    search.memory.close()
    found = read_search(ExperimentFolder(tmp_path / "e1"))
    assert (found.strategy, [t.id for t in found.trials]) == ("RegularizedEvolution", [trial.id])
    assert found.job.make_family().space == search.space
    assert found.job.make_evaluation().protocol == search.protocol
    assert (found.job.seed, found.job.make_budget()) == (5, strategy.options.budget)
    source = read_source(str(tmp_path / "e1"))
    assert (source.job, source.planned) == (found.job, 2)
    assert "options" not in source.starts[-1].body, "nobody knows them"


def test_nni_can_resume_every_search_that_has_a_memory(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, limit=2)
    for _ in range(2):  # the second time as a resume does, whose checkpoint must not be overwritten
        search, _ = open_search(RegularizedEvolution(), model_space(evaluator(), base_width=8), Engine(experiment))
        assert search.memory is not None
        search.memory.close()
    assert experiment.saved == [False], "saved once, before there was a memory"


class NamelessSpace(UNetSpace):
    """Somebody's own, that no job file can name."""

    plugin = ""

    @classmethod
    def family_of(cls, *args: Any, **kwargs: Any) -> UNetFamily:
        return UNetFamily(*args, **kwargs)


def test_a_search_that_no_job_can_describe_has_a_report_and_says_so_to_export(tmp_path: Path) -> None:
    space = SimplifiedModelSpace.from_model(NamelessSpace(preset="digits"), evaluator())
    with SearchMemory(tmp_path / "mine.sqlite") as memory:
        strategy = RegularizedEvolution(memory=memory)
        search, opened = open_search(strategy, space, Engine(Experiment(tmp_path, limit=2)))
        assert not opened
        search.ask(1)
    with pytest.raises(JobError, match="no job file can name"):
        read_search(ExperimentFolder(tmp_path / "e1"))
    assert read_source(str(tmp_path / "e1")).memory == tmp_path / "mine.sqlite"


@pytest.mark.parametrize(
    ("options", "wanted", "size", "said"),
    [
        ({"metric": "loss"}, {}, "digits", "the evaluator to minimize loss"),
        ({"metric": "psnr"}, {"objective": "psnr"}, "digits", "does not measure"),
        ({}, {}, "cifar10", "8"),
    ],
    ids=["another objective", "an objective that is not measured", "another image size"],
)
def test_what_does_not_go_together_is_refused_before_any_trial(
    tmp_path: Path, options: dict[str, Any], wanted: dict[str, Any], size: str, said: str
) -> None:
    space = SimplifiedModelSpace.from_model(UNetSpace(preset=size), evaluator(**options))
    with pytest.raises(DiffNASError, match=said):
        open_search(RegularizedEvolution(**wanted), space, Engine(Experiment(tmp_path, limit=2)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [*Ending, "its loss is not finite"])
def test_nni_reads_its_checkpoint_however_a_trial_has_ended(tmp_path: Path, ending: Ending | str) -> None:
    search = Search(RegularizedEvolution(seed=1), ToyFamily().space)
    search.tell_failed(search.ask(1)[0].id, ending)
    serializer = get_default_serializer()
    serializer.save({"strategy": search.state_dict()}, tmp_path / "state.ckpt")
    again = Search(RegularizedEvolution(seed=1), ToyFamily().space)
    again.load_state_dict(serializer.load(tmp_path / "state.ckpt")["strategy"])
    assert again.trials == search.trials
