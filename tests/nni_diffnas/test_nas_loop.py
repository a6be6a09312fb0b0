"""A `NasExperiment` that goes on: what the loop does with trials from before a resume, with stand-ins for NNI."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nni.nas.execution.event import FinalMetricEvent
from nni.nas.space import ModelStatus
from toy_family import ToyFamily, score

from nni_diffnas.memory import SearchMemory
from nni_diffnas.nas_loop import EngineLoop
from nni_diffnas.runner import TRIAL_ID, parameters_of
from nni_diffnas.strategies import RegularizedEvolution
from nni_diffnas.trial import Trial


class Experiment:
    """NNI's experiment: a status, a limit, and records of jobs."""

    id = "e1"

    def __init__(self, folder: Path, limit: int) -> None:
        self.jobs: list[Any] = []
        config = SimpleNamespace(max_trial_number=limit, trial_concurrency=1, experiment_working_directory=str(folder))
        config.canonical_copy = lambda: config
        self.config = config
        self.status = "RUNNING"

    def list_trial_jobs(self) -> list[Any]:
        return self.jobs

    def get_status(self) -> str:
        return self.status

    def job(self, trial: Trial, status: str, rfid: float | None = None) -> None:
        number = len(self.jobs)
        given = SimpleNamespace(parameter_id=number, parameters={TRIAL_ID: trial.id})
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


def strategy(kind: type[RegularizedEvolution] = RegularizedEvolution, **options: Any) -> RegularizedEvolution:
    made = kind(population=3, sample=2, seed=7, **options)
    made.experiment = "e1"
    made.bind(FAMILY.space, FAMILY)
    made.freeze = lambda trial: SimpleNamespace(  # type: ignore[method-assign]
        sample=parameters_of(trial, FAMILY.space), status=SimpleNamespace(completed=lambda: True)
    )
    return made


def undisturbed(count: int) -> list[dict[str, Any]]:
    search = strategy()
    for _ in range(count):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"rfid": score(trial.architecture)})
    return [dict(trial.architecture) for trial in search.trials]


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[RegularizedEvolution, Engine]:
    """A search that was killed while its fifth trial was under way."""
    search = strategy()
    experiment = Experiment(tmp_path, limit=8)
    for _ in range(4):
        (trial,) = search.ask(1)
        search.tell(trial.id, {"rfid": score(trial.architecture)})
        experiment.job(trial, "SUCCEEDED", score(trial.architecture))
    search.ask(1)
    engine = Engine(experiment)
    search._engine = engine  # type: ignore[assignment]
    return search, engine


@pytest.mark.parametrize("what", ["reported", "runs again", "never started", "failed"])
def test_a_resumed_search_goes_on_as_if_nothing_had_happened(
    what: str, stopped: tuple[RegularizedEvolution, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    search, engine = stopped
    experiment: Any = engine.nodejs_binding
    (pending,) = search.pending
    if what == "reported":
        experiment.job(pending, "SUCCEEDED", score(pending.architecture))
    elif what == "failed":
        experiment.job(pending, "FAILED")
    elif what == "runs again":
        experiment.job(pending, "RUNNING")
        listed = experiment.list_trial_jobs
        calls = iter(range(100))

        def finishes() -> list[Any]:
            if next(calls) == 1:
                experiment.jobs.pop()
                experiment.job(pending, "SUCCEEDED", score(pending.architecture))
            assert not engine.submitted or experiment.jobs[-1].status == "SUCCEEDED", "suggested before its result"
            return list(listed())

        monkeypatch.setattr(experiment, "list_trial_jobs", finishes)
    loop = EngineLoop(search)
    loop.run()
    architectures = [dict(trial.architecture) for trial in search.trials]
    assert len(architectures) == 8
    assert all(trial.status == "succeeded" for trial in search.trials) == (what != "failed")
    assert len(engine.submitted) == (4 if what == "never started" else 3)
    if what != "failed":
        assert architectures == undisturbed(8)


class Slow(RegularizedEvolution):
    """Records how long another process waits for the memory while a suggestion is prepared."""

    waits: list[float]

    def prepare(self, count: int) -> None:
        began = time.monotonic()
        assert self.memory is not None
        with SearchMemory(self.memory.path) as another:
            another.log("probe", "other", {"count": count})
        self.waits.append(time.monotonic() - began)


def test_what_is_slow_is_done_before_the_memory_is_locked(tmp_path: Path) -> None:
    with SearchMemory(tmp_path / "memory.sqlite") as memory:
        search = strategy(Slow, memory=memory)
        search.waits = []  # type: ignore[attr-defined]
        engine = Engine(Experiment(tmp_path, limit=3))
        search._engine = engine  # type: ignore[assignment]
        EngineLoop(search).run()
        assert len(engine.submitted) == 3
        waits = search.waits  # type: ignore[attr-defined]
        assert len(waits) == 3
        assert max(waits) < 20.0, "another process had to wait for the memory"
